"""Tests of what a client sees, over HTTP against a running service."""
