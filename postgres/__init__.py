"""How an operator names a PostgreSQL, what is asked of it, and what its refusals mean to them.

Nothing here knows of tables or sessions; no password gets into a sentence.
"""

from postgres.driver import make_driver_options
from postgres.fitness import QUESTION as FITNESS_QUESTION
from postgres.fitness import explain_unfitness
from postgres.refusals import explain_refusal, explain_unknown_revision
from postgres.tls import connect
from postgres.urls import parse_postgres_url, read_connection_limit, read_hosts, says_pooler
from postgres.words import ENCRYPTED_MODES

__all__ = [
    "ENCRYPTED_MODES",
    "FITNESS_QUESTION",
    "connect",
    "explain_refusal",
    "explain_unfitness",
    "explain_unknown_revision",
    "make_driver_options",
    "parse_postgres_url",
    "read_connection_limit",
    "read_hosts",
    "says_pooler",
]
