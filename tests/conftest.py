"""The real parts that the tests stand on: a Postgres, S3 servers, the service as its own process.

`--store` chooses where the tested services keep their objects, `--postgres` whose server they use.
Nothing of the developer's own environment or `.env` gets in; everything listens on loopback,
reaches nothing else and ends with the tests.
"""

import asyncio
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Before `config` is first imported: no setting may fall through from the shell or from someone's
# .env. A test keeps the list in .env.example complete.
os.environ["DARKROOM_ENV_FILE"] = ""
SETTINGS = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M))
for name in list(os.environ):
    if name.upper() in SETTINGS or name.startswith(("AWS_", "UV_", "PG", "WEB_")):
        del os.environ[name]
# Without keys boto3 asks the cloud's metadata service, which is outside, and waits for seconds
# where there is none.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
# Nor may this: without kept bytecode each of a hundred processes compiles every library anew, for
# over a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import pytest  # noqa: E402

from ops.postgres_cluster import find_programs  # noqa: E402
from tests.support import loopback  # noqa: E402
from tests.support.accounts import make_account  # noqa: E402
from tests.support.databases import (  # noqa: E402
    database_url,
    execute,
    make_database,
    running_server,
)
from tests.support.radosgw import (  # noqa: E402
    Radosgw,
    find_missing_programs,
    radosgw_server,
)
from tests.support.services import Account, Bucket, Service, s3_server  # noqa: E402

loopback.refuse_others()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=["local", "s3"],
        default="local",
        help="where the tested services keep objects",
    )
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write anew what pages show of our programs' outputs, in place of comparing it",
    )
    parser.addoption(
        "--postgres",
        type=Path,
        metavar="FOLDER",
        help="the folder of the server's programs, if not of the embedded one; with Debian's "
        "PostgreSQL 15: --postgres=/usr/lib/postgresql/15/bin",
    )


@pytest.fixture(scope="session")
def postgres_programs(request: pytest.FixtureRequest) -> Path:
    """The folder of the server's programs."""
    given: Path | None = request.config.getoption("--postgres")
    return given or find_programs()


@pytest.fixture(scope="session")
def postgres(postgres_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server for all tests, without a database's name."""
    with running_server(postgres_programs, tmp_path_factory.mktemp("postgres")) as url:
        # The machine will not lose its power before the tests
        # end; whatever process dies, what was written is there.
        execute(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """A database that the migrations made, to be copied."""
    import database

    asyncio.run(database.migrate(database_url(postgres, "darkroom")))
    return "darkroom"


@pytest.fixture
def new_database(postgres: str, template: str) -> Callable[[], str]:
    """Makes a fresh, migrated database and returns its URL."""
    return lambda: make_database(postgres, template)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of moto's S3 server, over HTTP."""
    with s3_server("moto") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def ministack() -> Iterator[str]:
    """The endpoint of ministack's S3 server, over HTTP."""
    with s3_server("ministack") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radosgw]:
    """Ceph's gateway, with the user `test` that the other servers take."""
    missing = find_missing_programs()
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    with radosgw_server(tmp_path_factory.mktemp("ceph")) as gateway:
        gateway.user("test", "--access-key=test", "--secret-key=test")
        yield gateway


@pytest.fixture
def radosgw(ceph: Radosgw) -> str:
    """The endpoint of Ceph's gateway."""
    return ceph.endpoint


@pytest.fixture
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The settings of the store that the tests run on: a folder, or a new bucket."""
    if request.config.getoption("--store") == "local":
        return {"STORAGE": "local"}
    return Bucket.make(request.getfixturevalue("moto")).settings()


@pytest.fixture
def start_service(
    new_database: Callable[[], str], store_settings: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Service]]:
    """Starts a service of the test's own, which ends with it; settings are keywords."""
    started: list[Service] = []

    def start(**settings: object) -> Service:
        given = {name.upper(): str(value) for name, value in settings.items()}
        defaults = {
            "DATABASE_URL": new_database(),
            "DATA_DIR": str(tmp_path / "data"),
            **store_settings,
        }
        service = Service({**defaults, **given})
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    """A running service with an empty database and an empty store."""
    return start_service()


@pytest.fixture(scope="session")
def shared_service(
    request: pytest.FixtureRequest,
    postgres: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """One service for all tests that look at their own accounts only, for it starts slowly."""
    is_local = request.config.getoption("--store") == "local"
    store = (
        {"STORAGE": "local"}
        if is_local
        else Bucket.make(request.getfixturevalue("moto")).settings()
    )
    data_dir = str(tmp_path_factory.mktemp("shared"))
    service = Service(
        {
            "DATABASE_URL": make_database(postgres, template),
            "DATA_DIR": data_dir,
            # Tests log one account in as often as they like; those of the limits have their own.
            "LOGINS_PER_ACCOUNT_PER_MINUTE": "0",
            **store,
        }
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def account(shared_service: Service) -> Account:
    """A new account of the shared service."""
    return make_account(shared_service, f"user-{uuid.uuid4().hex[:12]}")
