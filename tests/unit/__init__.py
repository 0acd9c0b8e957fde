"""The quick tests: they need no database, no service and no store."""
