"""The doctor before buckets that are sick on purpose, and cured by what it printed."""
