"""What loads a service: clients that send large pictures at once, and one that asks for its health.

Each works in a process of its own, so that neither waits for the other, nor for who measures.
"""

import contextlib
import multiprocessing
import select
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tests.support.services import FORM, form, part

LONGEST_SECONDS = 60.0
PROBE_SECONDS = 0.02
# A probe without an answer for so long has failed.
PROBE_TIMEOUT_SECONDS = 10.0
# How often a client looks whether it is answered before it has sent everything.
PIECE_BYTES = 64 * 1024

Pipe = Any  # an end of multiprocessing's, whose class is generic in some versions of its types only


@dataclass(frozen=True)
class Answer:
    """What a client got in the end: the last status, or 0, after how many tries and seconds."""

    status: int
    tries: int
    seconds: float


@contextmanager
def apart(function: Callable[..., None], *arguments: object) -> Iterator[Pipe]:
    """A process of its own, so that it waits for none of us; yields its pipe once it is ready."""
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe()
    process = processes.Process(target=function, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    yield ours
    process.join()


def probe(pipe: Pipe, port: int) -> None:
    """Ask /health/live every 20 ms until told to end; then send the seconds taken and the failures.

    Whoever had asked during a long answer would have waited for the rest of it: that counts as
    well.
    """
    taken = []
    failures = 0
    connection = HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT_SECONDS)
    pipe.send("ready")
    due = time.monotonic()
    is_over = False
    while not is_over:
        started = time.monotonic()
        try:
            connection.request("GET", "/health/live")
            answer = connection.getresponse()
            answer.read()
            failures += answer.status != 200
        except (OSError, HTTPException):
            failures += 1
            connection.close()
        seconds = time.monotonic() - started
        while seconds > 0:
            taken.append(seconds)
            seconds -= PROBE_SECONDS
        due = max(due + PROBE_SECONDS, time.monotonic())
        is_over = pipe.poll(max(0.0, due - time.monotonic()))
    pipe.recv()
    pipe.send((taken, failures))


def send_all(pipe: Pipe, port: int, people: Sequence[tuple[int, str]], file: Path) -> None:
    """Send the file as each of the people at once, when told to begin; then send their answers.

    A person is an id and a token.
    """
    body = form(part(file.read_bytes()))
    with ThreadPoolExecutor(len(people)) as pool:
        pipe.send("ready")
        pipe.recv()
        deadline = time.monotonic() + LONGEST_SECONDS
        pipe.send(list(pool.map(lambda person: _send(port, person, body, deadline), people)))


def _send(port: int, person: tuple[int, str], body: bytes, deadline: float) -> Answer:
    """Send it, and again as long as the answer is 503 with a time to wait."""
    user_id, token = person
    headers = {**FORM, "Authorization": f"Bearer {token}", "Content-Length": str(len(body))}
    status = 0
    tries = 0
    while (left := deadline - time.monotonic()) > 0:
        tries += 1
        connection = HTTPConnection("127.0.0.1", port, timeout=left)
        try:
            connection.connect()
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # answered and closed: the answer is there
                connection.request(
                    "PATCH", f"/users/{user_id}/picture", _until_answered(connection, body), headers
                )
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException):
            status = 0
            break
        finally:
            connection.close()
        status = answer.status
        wait = answer.getheader("Retry-After", "")
        if status != 503 or not wait.isdigit():
            break
        time.sleep(max(0.0, min(int(wait), deadline - time.monotonic())))
    return Answer(status, tries, time.monotonic() - (deadline - LONGEST_SECONDS))


def _until_answered(connection: HTTPConnection, body: bytes) -> Iterator[memoryview]:
    view = memoryview(body)
    for start in range(0, len(view), PIECE_BYTES):
        if select.select([connection.sock], [], [], 0)[0]:
            return
        yield view[start : start + PIECE_BYTES]
