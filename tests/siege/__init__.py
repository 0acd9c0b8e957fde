"""Attacks that load the service, each beside an honest client that tells what they cost."""
