"""Damaged files by the million: nothing but a picture or a refusal may come of them."""
