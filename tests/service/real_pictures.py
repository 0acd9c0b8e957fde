"""Sends a folder of real pictures to a service.

`scripts/dev python -m tests.service.real_pictures FOLDER [options]`

The folder holds the pictures and `run_pictures.py`, which sends them, judges what comes back, and
is given the options. The service runs on embedded defaults in a temporary folder. Exits with 1 on
any 5xx, hang, dropped connection, answer that is not JSON, or traceback; with --strict every
verdict of the folder counts.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.services import ROOT, Service

# What a service may never do, whatever the file. The other kinds are about verdicts and pixels.
ALWAYS_WRONG = ("SERVER-ERROR", "HANG", "DROPPED", "DOWN", "BODY", "SETUP", "SLOW")


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
            done = subprocess.run(
                [
                    *(sys.executable, str(folder / "run_pictures.py"), "--base-url", service.url),
                    *(
                        "--token",
                        alice.token,
                        "--user-id",
                        str(alice.id),
                        "--picture-field",
                        "image_path",
                    ),
                    *("--json", str(report), *options),
                ],
                check=False,
            )
            failures = [
                failure
                for result in json.loads(report.read_text())
                for failure in result["failures"]
            ]
        finally:
            service.stop()
    wrong = [failure for failure in failures if failure.startswith(ALWAYS_WRONG)]
    print(
        f"{len(wrong)} server errors, hangs, dropped connections or unreadable answers;"
        f" {len(failures)} in all"
    )
    return 1 if wrong or (is_strict and done.returncode) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
