"""The honest client: uploads a photo of a phone again and again, and notes each answer."""

import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from statistics import quantiles

from benchmarks.load import Pipe
from tests.support.services import FORM

# A person is no machine.
PAUSE_SECONDS = 0.1
# Above all that the service promises to take at most.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Answered:
    """The seconds and the status of one upload; of a lost connection, 0."""

    seconds: float
    status: int


def upload(pipe: Pipe, port: int, account: tuple[int, str], body: bytes) -> None:
    """Upload until told to end; at each word send the answers since the last one."""
    account_id, token = account
    headers = {**FORM, "Authorization": f"Bearer {token}"}
    answers: list[Answered] = []
    pipe.send("ready")
    while True:
        started = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("PATCH", f"/users/{account_id}/picture", body, headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, HTTPException):
            status = 0
        finally:
            connection.close()
        answers.append(Answered(time.perf_counter() - started, status))
        if pipe.poll(PAUSE_SECONDS):
            word = pipe.recv()
            pipe.send(answers)
            answers = []
            if word == "end":
                return


def find_p95(answers: list[Answered]) -> float:
    """The seconds within which 95 of 100 were answered."""
    seconds = [each.seconds for each in answers]
    return quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]


def count_refused(answers: list[Answered]) -> int:
    return sum(each.status != 200 for each in answers)
