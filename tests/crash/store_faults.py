"""Uploads to a store that fails one time in five.

`scripts/dev python -m tests.crash.store_faults [--uploads 1000] [--rate 0.2]`

Clients of several accounts send pictures, each again up to three times when it is told 503 and a
time to wait. Every accepted picture must be right, and once the faults end and the reaper was
there, rows must equal objects. Exits with 1 on any violation, or if less than 99 % of the pictures
were accepted.
"""

import argparse
import contextlib
import hashlib
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.crash.storm import Picture, pictures, running_service, settled
from tests.support.s3 import FakeS3
from tests.support.services import FORM, Account, Bucket, Service, s3_server

RETRIES = 3
NEEDED_SHARE = 0.99
LONGEST_WAIT_SECONDS = 10


@dataclass
class Outcome:
    """What a run counted; a violation is a sentence."""

    uploads: int
    faults: Counter[str]
    refusals: Counter[str] = field(default_factory=Counter)  # by code
    tries: Counter[int] = field(
        default_factory=Counter
    )  # how many accepted pictures needed so many
    tombstones: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.tries.total()

    @property
    def is_good(self) -> bool:
        return not self.violations and self.accepted >= NEEDED_SHARE * self.uploads

    def report(self) -> str:
        faults = ", ".join(f"{kind}: {count}" for kind, count in sorted(self.faults.items()))
        refusals = ", ".join(f"{code}: {count}" for code, count in sorted(self.refusals.items()))
        tries = ", ".join(
            f"{count} at try {number}" for number, count in sorted(self.tries.items())
        )
        return (
            f"{self.faults.total()} faults ({faults})\n"
            f"{self.accepted} of {self.uploads} accepted ({tries}); refused: {refusals or 'none'}\n"
            f"{self.tombstones} tombstones; {len(self.violations)} violations"
            + "".join(f"\n  {violation}" for violation in self.violations)
        )


class Clients:
    """What several people send to a service whose store is behind a proxy, and what came of it.

    `bucket` is the same store on the direct way, on which nothing fails.
    """

    def __init__(self, service: Service, proxy: FakeS3, bucket: Bucket, seed: int) -> None:
        self._service = service
        self._proxy = proxy
        self._bucket = bucket
        self._pictures = pictures(32)
        self._seed = seed
        self._lock = threading.Lock()  # of the outcome

    def run(
        self, uploads: int, parallel: int, say: Callable[[str], None] = lambda line: None
    ) -> Outcome:
        """Send so many pictures while the store fails; then let it work and compare."""
        self._outcome = Outcome(uploads, self._proxy.faults)
        self._say = say
        accounts = [self._service.register(f"client-{number}") for number in range(parallel)]
        shares = [len(range(number, uploads, parallel)) for number in range(parallel)]
        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(self._send_share, accounts, shares))
        self._proxy.rate = 0.0
        self._outcome.violations += settled(self._service, self._objects_after_the_reaper)
        (found,) = self._service.sql(
            "SELECT count(*) FROM stored_files WHERE tombstone_until IS NOT NULL"
        )
        self._outcome.tombstones = found[0]
        for account in accounts:
            self._judge(account)
        return self._outcome

    def _send_share(self, account: Account, share: int) -> None:
        rng = random.Random(f"{self._seed} {account.email}")
        with self._service.client(account) as client:
            for _ in range(share):
                picture = rng.choice(self._pictures)
                name = self._send(client, account, picture)
                if name is not None:
                    self._judge(account, (name, picture.sha256))

    def _send(self, client: httpx.Client, account: Account, picture: Picture) -> str | None:
        """Send it until it is accepted; return its name, or None when that was in vain."""
        for number in range(1, RETRIES + 2):
            try:
                answer = client.patch(
                    f"/users/{account.id}/picture", headers=FORM, content=picture.body
                )
            except httpx.HTTPError as err:
                self._complain(f"no answer: {err!r}")
                return None
            if answer.status_code == 200:
                self._count(number)
                name: str = answer.json()["image_file"]
                return name
            wait = answer.headers.get("retry-after", "")
            if answer.status_code != 503 or not wait.isdigit() or int(wait) > LONGEST_WAIT_SECONDS:
                self._complain(
                    f"answered {answer.status_code}, Retry-After {wait!r}: {answer.text}"
                )
                return None
            with self._lock:
                self._outcome.refusals[answer.json()["code"]] += 1
            if number <= RETRIES:
                time.sleep(int(wait))
        return None

    def _count(self, tries: int) -> None:
        with self._lock:
            self._outcome.tries[tries] += 1
            accepted = self._outcome.accepted
            if accepted % 100 == 0:
                self._say(f"{accepted} accepted, {len(self._outcome.violations)} violations")

    def _judge(self, account: Account, accepted: tuple[str, str] | None = None) -> None:
        """The account shows its one live picture, by name and
        checksum the accepted one if given; its bytes load.
        """
        with self._service.client() as client:
            user: dict[str, Any] = client.get(f"/users/{account.id}").json()
            served = client.get(user["image_path"])
        rows = self._service.sql(
            "SELECT * FROM stored_files WHERE owner_id = $1 AND state = 'live'", account.id
        )
        live = [row["key"] for row in rows]
        if live != [f"profile_pics/{user['image_file']}"]:
            self._complain(f"{account.email} shows {user['image_file']}, and live is {live}")
        elif (served.status_code, hashlib.sha256(served.content).hexdigest()) != (
            200,
            rows[0]["sha256"],
        ):
            self._complain(f"{user['image_path']} is not what its row says: {served.status_code}")
        elif accepted is not None and (user["image_file"], rows[0]["sha256"]) != accepted:
            self._complain(f"{account.email} does not show the picture that was accepted last")

    def _objects_after_the_reaper(self) -> dict[str, bytes]:
        """What is stored, with everything but the tombstones
        due, which the service's own reaper then deletes.
        """
        self._service.sql(
            "UPDATE stored_files SET next_attempt_at = now() WHERE state <> 'live'"
            " AND (tombstone_until IS NULL OR next_attempt_at <> tombstone_until)"
        )
        return self._bucket.objects()

    def _complain(self, sentence: str) -> None:
        with self._lock:
            self._outcome.violations.append(sentence)


def store_settings(proxy: FakeS3, bucket: Bucket) -> dict[str, str]:
    """The service goes through the proxy; what its users load comes straight from the store."""
    behind = Bucket(proxy.url, bucket.name)
    return {**behind.settings(), "S3_PUBLIC_BASE_URL": f"{bucket.endpoint}/{bucket.name}"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.crash.store_faults", description=__doc__)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        bucket = Bucket.make(stack.enter_context(s3_server("moto")))
        proxy = stack.enter_context(FakeS3(bucket.endpoint, rate=given.rate, seed=given.seed))
        settings = {"REAPER_INTERVAL_SECONDS": "0.2", **store_settings(proxy, bucket)}
        service = stack.enter_context(running_service(**settings))
        outcome = Clients(service, proxy, bucket, given.seed).run(
            given.uploads, given.parallel, print
        )
    print(outcome.report())
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
