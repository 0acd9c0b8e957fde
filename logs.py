"""Log lines with the id of their request: a short one for eyes, or one JSON object each.

On a terminal a line is for eyes, elsewhere for programs, unless LOG_FORMAT says otherwise. Whatever
a client sent reaches a terminal without control characters, and no e-mail address reaches any log,
which outlives the account. Time is UTC.
"""

import logging
import os
import re
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["auto", "text", "json"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# Most paths are a fifth as long.
LONGEST_PATH = 200

# An e-mail address, or what looks like one. The bounds are those of RFC 5321, and keep the search
# linear.
_ADDRESS = re.compile(r"[^\s@\"'\\<>()\[\]=,:;/]{1,64}@[^\s@\"'\\<>()\[\]=,:;/]{1,255}")
_HIDDEN_ADDRESS = "[address]"

_RESET = "\033[0m"
_DIM = "\033[2m"
_RED = "\033[31m"
_GREEN = "\033[32m"
_YELLOW = "\033[33m"
_CYAN = "\033[36m"
_STATUS_COLOURS = {2: _GREEN, 3: _CYAN, 4: _YELLOW, 5: _RED}


class Event(StrEnum):
    """What someone who looks for an attack looks for: the `event` of a log line.

    `account` is who asked, as in every line, and `about` the account that it is about.
    """

    LOGIN_OK = "login_ok"
    LOGIN_FAILED = "login_failed"
    PASSWORD_CHANGED = "password_changed"
    ACCOUNT_DELETED = "account_deleted"
    # Someone acts on what is another's.
    ADMIN_ACT = "admin_act"
    DECODER_KILLED = "decoder_killed"


@dataclass
class RequestFacts:
    """What is known of the request that is being answered; more comes to be known meanwhile."""

    client: str | None
    account: int | None = None
    code: str | None = None


_facts: ContextVar[RequestFacts | None] = ContextVar("facts", default=None)


def begin_request(given_id: str, client: str | None) -> RequestFacts:
    """Let every line of this task and of those that it begins tell of this request."""
    facts = RequestFacts(client)
    request_id.set(given_id)
    _facts.set(facts)
    return facts


def note_account(account_id: int) -> None:
    """Note who asks, once that is settled."""
    facts = _facts.get()
    if facts is not None:
        facts.account = account_id


def note_code(code: str) -> None:
    """Note with which code the request is refused."""
    facts = _facts.get()
    if facts is not None:
        facts.code = code


def hide_addresses(text: str) -> str:
    """Return the text without the e-mail addresses in it."""
    return _ADDRESS.sub(_HIDDEN_ADDRESS, text) if "@" in text else text


class _WithRequest(logging.Filter):
    """Adds what is known of the request; what a line says of itself counts before that."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        facts = _facts.get()
        if facts is not None:
            for name, value in (("client", facts.client), ("account", facts.account)):
                if value is not None and not hasattr(record, name):
                    setattr(record, name, value)
        return True


class _TextFormatter(logging.Formatter):
    """One short line each; a traceback follows, indented, so that nothing in it looks like one."""

    def __init__(self, has_colours: bool) -> None:
        super().__init__(datefmt="%H:%M:%SZ")
        self.converter = time.gmtime
        self._has_colours = has_colours

    def format(self, record: logging.LogRecord) -> str:
        is_request = hasattr(record, "duration_ms")
        told = self._tell_request(record) if is_request else self._tell_message(record)
        lines = [f"{self._colour(_DIM, self.formatTime(record, self.datefmt))} {told}"]
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            lines += [f"    {_escape(line)}" for line in traceback.splitlines()]
        return hide_addresses("\n".join(lines))

    def _tell_request(self, record: logging.LogRecord) -> str:
        """Tell who asked for what, and what became of it; a failure also with its id."""
        asked = vars(record)
        status = int(asked["status"])
        path = _escape(asked["path"])
        if len(path) > LONGEST_PATH:
            path = f"{path[:LONGEST_PATH]}..."
        shown = str(status) if status else "no answer"
        code = asked.get("code")
        account = asked.get("account")
        words = [
            _escape(str(asked.get("client") or "-")),
            *([] if account is None else [f"account {account}"]),
            _escape(asked["method"]),
            path,
            self._colour(_STATUS_COLOURS.get(status // 100, _RED), shown),
            *([] if code is None else [code]),
            f"{asked['duration_ms']:.0f} ms",
        ]
        is_failure = not 100 <= status < 500
        return " ".join(words) + (self._tell_id(record) if is_failure else "")

    def _tell_message(self, record: logging.LogRecord) -> str:
        message = _escape(record.getMessage())
        if record.levelno < logging.WARNING:
            return message + self._tell_id(record)
        colour = _RED if record.levelno >= logging.ERROR else _YELLOW
        return f"{self._colour(colour, record.levelname)} {message}{self._tell_id(record)}"

    def _tell_id(self, record: logging.LogRecord) -> str:
        asked_by = vars(record).get("request_id")
        return "" if asked_by is None else self._colour(_DIM, f" (request {_escape(asked_by)})")

    def _colour(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._has_colours else text


def configure(log_format: LogFormat = "auto") -> None:
    """Send every log line of this process to standard error, uvicorn's own lines too."""
    handler = make_handler(sys.stderr, log_format)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the middleware's line says more
    logging.captureWarnings(True)
    for chatty in ("alembic", "pgqueuer"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # With --reload it tells of every file that changes, the database's too.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def make_handler(stream: TextIO, log_format: LogFormat) -> logging.Handler:
    """Make a handler that writes to the stream in this format."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(_WithRequest())
    if log_format == "text" or (log_format == "auto" and stream.isatty()):
        handler.setFormatter(_TextFormatter(has_colours=_shows_colours(stream)))
    else:
        handler.setFormatter(_make_json_formatter())
    return handler


def _shows_colours(stream: TextIO) -> bool:
    """Whether the stream is a terminal that knows colours and whose user wants them.

    See https://no-color.org.
    """
    is_refused = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not is_refused


class _JsonFormatter(JsonFormatter):
    """One object a line, whose `time` is in UTC, as RFC 3339 has it."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"
    converter = staticmethod(time.gmtime)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Hide addresses before what is told is escaped."""
        return {
            name: hide_addresses(value) if isinstance(value, str) else value
            for name, value in log_data.items()
        }


def _make_json_formatter() -> logging.Formatter:
    return _JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
    )


def _escape(text: str) -> str:
    """Show what would move the cursor, colour the text or turn its direction as its code."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
