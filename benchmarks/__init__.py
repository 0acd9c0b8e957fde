"""Measurements of Darkroom beside the textbook's handler: time, memory and likeness."""
