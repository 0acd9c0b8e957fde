"""Tests of what runs on a database and a store without a service."""
