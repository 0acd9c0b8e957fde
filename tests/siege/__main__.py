"""Every attack, one after the other, beside an honest client.

`python -m tests.siege [--seconds N] [--only WORDS] [--check]`

Each is tried by one account, if it needs any, and by twenty accounts of one address. Printed are
the honest client's 95th percentile in ms and its refusals before, during and after. --check exits
with 1 where an upload was refused, or the percentile grew more than threefold.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.image_step import draw_photo, encode, find_sides
from benchmarks.load import apart
from ops import embedded_postgres
from tests.siege.attacks import ANONYMOUS, ATTACKS, Target, play
from tests.siege.honest import Answered, count_refused, find_p95, upload
from tests.support.databases import make_database
from tests.support.services import ROOT, Account, Service, form, part

ATTACK_SECONDS = 15.0
PEACE_SECONDS = 6.0
# Between two attacks: what the last one left is over.
REST_SECONDS = 12.0
MOST_RATIO = 3.0
# Nobody's address, and one that is counted.
SHARED = "127.0.0.1"
STRANGER = "127.0.0.2"
ACCOUNTS_OF_AN_ADDRESS = 20
PHOTO_MEGAPIXELS = 12.0


def make_service(folder: Path, database_url: str) -> Service:
    """Make the service, not yet started, with the defaults of all that an attack meets."""
    settings = {
        "DATABASE_URL": database_url,
        "DATA_DIR": str(folder),
        "STORAGE": "local",
        "SHARED_ADDRESSES": f"{SHARED}/32",
        # A proxy that nobody is.
        "FORWARDED_ALLOW_IPS": "127.0.0.9",
        "DARKROOM_ENV_FILE": "",
    }
    return Service(settings, command=["env", sys.executable, str(ROOT / "main.py")])


def identify(account: Account) -> tuple[int, str]:
    return account.id, account.token


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.siege")
    parser.add_argument("--seconds", type=float, default=ATTACK_SECONDS, help="of each attack")
    parser.add_argument("--only", default="", help="the attacks whose name has these words")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    failed = []
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        url = stack.enter_context(embedded_postgres.running(folder))
        service = make_service(folder / "service", make_database(url, None))
        service.start()
        stack.callback(service.stop)
        alice = identify(service.register("alice"))
        mallory = service.register("mallory")
        crowd = [
            identify(service.register(f"mallory-{number}"))
            for number in range(ACCOUNTS_OF_AN_ADDRESS)
        ]
        login = (mallory.email, mallory.password)
        targets = {
            "account": Target(service.port, SHARED, [identify(mallory)], login),
            "address": Target(service.port, STRANGER, crowd, login),
        }
        body = form(part(encode(draw_photo(*find_sides(PHOTO_MEGAPIXELS)), "jpeg")))
        print(f"{'attack':<18}{'by one':<9}{'before':>14}{'during':>14}{'after':>14}{'ratio':>7}")
        with apart(upload, service.port, alice, body) as honest:

            def watch(seconds: float, word: str = "go on") -> list[Answered]:
                time.sleep(seconds)
                honest.send(word)
                answers: list[Answered] = honest.recv()
                return answers

            for name in ATTACKS:
                for by, target in targets.items():
                    if options.only not in name or (name in ANONYMOUS and by == "account"):
                        continue
                    watch(REST_SECONDS)
                    before = watch(PEACE_SECONDS)
                    with apart(play, name, target) as attack:
                        during = watch(options.seconds)
                        attack.send("end")
                    after = watch(PEACE_SECONDS)
                    ratio = find_p95(during) / find_p95(before)
                    print(
                        f"{name:<18}{by:<9}{describe(before)}{describe(during)}{describe(after)}"
                        f"{ratio:>7.1f}",
                        flush=True,
                    )
                    if count_refused(during) or count_refused(after) or ratio > MOST_RATIO:
                        failed.append(f"{name}, by one {by}")
            watch(0, "end")
    for sentence in failed:
        print(
            f"{sentence}: an upload was refused, or took more than {MOST_RATIO:.0f} times as long"
        )
    return 1 if options.check and failed else 0


def describe(answers: list[Answered]) -> str:
    return f"{find_p95(answers) * 1000:>8.0f}{count_refused(answers):>3}/{len(answers):<3}"[:14]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
