"""Sends a fuzz's files through the picture step or to a service, and judges what comes of it."""

import multiprocessing
import os
import resource
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from errors import DarkroomError
from image_utils import ProcessedImage, process_profile_image
from pictures import pillow
from pictures.confinement import confine
from pictures.renditions import RenditionFormat
from pictures.served_files import is_served_picture
from pictures.values import CLEAR, PICTURE_SIDE_PX, WHITE, Background, Clear
from tests.fuzz.files import Files
from tests.support.services import FORM, Service, form, part

# A tiny file needs milliseconds, the largest picture that is allowed a second or two.
HANG_SECONDS = 30.0
POLL_SECONDS = 0.5
# Five times what the largest picture that is allowed needs: a decoder that believes a header asks
# for more.
MEMORY_BYTES = 2 * 1024**3
# One shows the cause, a few what they have in common; all of them might fill the disk.
KEPT_OF_A_KIND = 10
# More than the cores, so that the service always has work; few enough for it to turn hardly anyone
# away.
SENDERS = 4
MOST_TRIES = 10

ACCEPTED = "accepted"
DEATH = "death"
HANG = "hang"
OUT_OF_MEMORY = "out of memory"
SQUARE = (PICTURE_SIDE_PX, PICTURE_SIDE_PX)


class Finding(NamedTuple):
    """What must not be."""

    kind: str
    text: str = ""


Outcome = str | Finding  # accepted, or the code of a refusal
Target = Callable[[bytes], ProcessedImage]


def process_as_seen(content: bytes) -> ProcessedImage:
    """Make the picture of a file that is seen as a decoder sees it, in shared memory.

    In one of two, whichever its length says, what is transparent stays so.
    """
    background: Background | Clear = CLEAR if len(content) % 2 else WHITE
    return process_profile_image(memoryview(content), background=background)


def judge(target: Target, content: bytes) -> Outcome:
    """What comes of a file."""
    try:
        made = target(content)
    except DarkroomError as err:
        return (
            err.code
            if 400 <= err.status < 500
            else Finding(f"{err.code} {err.status}", traceback.format_exc())
        )
    except MemoryError:
        return Finding(OUT_OF_MEMORY, traceback.format_exc())
    except BaseException as err:  # those of other languages' libraries are no Exception
        last = traceback.extract_tb(err.__traceback__)[-1]
        return Finding(
            f"{type(err).__name__} at {Path(last.filename).name}:{last.lineno}",
            traceback.format_exc(),
        )
    file_format = RenditionFormat.of(made.content_type)
    size = (made.width_px, made.height_px)
    is_ours = size == SQUARE and is_served_picture(made.content, file_format, size)
    return ACCEPTED if is_ours else Finding("not a square of ours", repr(made.content[:200]))


@dataclass
class Report:
    """What came of all files; the first of each kind of finding lie in the folder `keep`."""

    files: Files
    keep: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    retried: int = 0
    started: float = field(default_factory=time.monotonic)

    def add(self, number: int, outcome: Outcome) -> None:
        self.sent += 1
        if isinstance(outcome, str):
            self.outcomes[outcome] += 1
            return
        self.findings[outcome.kind] += 1
        if self.findings[outcome.kind] <= KEPT_OF_A_KIND:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{number}").write_bytes(self.files[number])
            (self.keep / f"{number}.txt").write_text(f"{outcome.kind}\n{outcome.text}")

    def summary(self) -> dict[str, Any]:
        seconds = time.monotonic() - self.started
        refused = {code: count for code, count in self.outcomes.most_common() if code != ACCEPTED}
        return {
            "files": self.sent,
            "accepted": self.outcomes[ACCEPTED],
            "refused": refused,
            "retried": self.retried,
            "findings": dict(self.findings.most_common()),
            "deaths": self.findings[DEATH],
            "hangs": self.findings[HANG],
            "kept_in": str(self.keep) if self.findings else None,
            "seconds": round(seconds, 1),
            "files_per_second": round(self.sent / seconds, 1),
        }


_FORK = multiprocessing.get_context("fork")


class Lane:
    """A worker process, and the numbers of the files that it still has to answer for, in order."""

    def __init__(self, files: Files, numbers: range, target: Target) -> None:
        self.numbers = numbers
        self._files = files
        self._target = target
        self._start()

    def take_answers(self, hang_seconds: float) -> Iterator[tuple[int, Outcome]]:
        """What the worker has answered by now.

        One that died or hangs is replaced, and passes over that file.
        """
        try:
            while self.numbers and self.outcomes.poll():
                outcome = self.outcomes.recv()
                yield self._next(), outcome
        except EOFError:
            self._process.join()
            yield self._next(), Finding(DEATH, f"exit status {self._process.exitcode}")
            self._start()
        if time.monotonic() - self._since > hang_seconds and not self.outcomes.poll():
            self.end()
            yield self._next(), Finding(HANG, f"longer than {hang_seconds} seconds")
            self._start()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.outcomes.close()

    def _next(self) -> int:
        number = self.numbers[0]
        self.numbers = self.numbers[1:]
        self._since = time.monotonic()
        return number

    def _start(self) -> None:
        self.outcomes, writer = _FORK.Pipe(duplex=False)
        self._since = time.monotonic()
        self._process = _FORK.Process(target=self._work, args=(writer,), daemon=True)
        self._process.start()
        writer.close()  # the worker's own is then the only one, and its end is the end of the pipe

    def _work(self, outcomes: Any) -> None:
        limit_memory()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)  # what C libraries say of broken files
        # As in a decoder, which is ended by a call that no picture needs. What is found is told
        # without the lines of the code, whose files cannot be read: `--only` repeats it outside.
        pillow.configure()
        confine()
        for number in self.numbers:
            outcomes.send(judge(self._target, self._files[number]))


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")


def run_functions(
    report: Report,
    numbers: range,
    lanes: int,
    target: Target = process_as_seen,
    hang_seconds: float = HANG_SECONDS,
    say: Callable[[int], object] = lambda number: None,
) -> None:
    """Send the files of these numbers through `target`, in so many processes.

    `say` is told the number of each.
    """
    started = [Lane(report.files, numbers[lane::lanes], target) for lane in range(lanes)]
    try:
        while working := [lane for lane in started if lane.numbers]:
            wait([lane.outcomes for lane in working], POLL_SECONDS)
            for lane in working:
                for number, outcome in lane.take_answers(hang_seconds):
                    report.add(number, outcome)
                    say(number)
    finally:
        for lane in started:
            lane.end()


def find_codes(base: type[DarkroomError] = DarkroomError) -> dict[str, int]:
    """The status of each code of the error tree."""
    found = {base.code: base.status}
    for error in base.__subclasses__():
        found |= find_codes(error)
    return found


def judge_answer(answer: httpx.Response, codes: dict[str, int]) -> Outcome:
    """What a service's answer to a file says; a 503 says nothing of it."""
    status = answer.status_code
    kind = answer.headers.get("content-type", "")
    body = answer.json() if kind in ("application/json", "application/problem+json") else {}
    if status == 200 and body.get("image_file"):
        return ACCEPTED
    code: str = body.get("code", "without a code")
    is_refusal = (
        400 <= status < 500 and kind == "application/problem+json" and codes.get(code) == status
    )
    return code if is_refusal else Finding(f"answered {status} {code}", answer.text)


def run_http(
    report: Report,
    numbers: range,
    service: Service,
    say: Callable[[int], object] = lambda number: None,
) -> None:
    """Send the files of these numbers to the service as pictures.

    Afterwards it must be the same process, and well.
    """
    lock = threading.Lock()
    codes = find_codes()
    said_before = len(service.log())
    process = service.process
    assert process is not None

    def send_all(sender: int) -> None:
        account = service.register(f"sender-{sender}")
        with service.client(account, timeout=HANG_SECONDS) as client:
            for number in numbers[sender::SENDERS]:
                outcome = send(
                    client, f"/users/{account.id}/picture", form(part(report.files[number]))
                )
                with lock:
                    report.add(number, outcome)
                    say(number)
                if process.poll() is not None:
                    return

    def send(client: httpx.Client, path: str, body: bytes) -> Outcome:
        for _ in range(MOST_TRIES):
            try:
                answer = client.patch(path, headers=FORM, content=body)
            except httpx.TimeoutException as err:
                return Finding(HANG, repr(err))
            except httpx.HTTPError as err:
                return Finding("no answer", repr(err))
            wait_seconds = answer.headers.get("retry-after", "")
            if answer.status_code != 503 or not wait_seconds.isdigit():
                return judge_answer(answer, codes)
            with lock:
                report.retried += 1
            time.sleep(int(wait_seconds))
        return Finding("always busy", answer.text)

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send_all, range(SENDERS)))
    log = service.log()[said_before:]
    if process.poll() is not None:
        report.findings[DEATH] += 1
    elif (
        httpx.get(f"{service.url}/health/live", timeout=HANG_SECONDS, trust_env=False).status_code
        != 200
    ):
        report.findings["not alive"] += 1
    report.findings.update(
        f"{word} in the log" for word in ("Traceback", "internal_error") if word in log
    )
    if report.findings:
        report.keep.mkdir(parents=True, exist_ok=True)
        (report.keep / "service.log").write_text(log)
