"""What docs/security.md says of limits, tables, keys, words and events is what the code has."""

import re
import types
import typing
from pathlib import Path

import pytest
from pydantic import SecretStr

import config
import jobs.repository
import models  # noqa: F401 (registers the tables)
from config import MIB
from credentials.passwords import SERVICE_WORDS
from database import Base
from logs import Event

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
SECTIONS = dict(
    re.findall(r"^##+ (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE),
)


def read_rows(heading: str) -> list[list[str]]:
    """The cells of a section's tables, without those of their heads."""
    rows = re.findall(r"^\| (.*) \|$", SECTIONS[heading], re.MULTILINE)
    return [row.split(" | ") for row in rows if not row.startswith("---")]


@pytest.mark.parametrize("row", read_rows("Limits")[1:], ids=" ".join)
def test_a_limit_is_the_settings_default(row: list[str]) -> None:
    number, _, unit = row[2].partition(" ")
    told = int(number.replace(",", "")) * {"": 1, "MiB": MIB}[unit]
    name = row[3].strip("`").lower()
    assert told == config.Settings.model_fields[name].default


def test_every_quota_is_among_the_limits() -> None:
    names = {row[3].strip("`").lower() for row in read_rows("Limits")[1:]}
    quotas = {name for name in config.Settings.model_fields if re.search("_per_|^max_", name)}
    assert quotas <= names


def test_every_table_says_how_long_its_rows_are_kept() -> None:
    named = set()
    for row in read_rows("What is kept, and for how long"):
        if len(row) == 4 and row[0] != "what":
            assert row[3], row
            named |= set(re.findall(r"`([a-z_]+)`", row[2]))
    engine = jobs.repository.NAMES
    engines = {
        *(engine.queue_table, engine.queue_table_log),
        *(engine.statistics_table, engine.schedules_table),
    }
    assert named == {*Base.metadata.tables, *engines, "alembic_version"}


def test_every_level_is_described() -> None:
    rows = read_rows("What is kept, and for how long")
    levels = {row[0] for row in rows if len(row) == 2} - {"level"}
    used = {row[1] for row in rows if len(row) == 4} - {"level", "as what is in them"}
    assert levels == used


def holds_secret(annotation: object) -> bool:
    if annotation is SecretStr:
        return True
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        return any(holds_secret(part) for part in typing.get_args(annotation))
    return False


def test_every_key_says_what_it_is_for_and_how_it_is_replaced() -> None:
    rows = read_rows("Keys")[1:]
    assert all(len(row) == 4 and all(row) for row in rows)
    named = {name.lower() for row in rows for name in re.findall(r"`([A-Z_0-9]+)`", row[0])}
    fields = config.Settings.model_fields.items()
    secrets = {name for name, field in fields if holds_secret(field.annotation)}
    assert {"secret_key", "s3_secret_access_key", "thumbnail_keys"} <= secrets
    assert secrets | {"database_url", "previous_stores"} <= named


def test_the_words_that_are_no_password_are_listed() -> None:
    sentence = SECTIONS["Guessing, and asking too often"].split("around it:", 1)[1]
    assert set(re.findall(r"`(\w+)`", sentence.split(".", 1)[0])) == SERVICE_WORDS


def test_every_event_of_the_log_is_listed() -> None:
    named = {
        name for row in read_rows("What the log tells") for name in re.findall(r"`(\w+)`", row[0])
    }
    assert named - {"event"} == set(Event)


def test_every_setting_that_is_an_address_is_listed() -> None:
    named = set(re.findall(r"`([A-Z_0-9]+)`", SECTIONS["Whom it talks to"]))
    addresses = {name for name in config.Settings.model_fields if re.search("_url$|stores$", name)}
    # Told to browsers, and asked by nobody here.
    addresses -= {"public_url"}
    assert {name.upper() for name in addresses} <= named
