"""Why a generated mutant that the short run does not notice changes nothing that was promised."""

# By the name that generated.py gives it.
REASONS: dict[str, str] = {
    "deleted: database.py, commit: await db.flush()": (
        "a commit flushes too; what differs is the name of a refusal, of which "
        "tests/service/test_accounts.py has every kind and the crash run none"
    ),
    "swapped: files/change.py, commit: is_answered = False | "
    "await self._settle(has_happened)": "where settling raises, the value is not used",
    "deleted: database.py, fetch: await _drop(connection, driver)": (
        "the connection is closed, and the pool gives out no closed one"
    ),
    "swapped: connections/driver.py, open_transaction: settings = '; '.join((f'SET LOCAL {name} ="
    " {value}' for name, value in limits.items())) | begin = 'BEGIN ISOLATION LEVEL": (
        "two values that do not depend on each other"
    ),
    "deleted: database.py, _upgrade: command.upgrade(config, 'head')": (
        "the run begins with a database that has its tables; tests/database/test_migrations.py "
        "begins without"
    ),
    "deleted: connections/engines.py, _refuse_closed: raise"
    " DisconnectionError('closed by the server')": (
        "a first statement that meets a closed connection is tried on a new one; of sessions, "
        "which try nothing again, tests/service/test_responses.py notices it"
    ),
    "swapped: files/change.py, __init__: self._backends = backends | self._owner_id = owner_id": (
        "two values that do not depend on each other"
    ),
}
