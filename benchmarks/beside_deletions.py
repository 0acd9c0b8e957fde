"""How many profile pictures are replaced beside a backlog of deletions, and how soon it is gone.

`scripts/dev python -m benchmarks.beside_deletions [--store local|s3] [--files N] [--check]`

Eight clients replace their pictures; in every other round so many files are due for deletion, in
those between them they are due an hour later. Then as many go with nobody beside them.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from statistics import median

from benchmarks.image_step import draw_photo, encode, find_sides
from benchmarks.replace import loaded_service, running_s3
from ops import embedded_postgres
from tests.support import rows
from tests.support.databases import make_database
from tests.support.services import ROOT, Service, form, part, postmaster

PICTURE_MEGAPIXELS = 0.1
FILES = 100_000
ROUNDS = 5
UPLOADS = 240
# What --check asks for: of the uploads without deletions, and for FILES alone and beside uploads.
LEAST_RATIO = 0.9
MOST_SECONDS = 900.0
POLL_SECONDS = 0.2
COUNT = "SELECT count(*) FROM stored_files WHERE state IN ('doomed', 'deleting')"


class Backlog:
    """Files that are due for deletion, of a store of these settings."""

    def __init__(self, settings: dict[str, str], count: int) -> None:
        self._service = Service(settings)
        self._settings = settings
        self._count = count
        self._next_number = 0

    def make(self, *, is_due: bool = True) -> None:
        """Make as many files as there are to be, all due now or in an hour."""
        numbers = range(self._next_number, self._next_number + self._count)
        self._next_number = numbers.stop
        if self._settings["STORAGE"] == "local":
            folder = Path(self._settings["DATA_DIR"]) / "media"
            for number in numbers:
                (folder / rows.numbered_key(number)).write_bytes(rows.CONTENT)
        storage = self._settings["STORAGE"]
        bucket = self._settings.get("S3_BUCKET_NAME", "")
        rows.insert_numbered_files(self._service, numbers, "live", storage=storage, bucket=bucket)
        self._service.sql(
            "UPDATE stored_files SET state = 'doomed', next_attempt_at = now() + $1::interval"
            " WHERE state = 'live' AND length(key) < 30",  # as those of accounts are not
            timedelta(0) if is_due else timedelta(hours=1),
        )

    def count_left(self) -> int:
        ((count,),) = self._service.sql(COUNT)
        return int(count)

    def clear(self) -> None:
        """Forget all of it, so that nothing is due."""
        self._service.sql("DELETE FROM stored_files WHERE state IN ('doomed', 'deleting')")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_deletions")
    parser.add_argument("--store", choices=["local", "s3"], default="local")
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--uploads", type=int, default=UPLOADS, help="in a round")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless uploads keep nine tenths"
    )
    options = parser.parse_args(arguments)
    body = form(part(encode(draw_photo(*find_sides(PICTURE_MEGAPIXELS)), "jpeg")))
    ratios = []
    rates = []
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        # It is forked, so it comes before Postgres and its thread.
        s3 = stack.enter_context(running_s3())
        url = stack.enter_context(embedded_postgres.running(folder))
        settings = {
            **(s3 if options.store == "s3" else {"STORAGE": "local"}),
            "DATA_DIR": str(folder / "own"),
            "DATABASE_URL": make_database(url, None),
            "DARKROOM_ENV_FILE": "",
        }
        loaded = stack.enter_context(loaded_service(ROOT, settings, postmaster(folder)))
        loaded.run_round(body, options.uploads)
        backlog = Backlog(settings, options.files)
        print(f"{'round':>5}{'alone /s':>10}{'beside /s':>11}{'ratio':>7}{'deleted /s':>12}")
        for number in range(options.rounds):
            backlog.make(is_due=False)
            alone = loaded.run_round(body, options.uploads)
            backlog.clear()
            backlog.make()
            left = backlog.count_left()
            began = time.perf_counter()
            beside = loaded.run_round(body, options.uploads)
            rates.append((left - backlog.count_left()) / (time.perf_counter() - began))
            backlog.clear()
            ratios.append(beside.requests_per_second / alone.requests_per_second)
            print(
                f"{number + 1:>5}{alone.requests_per_second:>10.1f}"
                f"{beside.requests_per_second:>11.1f}{ratios[-1]:>7.2f}{rates[-1]:>12.0f}",
                flush=True,
            )
        backlog.make()
        began = time.perf_counter()
        while backlog.count_left():
            time.sleep(POLL_SECONDS)
        alone_seconds = time.perf_counter() - began
    ratio = median(ratios)
    beside_seconds = options.files / max(median(rates), 1.0)
    print(
        f"uploads keep {ratio:.2f} of their rate, by the median; {options.files} files are gone in"
        f" {beside_seconds:.0f} s beside them, and in {alone_seconds:.0f} s alone"
    )
    is_slow = max(alone_seconds, beside_seconds) > MOST_SECONDS
    return 1 if options.check and (ratio < LEAST_RATIO or is_slow) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
