"""The statements of docs/deploy.md give the service a user who may do no more than it needs."""

import asyncio
import re
import uuid
from collections.abc import Iterator

import asyncpg
import pytest
from sqlalchemy.engine import URL, make_url

import database
from tests.support.databases import execute, execute_in
from tests.support.pictures import jpeg
from tests.support.services import ROOT, Service, wait_until

PAGE = (ROOT / "docs" / "deploy.md").read_text()
AS_SUPERUSER, AS_OWNER = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
THUMBNAILS_MADE = "SELECT count(*) FROM thumbnails WHERE file_id IS NOT NULL"


def split(block: str, names: dict[str, str]) -> list[str]:
    """The statements of a block, with the names of this test in place of the page's."""
    pattern = r"\bdarkroom(?:_owner)?\b"
    renamed = re.sub(pattern, lambda found: names[found[0]], block)
    return [statement for statement in renamed.split(";\n") if statement]


@pytest.fixture(scope="module")
def database_url(postgres: str) -> Iterator[URL]:
    """A database made as the page says; the URL is that of the user who serves."""
    suffix = uuid.uuid4().hex[:12]
    names = {"darkroom": f"test_{suffix}", "darkroom_owner": f"test_owner_{suffix}"}
    execute(postgres, *split(AS_SUPERUSER, names))
    url = make_url(postgres).set(database=names["darkroom"])
    owner = url.set(username=names["darkroom_owner"])
    execute_in(owner, *split(AS_OWNER, names))
    asyncio.run(database.migrate(owner.render_as_string(hide_password=False)))
    yield url.set(username=names["darkroom"])
    execute(postgres, f"DROP DATABASE {names['darkroom']} WITH (FORCE)")
    execute(postgres, *(f"DROP ROLE {name}" for name in names.values()))


def test_the_service_does_all_that_it_does(
    database_url: URL, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = database_url.render_as_string(hide_password=False)
    data_dir = str(tmp_path_factory.mktemp("least"))
    service = Service({"DATABASE_URL": url, "DATA_DIR": data_dir, "STORAGE": "local"})
    service.start()
    try:
        alice = service.register()
        assert service.patch_picture(alice, jpeg()).status_code == 200
        assert service.patch_picture(alice, jpeg(320, 320)).status_code == 200
        with service.client(alice) as client:
            key = {"Idempotency-Key": "once"}
            files = {"file": ("photo.jpg", jpeg(640, 480))}
            assert client.post("/photos", files=files, headers=key).status_code == 201
            wait_until(lambda: service.sql(THUMBNAILS_MADE)[0][0], "a job made the presets")
            thumbnail = client.post("/photos/thumbnail", files=files)
            assert thumbnail.status_code == 201
            change = {"password": "a new password", "current_password": alice.password}
            assert client.patch("/users/me", json=change).status_code == 200
            login = {"username": alice.email, "password": "a new password"}
            token = client.post("/users/token", data=login).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            assert client.delete("/users/me", headers=headers).status_code == 204
        wait_until(lambda: not service.objects(), "the objects of the account are gone")
    finally:
        service.stop()
    assert "permission denied" not in service.log()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "DROP TABLE users",
        "TRUNCATE users",
        "ALTER TABLE users ADD COLUMN mine int",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "SELECT rolpassword FROM pg_authid",
        "COPY users TO PROGRAM 'true'",
    ],
)
def test_its_user_may_do_nothing_else(database_url: URL, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute_in(database_url, statement)
