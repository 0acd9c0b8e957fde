"""The life of a stored file: announced, put, swapped in, let go, deleted."""
