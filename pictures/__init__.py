"""Bytes only: what a file is, what it costs, what it carries, and the process that decodes it."""
