"""Sends a folder of real pictures to a service.

`scripts/dev python -m tests.service.real_pictures FOLDER [options]`

The folder holds the pictures and `run_pictures.py`, which sends them, judges what comes back, and
is given the options. The service runs on embedded defaults in a temporary folder. Exits with 1 on
any 5xx, hang, dropped connection, answer that is not JSON, or traceback. With --strict every
verdict of the folder counts, but for the files of `shown_otherwise.tsv`, whose references differ
from what browsers show: these must fail as they are listed.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.services import ROOT, Service

# What a service may never do, whatever the file. The other kinds are about verdicts and pixels.
ALWAYS_WRONG = ("SERVER-ERROR", "HANG", "DROPPED", "DOWN", "BODY", "SETUP", "SLOW")
# Of files of one public collection; decision 31 has the evidence.
SHOWN_OTHERWISE = Path(__file__).with_name("shown_otherwise.tsv")


def main(folder: Path, options: list[str]) -> int:
    is_strict = "--strict" in options
    options = [option for option in options if option != "--strict"]
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["DARKROOM_ENV_FILE"] = ""
        service = Service(
            {"DATA_DIR": temporary, "STORAGE": "local"},
            command=[sys.executable, str(ROOT / "main.py")],
        )
        service.start()
        try:
            alice = service.register()
            report = Path(temporary) / "report.json"
            subprocess.run(
                [
                    *(sys.executable, str(folder / "run_pictures.py"), "--base-url", service.url),
                    *("--token", alice.token, "--user-id", str(alice.id)),
                    *("--picture-field", "image_path", "--json", str(report), *options),
                ],
                check=False,
            )
            results = json.loads(report.read_text())
        finally:
            service.stop()
    failures = [failure for result in results for failure in result["failures"]]
    wrong = [failure for failure in failures if failure.startswith(ALWAYS_WRONG)]
    print(
        f"{len(wrong)} server errors, hangs, dropped connections or unreadable answers;"
        f" {len(failures)} in all"
    )
    surprises = list(find_surprises(results))
    for surprise in surprises:
        print(surprise)
    print(f"{len(surprises)} not as {SHOWN_OTHERWISE.name} has it")
    return 1 if wrong or (is_strict and surprises) else 0


def find_surprises(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Find what is not as the list says: a failure that it does not have, and one that is gone."""
    with SHOWN_OTHERWISE.open(newline="") as file:
        listed = {row["file"]: row["kind"] for row in csv.DictReader(file, delimiter="\t")}
    for result in results:
        name = result["file"]
        kinds = [failure.split()[0] for failure in result["failures"]]
        wanted = [listed[name]] if name in listed else []
        if kinds != wanted:
            yield f"{name}: {', '.join(result['failures']) or 'passes, although it is listed'}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
