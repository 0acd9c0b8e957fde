"""Who is asking: passwords and tokens."""
