"""Proves that a service is not ready while its database takes no writes, and is again when it does.

A server is told to take none, then restarted as a standby, then promoted.
"""

from pathlib import Path

import pytest

from tests.support.databases import become_standby, execute, running_server
from tests.support.pictures import jpeg
from tests.support.services import Service, get, wait_until


def read_code(service: Service) -> str | None:
    """What keeps the service from being ready; None if it is."""
    answer = get(f"{service.url}/health/ready", timeout=30)
    code: str | None = answer.json().get("code")
    assert (answer.status_code, code) in ((200, None), (503, "database_unavailable"))
    return code


def test_a_database_that_takes_no_writes_is_no_database_to_be_ready_on(
    postgres_programs: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    reload = "SELECT pg_reload_conf()"
    with running_server(postgres_programs, tmp_path) as url:
        service = Service({"DATABASE_URL": url, "DATA_DIR": str(tmp_path / "data")})
        request.addfinalizer(service.stop)
        service.start()
        alice = service.register()
        assert read_code(service) is None
        execute(url, "ALTER SYSTEM SET default_transaction_read_only = on", reload)
        wait_until(lambda: read_code(service) is not None, "it is not ready")
        execute(url, "SET transaction_read_only = off", "ALTER SYSTEM RESET ALL", reload)
        wait_until(lambda: read_code(service) is None, "it is ready again")
    assert read_code(service) == "database_unavailable"
    become_standby(tmp_path)
    with running_server(postgres_programs, tmp_path) as url:
        assert read_code(service) == "database_unavailable"
        refused = service.patch_picture(alice, jpeg())
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        execute(url, "SELECT pg_promote()")
        wait_until(lambda: read_code(service) is None, "it is ready again")
        assert service.patch_picture(alice, jpeg()).status_code == 200
