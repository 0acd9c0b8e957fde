"""Tests that start processes of their own: services, commands, decoders, Postgres."""
