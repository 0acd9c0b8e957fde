"""What an operator runs: the embedded Postgres, check, sweep."""
