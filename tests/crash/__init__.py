"""A service is killed at each of its steps, and what is left is compared with what was told."""
