"""Log lines with the id of their request: a short one for eyes, or one JSON object each.

On a terminal a line is for eyes, elsewhere for programs, unless LOG_FORMAT says otherwise. Whatever
a client sent reaches a terminal without control characters.
"""

import logging
import os
import sys
from contextvars import ContextVar
from typing import Literal, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["auto", "text", "json"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# Most paths are a third as long; a line of a terminal is not much longer.
LONGEST_PATH = 120

_RESET = "\033[0m"
_DIM = "\033[2m"
_RED = "\033[31m"
_GREEN = "\033[32m"
_YELLOW = "\033[33m"
_CYAN = "\033[36m"
_STATUS_COLOURS = {2: _GREEN, 3: _CYAN, 4: _YELLOW, 5: _RED}


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class _TextFormatter(logging.Formatter):
    """One short line each; a traceback follows, indented, so that nothing in it looks like one."""

    def __init__(self, has_colours: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._has_colours = has_colours

    def format(self, record: logging.LogRecord) -> str:
        is_request = hasattr(record, "duration_ms")
        told = self._tell_request(record) if is_request else self._tell_message(record)
        lines = [f"{self._colour(_DIM, self.formatTime(record, self.datefmt))} {told}"]
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            lines += [f"    {_escape(line)}" for line in traceback.splitlines()]
        return "\n".join(lines)

    def _tell_request(self, record: logging.LogRecord) -> str:
        """Tell who asked for what, and what became of it; a failure also with its id."""
        asked = vars(record)
        status = int(asked["status"])
        path = _escape(asked["path"])
        if len(path) > LONGEST_PATH:
            path = f"{path[:LONGEST_PATH]}..."
        shown = str(status) if status else "no answer"
        words = [
            _escape(str(asked.get("client") or "-")),
            _escape(asked["method"]),
            path,
            self._colour(_STATUS_COLOURS.get(status // 100, _RED), shown),
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
    handler.addFilter(_WithRequestId())
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


def _make_json_formatter() -> logging.Formatter:
    return JsonFormatter(
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
