"""What uploads of pictures lose to people who log in meanwhile, and what a login takes then.

`scripts/dev python -m benchmarks.beside_logins [--rounds N] [--seconds N] [--check]`

Four clients replace their pictures, of 12 megapixels, again and again; in every other round eight
others log in meanwhile, one login after the other.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from benchmarks.image_step import draw_photo, encode, find_sides
from benchmarks.load import Pipe, apart
from benchmarks.streaming import running
from ops import embedded_postgres
from tests.support.databases import make_database
from tests.support.services import FORM, ROOT, Service, form, part

MEGAPIXELS = 12.0
UPLOADERS = 4
LOGINS_AT_ONCE = 8
ROUNDS = 5
SECONDS = 8.0
# What --check asks for.
LEAST_RATE_RATIO = 0.75
MOST_LOGIN_SECONDS = 2.0


def upload(pipe: Pipe, port: int, people: Sequence[tuple[int, str]], body: bytes) -> None:
    """Upload as each of the people, for as many seconds as told; then send how many were taken."""

    def go_on(person: tuple[int, str], seconds: float) -> int:
        account_id, token = person
        headers = {**FORM, "Authorization": f"Bearer {token}"}
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        taken = 0
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            connection.request("PATCH", f"/users/{account_id}/picture", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} is no answer to a picture")
            taken += 1
        connection.close()
        return taken

    pipe.send("ready")
    with ThreadPoolExecutor(len(people)) as pool:
        while seconds := pipe.recv():
            pipe.send(sum(pool.map(lambda person: go_on(person, seconds), people)))


def log_in(pipe: Pipe, port: int, names: Sequence[tuple[str, str]]) -> None:
    """Log in as each, again and again until told to end; then send what every login took."""

    def go_on(name: tuple[str, str]) -> list[float]:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        body = urlencode({"username": name[0], "password": name[1]})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        seconds = []
        while not is_over:
            started = time.perf_counter()
            connection.request("POST", "/users/token", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} is no answer to a login")
            seconds.append(time.perf_counter() - started)
        connection.close()
        return seconds

    is_over = False
    with ThreadPoolExecutor(len(names)) as pool:
        runs = [pool.submit(go_on, name) for name in names]
        pipe.send("ready")
        pipe.recv()
        is_over = True
        pipe.send([seconds for run in runs for seconds in run.result()])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_logins")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a round")
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 unless uploads lose a quarter at most, and logins take 2 s at most",
    )
    options = parser.parse_args(arguments)
    body = form(part(encode(draw_photo(*find_sides(MEGAPIXELS)), "jpeg")))
    ratios = []
    slowest_seconds = 0.0
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        url = stack.enter_context(embedded_postgres.running(folder))
        settings = {
            "STORAGE": "local",
            "DATABASE_URL": make_database(url, None),
            "DATA_DIR": str(folder / "service"),
            "LOGINS_PER_ACCOUNT_PER_MINUTE": "0",
            "DARKROOM_ENV_FILE": "",
        }
        service = Service(settings, command=["env", sys.executable, str(ROOT / "main.py")])
        stack.enter_context(running(service))
        uploaders = [service.register(f"uploader-{number}") for number in range(UPLOADERS)]
        people = [service.register(f"person-{number}") for number in range(LOGINS_AT_ONCE)]
        names = [(person.email, person.password) for person in people]
        who = [(each.id, each.token) for each in uploaders]
        uploads = stack.enter_context(apart(upload, service.port, who, body))
        stack.callback(uploads.send, 0)

        def count_uploads(seconds: float) -> int:
            uploads.send(seconds)
            taken: int = uploads.recv()
            return taken

        count_uploads(1.0)
        print(f"{'round':>5}{'alone':>8}{'beside':>8}{'ratio':>7}{'logins':>8}{'slowest s':>11}")
        for number in range(options.rounds):
            alone = count_uploads(options.seconds)
            with apart(log_in, service.port, names) as logins:
                beside = count_uploads(options.seconds)
                logins.send("end")
                seconds = logins.recv()
            ratios.append(beside / alone)
            slowest_seconds = max(slowest_seconds, *seconds)
            print(
                f"{number + 1:>5}{alone:>8}{beside:>8}{ratios[-1]:>7.2f}{len(seconds):>8}"
                f"{max(seconds):>11.2f}",
                flush=True,
            )
    ratio = median(ratios)
    print(
        f"{ratio:.2f} of the uploads by the median; the slowest login took {slowest_seconds:.2f} s"
    )
    is_missed = ratio < LEAST_RATE_RATIO or slowest_seconds > MOST_LOGIN_SECONDS
    return 1 if options.check and is_missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
