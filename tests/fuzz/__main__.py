"""Sends mutated pictures through the image step.

`scripts/dev python -m tests.fuzz --files 1000000 --seed 1 --lanes 2`

Only a 300 x 300 JPEG or a refusal with a 4xx may come of a file, however broken it is; with `--over
http` the same from a running service. A file is described by the run's seed and its number: `--only
NUMBER` repeats it. All else is counted by kind, the first files of each kind are kept in a folder,
and the exit status is 1.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from tests.fuzz.files import Files, make_seeds
from tests.fuzz.runs import (
    HANG_SECONDS,
    Report,
    judge,
    limit_memory,
    process_as_seen,
    run_functions,
    run_http,
)
from tests.support.services import ROOT, Service


@contextlib.contextmanager
def run_embedded_service() -> Iterator[Service]:
    """A service on its defaults in a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["DARKROOM_ENV_FILE"] = ""
        service = Service(
            {"DATA_DIR": temporary, "STORAGE": "local"},
            command=[sys.executable, str(ROOT / "main.py")],
        )
        service.start()
        try:
            yield service
        finally:
            service.stop()


def repeat(report: Report, number: int) -> None:
    """Send one file through the function, here; say what it does, and where the file is."""
    content = report.files[number]
    path = report.keep / f"{number}"
    report.keep.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"{path}: {len(content)} bytes, {content[:32]!r}", flush=True)
    limit_memory()
    faulthandler.enable(sys.stdout)
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=sys.stdout)
    try:
        process_as_seen(content)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    report.add(number, judge(process_as_seen, content))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--over", choices=["functions", "http"], default="functions")
    parser.add_argument("--corpus", type=Path, help="a folder, whose small files are mutated too")
    parser.add_argument("--keep", type=Path, help="the folder for files of findings")
    parser.add_argument("--only", type=int, help="the number of the one file to send")
    given = parser.parse_args()
    keep = given.keep or Path(tempfile.gettempdir(), f"fuzz-{os.getpid()}")
    report = Report(Files(given.seed, make_seeds(given.corpus)), keep)
    numbers = range(given.files) if given.only is None else range(given.only, given.only + 1)
    with tqdm(total=len(numbers), unit=" files", mininterval=2) as progress:

        def say(number: int) -> None:
            progress.update()
            progress.set_postfix(findings=report.findings.total(), refresh=False)

        if given.over == "http":
            with run_embedded_service() as service:
                run_http(report, numbers, service, say)
        elif given.only is not None:
            repeat(report, given.only)
        else:
            run_functions(report, numbers, given.lanes, say=say)
    print(json.dumps(report.summary(), indent=2))
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
