"""What an operator runs: serving, the embedded Postgres, and the commands that look after files.

Only main.py, the commands at the root and the migrations import it.
"""
