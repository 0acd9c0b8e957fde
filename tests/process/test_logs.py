"""Proves that on a terminal the log is for eyes and safe to look at, and JSON elsewhere."""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest

import logs
from logs import LogFormat
from tests.support import warm
from tests.support.log_lines import AT, read_messages
from tests.support.services import ROOT, Service, get, wait_until

# What a client may put into a path: colours, a forged line, a turned direction, a C1 control.
HOSTILE_PATH = "/%1b%5b31mred%0a12:00:00%20forged%E2%80%AEtxt%C2%9b2J"
ESCAPED_PATH = r"/\x1b[31mred\n12:00:00 forged\u202etxt\x9b2J"
COLOUR = re.compile(r"\x1b\[\d+m")
REQUEST = {"client": "192.0.2.7", "method": "GET", "duration_ms": 12.7}


class Terminal:
    """A terminal's end for a program, and what was shown on it."""

    def __init__(self) -> None:
        self._shown = b""
        self._master, self.slave = os.openpty()
        os.set_blocking(self._master, False)

    def read(self) -> str:
        """All that was shown until now."""
        try:
            while piece := os.read(self._master, 65536):
                self._shown += piece
        except OSError:
            pass  # nothing more, for now or ever
        return self._shown.decode().replace("\r\n", "\n")

    def close(self) -> None:
        os.close(self._master)
        os.close(self.slave)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    yield terminal
    terminal.close()


def make_record(message: str, **more: object) -> logging.LogRecord:
    details = {"name": "some.logger", "levelno": logging.INFO, "levelname": "INFO"}
    return logging.makeLogRecord({**details, "msg": message, **more})


def show(terminal: Terminal, log_format: LogFormat, message: str, **more: object) -> str:
    """What is shown on the terminal of one record."""
    with os.fdopen(os.dup(terminal.slave), "w") as stream:
        handler = logs.make_handler(stream, log_format)
        handler.handle(make_record(message, **more))
        stream.flush()
        return terminal.read()


def show_request(terminal: Terminal, path: str, status: int) -> str:
    return show(terminal, "auto", "asked", **REQUEST, path=path, status=status)


@pytest.mark.parametrize(
    ("status", "colour"), [(200, 32), (304, 36), (404, 33), (503, 31), (0, 31)]
)
def test_a_request_is_one_short_line_coloured_by_its_status(
    terminal: Terminal, status: int, colour: int
) -> None:
    line = show_request(terminal, "/users/1", status)
    shown = str(status or "no answer")
    assert f"\x1b[{colour}m{shown}\x1b[0m" in line
    plain = COLOUR.sub("", line)
    assert re.fullmatch(rf"{AT}192.0.2.7 GET /users/1 {shown} 13 ms\n", plain)


def test_a_failure_names_its_request(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "request_id", ContextVar("id", default="some-id"))
    assert "some-id" not in show_request(terminal, "/", 404)
    assert "(request some-id)" in show_request(terminal, "/", 503)
    assert "some-id" in show(terminal, "auto", "not handled", levelno=logging.ERROR)


def test_no_color_and_a_dumb_terminal_are_honoured(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert "\x1b" not in show_request(terminal, "/", 500)
    monkeypatch.setenv("NO_COLOR", "")  # empty is as good as unset: https://no-color.org
    assert "\x1b[31m" in show_request(terminal, "/", 500)


def test_nothing_of_a_client_steers_the_terminal(terminal: Terminal) -> None:
    hostile = "\x1b]0;title\x07\u202e\x9b2J\rred\nforged"
    try:
        raise ValueError(hostile)
    except ValueError:
        failed = sys.exc_info()
    given = {**REQUEST, "method": "G\x1b[2J", "client": "\x1b[2J", "path": hostile, "status": 200}
    show(terminal, "auto", "asked", **given)
    show(terminal, "auto", "%r %s", args=(hostile, hostile))
    shown = show(terminal, "auto", hostile, exc_info=failed, levelno=logging.ERROR)
    plain = COLOUR.sub("", shown)
    assert [character for character in plain if not character.isprintable()] == (
        ["\n"] * plain.count("\n")
    )
    assert not re.search(r"^(red|forged)", plain, re.MULTILINE)
    assert r"\x1b]0;title\x07\u202e\x9b2J\rred\nforged" in plain


def test_a_long_path_is_cut(terminal: Terminal) -> None:
    line = show_request(terminal, "/" + "a" * 60_000, 404)
    assert len(line) < 2 * logs.LONGEST_PATH
    assert "aaa... " in line


def test_the_setting_outdoes_the_stream(terminal: Terminal, tmp_path: Path) -> None:
    assert json.loads(show(terminal, "json", "told"))["message"] == "told"
    with open(tmp_path / "log", "w+") as file:
        logs.make_handler(file, "text").handle(make_record("told"))
        logs.make_handler(file, "auto").handle(make_record("told"))
        file.seek(0)
        as_text, as_json = file.read().splitlines()
    assert re.fullmatch(rf"{AT}told", as_text)
    assert json.loads(as_json)["message"] == "told"


def test_time_is_utc_wherever_the_service_runs(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        as_text = show(terminal, "text", "told", created=1_700_000_000.25, msecs=250.0)
        as_json = show(terminal, "json", "told", created=1_700_000_000.25, msecs=250.0)
    time.tzset()
    assert "22:13:20Z" in COLOUR.sub("", as_text)
    assert '"time": "2023-11-14T22:13:20.250Z"' in as_json


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_address_is_not_told(terminal: Terminal, log_format: LogFormat) -> None:
    told = "Key (email)=(alice@example.com), 'zoé.o+b@sub.example.org' <x@localhost> a@b"
    try:
        raise ValueError(told)
    except ValueError:
        failed = sys.exc_info()
    shown = show(terminal, log_format, "%s failed", args=(told,), exc_info=failed)
    assert "@" not in shown
    assert shown.count("Key (email)=([address])") == 2
    assert "[address]" in logs.hide_addresses(f"{'a' * 1_000_000}@{'b' * 1_000_000}")


def test_of_changed_files_nothing_is_told() -> None:
    tell = (
        "import logging, logs; logs.configure('json');"
        "logging.getLogger('watchfiles.main').info('1 change detected');"
        "logging.getLogger('uvicorn.error').warning('Reloading...')"
    )
    done = warm.run("-c", tell, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert read_messages(done.stderr) == ["Reloading..."]


def test_a_service_on_a_terminal_shows_lines_for_eyes(
    terminal: Terminal, new_database: Callable[[], str], tmp_path: Path
) -> None:
    service = Service(
        {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path), "STORAGE": "local"}
    )
    words = ("-m", "uvicorn", "main:app", "--port", str(service.port))
    with os.fdopen(os.dup(terminal.slave), "wb") as stream:
        service.process = warm.fork(
            *words, cwd=ROOT, env=service.environment, stdout=stream, stderr=stream
        )
    try:
        service.wait_until_ready()
        asked = get(f"{service.url}{HOSTILE_PATH}?token=secret")
        assert asked.status_code == 404
        wait_until(lambda: "forged" in terminal.read(), "the line of the request")
    finally:
        service.stop()
    lines = COLOUR.sub("", terminal.read()).splitlines()
    request = rf"{AT}127\.0\.0\.1 GET {re.escape(ESCAPED_PATH)} 404 not_found \d+ ms"
    assert [line for line in lines if re.fullmatch(request, line)], lines
    assert [line for line in lines if re.match(f"{AT}Started server process", line)], lines
    assert [line for line in lines if re.match(f"{AT}Uvicorn running on http://", line)], lines
    assert all(re.match(AT, line) for line in lines), lines
    assert not [line for line in lines if "secret" in line], lines
    assert "\x1b" not in "".join(lines)
