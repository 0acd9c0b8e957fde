"""Storms of replacements on one account.

`scripts/dev python -m tests.crash.storm [--rounds 100] [--parallel 64] [--store s3]`

Each round sends its pictures at once; in each fifth one the account is deleted among them, in
another the picture is taken away. After each round one of the accepted pictures must be left, or
none, and rows must equal objects. Exits with 1 on any violation, or if less than 95 % of the
pictures were accepted within 30 seconds.
"""

import argparse
import contextlib
import hashlib
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from botocore.exceptions import ClientError

from image_utils import process_profile_image
from ops import embedded_postgres
from tests.support.pictures import encoded, numbered
from tests.support.services import FORM, Account, Bucket, Service, form, part, s3_server

PATIENCE_SECONDS = 30.0
NEEDED_SHARE = 0.95
# Refusals after which the change may have been made all the same.
UNKNOWN_CODES = {"outcome_unknown", "database_unavailable"}


@dataclass(frozen=True)
class Picture:
    """A request's body, and the checksum of what must be stored for it."""

    body: bytes
    sha256: str


@dataclass
class Outcome:
    """What a run counted; a violation is a sentence."""

    rounds: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    uploads: int = 0  # those that could be accepted: the account was there
    seconds: list[float] = field(default_factory=list)  # of each that was accepted
    violations: list[str] = field(default_factory=list)

    @property
    def accepted_in_time(self) -> int:
        return sum(seconds <= PATIENCE_SECONDS for seconds in self.seconds)

    def report(self) -> str:
        ordered = sorted(self.seconds) or [0.0]
        p50, p99, slowest = (ordered[(len(ordered) - 1) * share // 100] for share in (50, 99, 100))
        counts = ", ".join(f"{what}: {count}" for what, count in sorted(self.answers.items()))
        share = self.accepted_in_time / max(1, self.uploads)
        summary = (
            f"{self.rounds} rounds; {counts}\n"
            f"{share:.2%} of {self.uploads} accepted within {PATIENCE_SECONDS:.0f} s;"
            f" p50 {p50:.2f} s, p99 {p99:.2f} s, slowest {slowest:.2f} s\n"
            f"{len(self.violations)} violations"
        )
        return "\n  ".join([summary, *self.violations])

    @property
    def is_good(self) -> bool:
        return not self.violations and self.accepted_in_time >= NEEDED_SHARE * self.uploads


@dataclass(frozen=True)
class Answer:
    """What one request of a round got; `sent` is None for a deletion."""

    status: int
    body: dict[str, object]
    seconds: float
    sent: Picture | None = None


def pictures(count: int) -> list[Picture]:
    """Pictures that differ, also once they are processed."""
    made = []
    for number in range(count):
        content = encoded(numbered(number, 320, 320))
        made.append(Picture(form(part(content)), process_profile_image(content).sha256))
    assert len({picture.sha256 for picture in made}) == count
    return made


class Storm:
    """One account after another, and what is sent to it and expected of it."""

    def __init__(self, service: Service, parallel: int, seed: int) -> None:
        self.outcome = Outcome()
        self._service = service
        self._pictures = pictures(parallel)
        self._rng = random.Random(seed)
        self._account: Account | None = None
        self._seen: set[str] = set()  # names of pictures of earlier rounds

    def run(self, rounds: int, say: Callable[[str], None] = lambda line: None) -> Outcome:
        """Run so many rounds, or until one goes wrong, and
        stop the service: then Postgres has counted all it saw.
        """
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(self._service.client()) for _ in range(len(self._pictures) + 1)
            ]
            pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
            while self.outcome.rounds < rounds and not self.outcome.violations:
                self._run_round(
                    pool, clients, deletion={2: "/picture", 4: ""}.get(self.outcome.rounds % 5)
                )
                self.outcome.rounds += 1
                if self.outcome.rounds % 10 == 0:
                    say(f"{self.outcome.rounds} rounds")
        self._service.stop()
        (found,) = self._service.sql(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        if found["deadlocks"] or "deadlock" in self._service.log():
            self._complain(
                f"{found['deadlocks']} deadlocks by Postgres' count, or one in the service's log"
            )
        return self.outcome

    def _run_round(
        self, pool: ThreadPoolExecutor, clients: list[httpx.Client], deletion: str | None
    ) -> None:
        """One storm; `deletion` is what is deleted below
        the account's address in its midst, if anything.
        """
        if self._account is None:
            self._account = self._service.register(f"storm-{self.outcome.rounds}")
        account = self._account
        path = f"/users/{self._account.id}"
        before = self._shown(account)
        start = threading.Barrier(len(self._pictures) + (deletion is not None))
        answered = threading.Semaphore(0)

        def send(client: httpx.Client, picture: Picture) -> Answer:
            start.wait()
            try:
                return _ask(client, "PATCH", f"{path}/picture", account.headers | FORM, picture)
            finally:
                answered.release()

        def delete(client: httpx.Client, after: int) -> Answer:
            start.wait()
            for _ in range(after):
                answered.acquire()
            return _ask(client, "DELETE", path + str(deletion), account.headers)

        sending = [pool.submit(send, *pair) for pair in zip(clients, self._pictures, strict=False)]
        deleted = None
        if deletion is not None:
            deleted = pool.submit(
                delete, clients[-1], self._rng.randrange(len(self._pictures) // 2)
            ).result()
            self._count_deletion(deleted, deletion)
        answers = [future.result() for future in sending]
        self._count(answers, may_be_gone=deletion == "")
        # Of what was never known to be put the reaper would wait for 15 minutes.
        self._service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE state = 'pending'")
        if deletion == "":
            self._judge_deleted(account)
            self._account = None
        else:
            self._judge_winner(account, answers, before, deleted)
        for difference in settled(self._service, self._service.objects):
            self._complain(difference)

    def _count(self, answers: list[Answer], may_be_gone: bool) -> None:
        for answer in answers:
            self.outcome.answers[f"PATCH {answer.status}"] += 1
            is_gone = may_be_gone and answer.status in (401, 404)
            self.outcome.uploads += not is_gone
            if answer.status == 200:
                self.outcome.seconds.append(answer.seconds)
            elif not is_gone and not _is_honest_503(answer):
                self._complain(f"a picture was answered {answer.status} {answer.body}")

    def _count_deletion(self, answer: Answer, deletion: str) -> None:
        what = f"DELETE {deletion or 'account'} {answer.status}"
        self.outcome.answers[what] += 1
        expected = {200, 404} if deletion else {204}  # there may be no picture yet
        if answer.status not in expected and not _is_honest_503(answer):
            self._complain(f"{what} {answer.body}")

    def _judge_deleted(self, account: Account) -> None:
        with self._service.client(account) as client:
            while client.delete(f"/users/{account.id}").status_code == 503:
                time.sleep(1)
            if client.get(f"/users/{account.id}").status_code != 404:
                self._complain("a deleted account is still there")

    def _judge_winner(
        self, account: Account, answers: list[Answer], before: str, deleted: Answer | None
    ) -> None:
        accepted = dict[str, str]()
        unknown = set[str]()
        for answer in answers:
            assert answer.sent is not None
            if answer.status == 200:
                name = str(answer.body["image_file"])
                if name in self._seen | set(accepted):
                    self._complain("an answer names the picture of another request")
                accepted[name] = answer.sent.sha256
            elif answer.body.get("code") in UNKNOWN_CODES:
                unknown.add(answer.sent.sha256)
        shown = self._shown(account)
        is_new = shown not in self._seen
        self._seen |= {shown, *accepted}
        if not shown:
            if (before or accepted) and (deleted is None or deleted.status == 404):
                self._complain("no picture is left, and nobody took it away")
            return
        with self._service.client() as client:
            found = client.get(client.get(f"/users/{account.id}").json()["image_path"])
        sha256 = hashlib.sha256(found.content).hexdigest()
        is_untouched = shown == before and not accepted and not (deleted and deleted.status == 200)
        if not (accepted.get(shown) == sha256 or (is_new and sha256 in unknown) or is_untouched):
            self._complain("the picture that is left is none of those that were accepted")

    def _shown(self, account: Account) -> str:
        with self._service.client() as client:
            return client.get(f"/users/{account.id}").json()["image_file"] or ""

    def _complain(self, sentence: str) -> None:
        self.outcome.violations.append(f"round {self.outcome.rounds}: {sentence}")


def _ask(
    client: httpx.Client,
    method: str,
    path: str,
    headers: dict[str, str],
    sent: Picture | None = None,
) -> Answer:
    started = time.monotonic()
    try:
        answer = client.request(method, path, headers=headers, content=sent.body if sent else None)
    except httpx.HTTPError as err:
        return Answer(0, {"detail": repr(err)}, time.monotonic() - started, sent)
    body = answer.json() if answer.content else {}
    body["retry_after"] = answer.headers.get("retry-after", "")
    return Answer(answer.status_code, body, time.monotonic() - started, sent)


def _is_honest_503(answer: Answer) -> bool:
    return answer.status == 503 and str(answer.body["retry_after"]).isdigit()


def differences(service: Service, objects: dict[str, bytes]) -> list[str]:
    """What there is in rows and not in objects, or the
    reverse, or in neither's right state; each a sentence.

    A tombstone is right as long as there is no object under its key.
    """
    rows = service.sql(
        "SELECT f.*, coalesce(u.id, p.owner_id, s.owner_id) AS shown_by FROM stored_files f"
        " LEFT JOIN users u ON u.picture_id = f.id"
        " LEFT JOIN photos p ON f.id IN (p.original_id, p.master_id)"
        " LEFT JOIN single_thumbnails s ON s.file_id = f.id"
    )
    found = [f"the object {key} has no row" for key in set(objects) - {row["key"] for row in rows}]
    for row in rows:
        key = row["key"]
        state = row["state"]
        content = objects.get(row["key"])
        if state == "live":
            if row["shown_by"] is None or row["shown_by"] != row["owner_id"]:
                found.append(f"{key} is live, and its account does not show it")
            if content is None:
                found.append(f"{key} is live, and has no object")
            elif (hashlib.sha256(content).hexdigest(), len(content)) != (
                row["sha256"],
                row["size_bytes"],
            ):
                found.append(f"the object {key} is not what its row says")
        elif state != "deleting" or row["tombstone_until"] is None or content is not None:
            found.append(
                f"{key} is left over, {state}, {'without' if content is None else 'with'} an object"
            )
    return found


def settled(
    service: Service, objects: Callable[[], dict[str, bytes]], patience_seconds: float = 60
) -> list[str]:
    """Wait until rows equal objects; return what differs if that does not come to be."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            found = differences(service, objects())
        except (ClientError, FileNotFoundError) as err:  # deleted since it was listed
            found = [repr(err)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


@contextlib.contextmanager
def running_service(**settings: str) -> Iterator[Service]:
    """A service with a Postgres and a folder of its own, until the context ends."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["DARKROOM_ENV_FILE"] = ""
        with embedded_postgres.running(Path(temporary)) as url:
            service = Service({"DATABASE_URL": url, "DATA_DIR": f"{temporary}/data", **settings})
            service.start()
            try:
                yield service
            finally:
                service.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.crash.storm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=64)
    parser.add_argument("--store", choices=["local", "s3"], default="local")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        is_s3 = given.store == "s3"
        store = (
            Bucket.make(stack.enter_context(s3_server("moto"))).settings()
            if is_s3
            else {"STORAGE": "local"}
        )
        service = stack.enter_context(running_service(REAPER_INTERVAL_SECONDS="0.2", **store))
        outcome = Storm(service, given.parallel, given.seed).run(given.rounds, print)
    print(outcome.report())
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
