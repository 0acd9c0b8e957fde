"""Proves that every setting is documented, and bad ones are refused in a sentence.

No secret gets into that sentence; production assumes nothing.
"""

import inspect
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import config
from config import STARTUP_FAILURE_STATUS, Settings
from errors import StartupError
from ops import serving
from ops.listening import describe_where
from tests.support import warm
from tests.support.services import ROOT

SECRET = "hunter2"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://darkroom@db/darkroom?sslmode=require",
    "SECRET_KEY": "0123456789abcdef" * 2,
    "STORAGE": "local",
}
# As the tutorial series has it at its end, with values of its form.
TUTORIAL_ENV = """\
SECRET_KEY=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ALGORITHM=HS256
ACCESS_TOKEN_EXPIRE_MINUTES=30
MAX_UPLOAD_SIZE_BYTES=5242880
POSTS_PER_PAGE=10
RESET_TOKEN_EXPIRE_MINUTES=60
MAIL_SERVER=sandbox.smtp.mailtrap.io
MAIL_PORT=2525
MAIL_USERNAME=user
MAIL_PASSWORD=password
MAIL_FROM=noreply@example.com
MAIL_USE_TLS=true
FRONTEND_URL=http://localhost:8000
DATABASE_URL=postgresql+psycopg://blog_user:blog_pass@localhost/blog
S3_BUCKET_NAME=my-blog
S3_REGION=us-east-2
S3_ACCESS_KEY_ID=AKIAEXAMPLE
S3_SECRET_ACCESS_KEY=example/secret
"""
PLAIN_STORE = {"storage": "s3", "bucket_name": "b", "endpoint_url": "http://minio:9000"}
SETTING_LINE = re.compile(r"(?:# )?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The environment to set before `Settings()`; the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    yield monkeypatch


def load_settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.fixture
def refusal(
    load: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Loads the settings as a starting process does.

    Returns the one line with which it refuses.
    """

    def refuse(**environment: str) -> str:
        for name, value in environment.items():
            load.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            config.load()
        assert ended.value.code == STARTUP_FAILURE_STATUS
        printed = capsys.readouterr()
        assert printed.out == ""
        lines = printed.err.splitlines()
        assert (
            len(lines) == 1
            and lines[0].startswith("Darkroom cannot start. ")
            and lines[0].endswith(".")
        ), lines
        assert SECRET not in lines[0]
        assert list(tmp_path.iterdir()) == []
        return lines[0]

    return refuse


# .env.example


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    found = [match for line in lines if (match := SETTING_LINE.fullmatch(line))]
    names = [match["name"] for match in found]
    assert len(names) == len(set(names)), "a setting is listed twice"
    return {match["name"]: match["value"] for match in found}


def test_every_setting_is_in_the_example_and_nothing_else_is() -> None:
    assert set(example()) == {name.upper() for name in Settings.model_fields}


def test_the_example_shows_every_default(load: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = example()
    for name, field in Settings.model_fields.items():
        has_default = field.default is not None and field.default not in ("", [])
        assert bool(shown[name.upper()]) == has_default, (
            f"{name.upper()} in .env.example, {field.default!r} in config.py"
        )
    env_file = tmp_path / "example.env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in shown.items() if value))
    assert Settings(_env_file=env_file).model_dump() == Settings().model_dump()


def test_every_setting_of_the_example_stands_below_its_explanation() -> None:
    for block in (ROOT / ".env.example").read_text().split("\n\n"):
        first = block.strip().splitlines()[0]
        assert first.startswith("# ") and not SETTING_LINE.fullmatch(first), block


def test_an_env_file_with_a_changed_value_is_read(load: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some.env").write_text("PORT=8123\nMAX_UPLOAD_SIZE_BYTES=1000\n")
    read = Settings(_env_file=tmp_path / "some.env")
    assert (read.port, read.max_upload_size_bytes) == (8123, 1000)


# Production


@pytest.mark.parametrize("missing", ["DATABASE_URL", "SECRET_KEY", "STORAGE"])
def test_production_assumes_nothing(refusal: Callable[..., str], missing: str) -> None:
    given = {name: value for name, value in PRODUCTION.items() if name != missing}
    said = refusal(**given)
    assert missing in said
    assert not any(name in said for name in given if name != "ENVIRONMENT")


def test_production_names_all_that_is_missing_at_once(refusal: Callable[..., str]) -> None:
    said = refusal(ENVIRONMENT="production")
    assert all(name in said for name in PRODUCTION)


def test_production_refuses_a_short_secret_key(refusal: Callable[..., str]) -> None:
    assert "SECRET_KEY" in refusal(**{**PRODUCTION, "SECRET_KEY": SECRET})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "43201", "at most 43200"),
        ("CORS_ORIGINS", "*", "not *"),
        ("CORS_ORIGINS", "https://app.example.com,null", "not null"),
        ("DATABASE_URL", f"postgresql://me:{SECRET}@db/name", "db without TLS"),
        ("DATABASE_URL", f"postgresql://me:{SECRET}@db/name?sslmode=prefer", "db without TLS"),
        ("DATABASE_URL", f"postgresql://me:{SECRET}@10.0.0.1/name", "10.0.0.1 without TLS"),
        ("DATABASE_URL", f"postgresql://me:{SECRET}@/name?host=/run,db:5433", "db without TLS"),
        ("DATABASE_URL", f"postgresql://me:{SECRET}@/name?host=::1&host=db", "db without TLS"),
        ("S3_ENDPOINT_URL", "http://minio:9000", "minio without TLS"),
        ("PREVIOUS_STORES", json.dumps({"old": PLAIN_STORE}), "old must not be asked at minio"),
        ("DARKROOM_FAULT", "after_put:kill", "DARKROOM_FAULT"),
    ],
)
def test_production_refuses_what_strangers_can_use(
    refusal: Callable[..., str],
    load: pytest.MonkeyPatch,
    name: str,
    value: str,
    says: str,
) -> None:
    given = {**PRODUCTION, "S3_BUCKET_NAME": "pictures", name: value}
    assert says in refusal(**given)
    load.setenv("ENVIRONMENT", "development")
    assert Settings().environment == "development"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "43200"),
        ("DATABASE_URL", "postgresql://me@localhost/name"),
        ("DATABASE_URL", "postgresql://me@127.0.0.2:5433/name"),
        ("DATABASE_URL", "postgresql://me@[::1]/name"),
        ("DATABASE_URL", "postgresql://me@/name?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql://me@/name?host=127.0.0.1:5433,localhost"),
        ("DATABASE_URL", "postgresql://me@db/name?sslmode=verify-full&sslrootcert=system"),
        ("DATABASE_URL", "postgresql://me@db/name?sslmode=no-verify"),
        ("DATABASE_URL", "postgresql://me@%2Fcloudsql%2Fa%3Ab%3Ac/name"),
        ("S3_ENDPOINT_URL", "http://127.0.0.1:9000"),
        ("S3_ENDPOINT_URL", "http://[::1]:9000"),
        ("S3_ENDPOINT_URL", "https://s3.example.com"),
    ],
)
def test_production_takes_what_stays_here_or_is_encrypted(
    load: pytest.MonkeyPatch, name: str, value: str
) -> None:
    load_settings(load, **{**PRODUCTION, "S3_BUCKET_NAME": "pictures", name: value})


def test_production_takes_plaintext_that_is_meant(load: pytest.MonkeyPatch) -> None:
    given = {
        "DATABASE_URL": "postgresql://me@db/name",
        "S3_BUCKET_NAME": "pictures",
        "S3_ENDPOINT_URL": "http://minio:9000",
    }
    load_settings(load, **{**PRODUCTION, **given, "ALLOW_PLAINTEXT": "true"})


def test_what_the_driver_takes_from_the_environment_counts(load: pytest.MonkeyPatch) -> None:
    given = {**PRODUCTION, "DATABASE_URL": "postgresql://me@/name"}
    load_settings(load, **given)
    load.setenv("PGHOST", "db")
    with pytest.raises(ValueError, match="db without TLS"):
        Settings()
    load.setenv("PGSSLMODE", "require")
    Settings()


@pytest.mark.parametrize("name", ["SECRET_KEY", "THUMBNAIL_KEYS"])
@pytest.mark.parametrize(
    "secret", ["x" * 64, " " * 40, " \t\u00a0" * 20], ids=["letters", "spaces", "blanks"]
)
def test_a_secret_that_is_guessed_first_is_refused_everywhere(
    refusal: Callable[..., str], name: str, secret: str
) -> None:
    value = json.dumps([secret]) if name == "THUMBNAIL_KEYS" else secret
    assert f"{name}: must not be white space" in refusal(**{name: value})


def test_no_crash_point_can_be_switched_on_in_production(tmp_path: Path) -> None:
    # A start that reached the setting would say more than that one may not be set.
    tell = "import config, faults; print(faults._armed)"
    given = {**os.environ, **PRODUCTION, "DATA_DIR": str(tmp_path)}
    asked_for = {"DARKROOM_FAULT": "after_put:kill"}
    done = warm.run("-c", tell, cwd=ROOT, env={**given, **asked_for})
    assert done.returncode == STARTUP_FAILURE_STATUS
    development = {**given, **asked_for, "ENVIRONMENT": "development"}
    assert "after_put" in warm.run("-c", tell, cwd=ROOT, env=development).stdout


def test_main_py_and_uvicorn_refuse_in_the_same_way(tmp_path: Path) -> None:
    for command in (
        ["main.py"],
        ["-m", "uvicorn", "main:app"],
        ["cli.py", "reap"],
        ["-m", "alembic", "current"],
    ):
        environment = {**os.environ, "ENVIRONMENT": "production", "DATA_DIR": str(tmp_path)}
        done = warm.run(*command, cwd=ROOT, env=environment)
        assert done.returncode == STARTUP_FAILURE_STATUS, command
        assert len(done.stderr.splitlines()) == 1 and "nothing is assumed" in done.stderr, (
            done.stderr
        )
    assert list(tmp_path.iterdir()) == []


def test_a_complete_production_is_accepted(load: pytest.MonkeyPatch) -> None:
    settings = load_settings(load, **PRODUCTION)
    assert (settings.store_kind, settings.signing_secret()) == ("local", PRODUCTION["SECRET_KEY"])


# Bad values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("WORKERS", "0"),
        ("ENVIRONMENT", "prod"),
        ("API_PREFIX", "api"),
        ("API_PREFIX", "/api/"),
        ("DATABASE_URL", SECRET),
        ("DATABASE_URL", f"mysql://me:{SECRET}@db/darkroom"),
        ("DATABASE_URL", f"sqlite:///{SECRET}"),
        ("DATABASE_URL", f"postgresql://me@db:{SECRET}/darkroom"),
        ("STORAGE", "ftp"),
        ("STORAGE_NAME", "n" * 51),
        ("PREVIOUS_STORES", SECRET),
        ("PREVIOUS_STORES", f'{{"old": {{"storage": "s3", "secret_access_key": "{SECRET}"}}}}'),
        ("PREVIOUS_STORES", '{"old": {"storage": "local"}}'),
        ("PREVIOUS_STORES", '{"local": {"storage": "local", "directory": "/srv"}}'),
        ("S3_REGION", "no region"),
        ("DATABASE_URL", "postgresql://me@db/name?sslrootcert=/etc/ca.pem"),
        ("S3_ENDPOINT_URL", "minio:9000"),
        ("S3_ENDPOINT_URL", "http://"),
        ("S3_PUBLIC_BASE_URL", "localhost:9000"),
        ("S3_ADDRESSING_STYLE", "both"),
        ("S3_CHECKSUMS", "never"),
        ("MAX_UPLOAD_SIZE_BYTES", "0"),
        ("UPLOAD_BUDGET_BYTES", "1048576"),
        ("UPLOAD_WAIT_SECONDS", "-1"),
        ("SHARED_ADDRESSES", "10.0.0.1/8"),
        ("SHARED_ADDRESSES", "127.0.0.1,office"),
        ("LOGINS_PER_ACCOUNT_PER_MINUTE", "-1"),
    ],
)
def test_a_bad_value_is_refused_by_name(refusal: Callable[..., str], name: str, value: str) -> None:
    assert name in refusal(**{name: value}).upper()


def test_s3_without_a_bucket_is_refused(refusal: Callable[..., str]) -> None:
    assert "S3_BUCKET_NAME" in refusal(STORAGE="s3")


@pytest.mark.parametrize("half", ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"])
def test_half_of_the_key_pair_is_refused(refusal: Callable[..., str], half: str) -> None:
    said = refusal(**{"S3_BUCKET_NAME": "pictures", half: SECRET})
    assert "S3_ACCESS_KEY_ID" in said and "S3_SECRET_ACCESS_KEY" in said


def test_several_bad_values_are_named_in_one_sentence(refusal: Callable[..., str]) -> None:
    said = refusal(PORT="http", WORKERS="0", DATABASE_URL=SECRET)
    assert all(name in said for name in ("PORT", "WORKERS", "DATABASE_URL"))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "http", "PORT: must be a valid integer."),
        ("EMBEDDED_REAPER", "perhaps", "EMBEDDED_REAPER: must be a valid boolean."),
        ("WORKERS", "0", "WORKERS: must be greater than or equal to 1."),
        ("ENVIRONMENT", "prod", "ENVIRONMENT: must be 'development' or 'production'."),
        ("S3_BUCKET_NAME", "s3://pictures/avatars", "S3_BUCKET_NAME=pictures"),
        ("S3_BUCKET_NAME", "pictures/avatars", "my-pictures"),
        ("S3_BUCKET_NAME", "No Bucket!", "my-pictures"),
        ("S3_ENDPOINT_URL", "https://pub-0123abcd.r2.dev", "r2.cloudflarestorage.com"),
        ("HOST", "https://example.com", "127.0.0.1"),
        ("HOST", "localhost:8000", "127.0.0.1"),
        ("HOST", "example.com/api", "127.0.0.1"),
        ("DATABASE_URL", f"postgresql://me:a@{SECRET}@db/name", "%40"),
        ("DATABASE_URL", f"postgresql://me:a@hun/{SECRET}@db/name", "%2F"),
        ("DATABASE_URL", f"postgresql://me/x:{SECRET}@db/name", "%2F"),
        ("DATABASE_URL", f"postgresql://me:a?{SECRET}=b@db/name", "%3F"),
        ("DATABASE_URL", f"postgresql://me:a?b={SECRET}@db/name", "%3F"),
    ],
)
def test_what_is_no_name_is_refused_with_an_example(
    refusal: Callable[..., str], name: str, value: str, says: str
) -> None:
    said = refusal(**{name: value})
    assert name in said and says in said


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::", "::1", "[::1]", "fe80::1%eth0"])
def test_every_address_to_listen_on_is_taken(load: pytest.MonkeyPatch, host: str) -> None:
    assert load_settings(load, HOST=host).host == host.strip("[]")


# Where settings come from


def read_by_a_process(main: Path, cwd: Path, **environment: str) -> dict[str, object]:
    """The settings of a process that imports `config` beside this main.py."""
    tell = "import config; print(config.settings.model_dump_json())"
    given = {name: value for name, value in os.environ.items() if name != "DARKROOM_ENV_FILE"}
    done = warm.run(
        "-c", tell, cwd=cwd, env={**given, "PYTHONPATH": str(main.parent), **environment}
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, object] = json.loads(done.stdout)
    return read


def test_two_files_of_settings_are_read_and_the_one_of_the_working_directory_wins(
    tmp_path: Path,
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("config.py", "faults.py", "locations.py", "production.py"):
        shutil.copy(ROOT / name, checkout)
    for room in ("errors", "postgres", "s3"):
        shutil.copytree(ROOT / room, checkout / room)
    main = checkout / "main.py"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (checkout / ".env").write_text("PORT=1111\nWORKERS=3\nAPI_PREFIX=/beside\n")
    assert read_by_a_process(main, elsewhere)["port"] == 1111
    # With the mark that an editor of Windows puts before the first name.
    (elsewhere / ".env").write_text("PORT=2222\nAPI_PREFIX=/here\n", encoding="utf-8-sig")
    read = read_by_a_process(main, elsewhere, API_PREFIX="/environment")
    assert (read["port"], read["workers"], read["api_prefix"]) == (2222, 3, "/environment")
    named = tmp_path / "named.env"
    named.write_text("PORT=3333\n")
    read = read_by_a_process(main, elsewhere, DARKROOM_ENV_FILE=str(named))
    assert (read["port"], read["workers"]) == (3333, 1)
    read = read_by_a_process(main, elsewhere, DARKROOM_ENV_FILE="")
    assert (read["port"], read["workers"]) == (8000, 1)


# Hosts that say where to listen


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ({**PRODUCTION, "PORT": "5000"}, "0.0.0.0"),
        ({**PRODUCTION, "PORT": "5000", "HOST": "127.0.0.1"}, "127.0.0.1"),
        ({**PRODUCTION, "PORT": ""}, "127.0.0.1"),
        ({"PORT": "5000"}, "127.0.0.1"),
    ],
)
def test_where_a_host_assigns_the_port_production_listens_on_every_address(
    load: pytest.MonkeyPatch, given: dict[str, str], host: str
) -> None:
    settings = load_settings(load, **given)
    assert settings.host == host
    said = describe_where(settings, is_embedded=False)
    assert ("every address" in said) == (host == "0.0.0.0")
    assert settings.environment in said


def test_a_port_from_a_file_is_no_hosts_doing(load: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "some.env").write_text(
        "".join(f"{name}={value}\n" for name, value in {**PRODUCTION, "PORT": "5000"}.items())
    )
    read = Settings(_env_file=tmp_path / "some.env")
    assert (read.host, read.port) == ("127.0.0.1", 5000)


@pytest.mark.parametrize("believed", ["127.0.0.1,::1", "10.0.0.1", "*"])
def test_the_proxies_that_are_believed_reach_the_server(
    load: pytest.MonkeyPatch, believed: str
) -> None:
    settings = load_settings(load, FORWARDED_ALLOW_IPS=believed)
    load.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")  # where uvicorn looks, if it is told nothing
    assert serving._make_config("main:app", settings).forwarded_allow_ips == believed


def test_web_concurrency_is_another_name_of_workers(load: pytest.MonkeyPatch) -> None:
    assert load_settings(load, WEB_CONCURRENCY="3").workers == 3
    assert load_settings(load, WEB_CONCURRENCY="3", WORKERS="2").workers == 2


def test_the_settings_of_the_tutorials_follow_ups_are_taken(
    load: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Names of features that are not here are passed over."""
    env_file = tmp_path / "tutorial.env"
    env_file.write_text(TUTORIAL_ENV)
    read = Settings(_env_file=env_file)
    assert read.signing_secret() == "0123456789abcdef" * 4
    assert (read.access_token_expire_minutes, read.max_upload_size_bytes) == (30, 5242880)
    assert read.database_url == "postgresql+asyncpg://blog_user:blog_pass@localhost/blog"
    assert (read.store_kind, read.s3_bucket_name, read.s3_region) == ("s3", "my-blog", "us-east-2")
    assert read.s3_access_key_id is not None and read.s3_secret_access_key is not None
    keys = (read.s3_access_key_id.get_secret_value(), read.s3_secret_access_key.get_secret_value())
    assert keys == ("AKIAEXAMPLE", "example/secret")


# Ways to write a Postgres URL


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2"],
)
def test_any_scheme_of_postgres_is_accepted(load: pytest.MonkeyPatch, scheme: str) -> None:
    url = load_settings(
        load, DATABASE_URL=f"{scheme}://me:p%40ss%2Fword@db.example.com:6543/darkroom"
    ).database_url
    parsed = make_url(url or "")
    assert (parsed.drivername, parsed.host, parsed.port) == (
        "postgresql+asyncpg",
        "db.example.com",
        6543,
    )
    assert (parsed.username, parsed.password, parsed.database) == ("me", "p@ss/word", "darkroom")


def test_the_pool_is_no_larger_than_the_url_allows(load: pytest.MonkeyPatch) -> None:
    url = "postgresql://me@db/darkroom?connection_limit="
    assert load_settings(load, DATABASE_URL=f"{url}3").database_pool_size == 3
    assert load_settings(load, DATABASE_URL=f"{url}30").database_pool_size == 10


# Defaults that depend on others


def test_s3_is_taken_if_a_bucket_is_named(load: pytest.MonkeyPatch) -> None:
    assert load_settings(load).store_kind == "local"
    settings = load_settings(load, S3_BUCKET_NAME="pictures")
    assert (settings.storage, settings.store_kind, settings.store_name) == (None, "s3", "s3")
    assert settings.stores()["s3"].bucket_name == "pictures"
    assert settings.stores()["local"].directory == settings.data_dir / "media"
    assert load_settings(load, STORAGE="local").store_kind == "local"


def test_under_another_name_a_store_is_not_the_one_that_old_rows_name(
    load: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stores = load_settings(load, STORAGE_NAME="new", STORAGE="local").stores()
    assert set(stores) == {"new"}
    bucket = {"STORAGE": "s3", "S3_BUCKET_NAME": "pictures"}
    assert set(load_settings(load, **bucket).stores()) == {"new", "local"}
    previous = json.dumps({"s3": {"storage": "s3", "bucket_name": "old"}})
    stores = load_settings(load, PREVIOUS_STORES=previous, **bucket).stores()
    assert (stores["s3"].bucket_name, stores["new"].bucket_name) == ("old", "pictures")


def test_an_empty_value_is_as_good_as_none(load: pytest.MonkeyPatch) -> None:
    settings = load_settings(load, DATABASE_URL="", S3_BUCKET_NAME="", SECRET_KEY="", PORT="")
    assert (settings.database_url, settings.store_kind, settings.secret_key, settings.port) == (
        None,
        "local",
        None,
        8000,
    )


def test_paths_count_from_the_folder_of_main_py_and_know_the_home_folder(
    load: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings(load).data_dir == ROOT / ".data"
    assert load_settings(load, DATA_DIR="kept").data_dir == ROOT / "kept"
    previous = json.dumps({"old": {"storage": "local", "directory": "old"}})
    stores = load_settings(load, PREVIOUS_STORES=previous).stores()
    assert stores["old"].directory == ROOT / "old"
    load.setenv("HOME", str(tmp_path / "home"))
    assert load_settings(load, DATA_DIR="~/pictures").data_dir == tmp_path / "home" / "pictures"


def test_origins_are_separated_by_commas(load: pytest.MonkeyPatch) -> None:
    origins = load_settings(load, CORS_ORIGINS="https://a.example, https://b.example,").cors_origins
    assert origins == ["https://a.example", "https://b.example"]


def test_secrets_do_not_show_when_settings_are_printed(load: pytest.MonkeyPatch) -> None:
    pair = {
        "S3_BUCKET_NAME": "b",
        "S3_ACCESS_KEY_ID": f"{SECRET}-id",
        "S3_SECRET_ACCESS_KEY": SECRET,
    }
    settings = load_settings(load, SECRET_KEY=SECRET, **pair)
    assert SECRET not in repr(settings) + str(settings.stores())


# The secret that is made


def test_the_secret_is_made_once_and_readable_by_its_owner_only(
    load: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        secret = load_settings(load, DATA_DIR=str(tmp_path / ".data")).signing_secret()
    finally:
        os.umask(before)
    path = tmp_path / ".data" / "secret_key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secret) >= 32 and path.read_text() == secret
    assert Settings().signing_secret() == secret
    assert load_settings(load, DATA_DIR=str(tmp_path / "other")).signing_secret() != secret
    assert load_settings(load, SECRET_KEY="given").signing_secret() == "given"


@pytest.mark.parametrize("content", [bytes(64), b"x" * 64, b"short"], ids=ascii)
def test_a_damaged_secret_signs_nothing(
    load: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "secret_key").write_bytes(content)
    settings = load_settings(load, DATA_DIR=str(tmp_path))
    with pytest.raises(StartupError, match="damaged"):
        settings.signing_secret()


def test_threads_that_make_the_secret_at_once_all_get_the_same(
    load: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for round_ in range(20):
        settings = load_settings(load, DATA_DIR=str(tmp_path / f"round-{round_}"))
        at_once = threading.Barrier(8)
        got: list[str] = []

        def make(
            settings: Settings = settings,
            at_once: threading.Barrier = at_once,
            got: list[str] = got,
        ) -> None:
            at_once.wait()
            got.append(settings.signing_secret())

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(set(got))) == (8, 1)
        assert os.listdir(settings.data_dir) == ["secret_key"]


def test_processes_that_make_the_secret_at_once_all_get_the_same(tmp_path: Path) -> None:
    code = """if True:
        import sys, config
        print("ready", flush=True)
        sys.stdin.readline()
        print(config.settings.signing_secret())
    """
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / ".data")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for maker in makers:
        assert maker.stdout is not None and maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
    secrets = {maker.communicate()[0].strip() for maker in makers}
    assert len(secrets) == 1 and len(secrets.pop()) >= 32
    assert os.listdir(tmp_path / ".data") == ["secret_key"]


# The tests themselves


def test_nothing_of_the_developers_environment_reaches_the_tests(tmp_path: Path) -> None:
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    copy = shutil.copytree(
        ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", "test_*.py", *ignored)
    )
    probe = """
        import os
        import config
        def test_probe():
            given = config.Settings()
            assert given.model_dump() == config.settings.model_dump()
            assert given.port == 8000
            assert (given.secret_key, given.storage, given.database_url) == (None, None, None)
            left = {name for name in os.environ if name.startswith(("AWS_", "PG", "UV_"))}
            assert left == {"AWS_EC2_METADATA_DISABLED"}
    """
    (copy / "tests" / "test_probe.py").write_text(inspect.cleandoc(probe))
    (copy / ".env").write_text(
        f"PORT=1\nSECRET_KEY={SECRET}\nSTORAGE=s3\nS3_BUCKET_NAME=the-real-one\n"
    )
    theirs = {
        "DATABASE_URL": "postgresql://production/db",
        "STORAGE": "s3",
        "S3_BUCKET_NAME": "the-real-one",
    }
    others = {
        "AWS_PROFILE": "production",
        "PGHOST": "production",
        "UV_INDEX": "https://example.com",
        "PORT": "1",
    }
    environment = {**os.environ, **theirs, **others}
    del environment["DARKROOM_ENV_FILE"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "tests/test_probe.py",
        ],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_these_tests_run_without_an_env_file() -> None:
    assert not config.Settings.model_config.get("env_file")
