"""What an upload of a profile picture takes beside somebody who streams photos.

`scripts/dev python -m benchmarks.beside_photos [--uploads N] [--check]`

One client replaces its picture again and again; in every other round another one adds photos of 12
megapixels meanwhile, one after the other. The times are the medians of the answers.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks.image_step import draw_photo, encode, find_sides
from benchmarks.load import Pipe, apart
from benchmarks.replace import Client
from benchmarks.s3_sink import serve_sink
from benchmarks.streaming import make_own_service, running
from config import MIB
from ops import embedded_postgres
from tests.support.databases import make_database
from tests.support.services import form, part

# A picture as a browser has made it small, and one as a phone sends it.
PICTURE_MEGAPIXELS = 0.1
PHOTO_MEGAPIXELS = 12.0
ROUNDS = 5
UPLOADS = 60
# Before each round: connections are opened, and the stream has begun.
WARM_UPLOADS = 5
# What --check asks for.
MOST_RATIO = 1.25
MAX_PHOTO_BYTES = 50 * MIB


def add_photos(pipe: Pipe, port: int, headers: dict[str, str], content: bytes) -> None:
    """Add the photo again and again until told to end; then send how many were taken."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    pipe.send("ready")
    taken = 0
    while not pipe.poll():
        connection.request("POST", "/photos", content, {"Content-Type": "image/jpeg", **headers})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 201:
            raise RuntimeError(f"{answer.status} is no answer to a photo")
        taken += 1
    connection.close()
    pipe.recv()
    pipe.send(taken)


def time_uploads(client: Client, body: bytes, uploads: int) -> float:
    """Replace the picture so many times; return the median of the seconds."""
    for _ in range(WARM_UPLOADS):
        client.replace_picture(body)
    seconds = []
    for _ in range(uploads):
        started = time.perf_counter()
        client.replace_picture(body)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_photos")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--uploads", type=int, default=UPLOADS, help="in a round")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless it takes a quarter more at most"
    )
    options = parser.parse_args(arguments)
    body = form(part(encode(draw_photo(*find_sides(PICTURE_MEGAPIXELS)), "jpeg")))
    photo = encode(draw_photo(*find_sides(PHOTO_MEGAPIXELS)), "jpeg")
    ratios = []
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        # It is forked, so it comes before Postgres and its thread.
        sink = stack.enter_context(apart(serve_sink))
        stack.callback(sink.send, "end")
        url = stack.enter_context(embedded_postgres.running(folder))
        service = make_own_service(
            folder / "own", sink.recv(), "when_supported", make_database(url, None), MAX_PHOTO_BYTES
        )
        stack.enter_context(running(service))
        client = Client(service, service.register("alice"))
        photographer = service.register("bob")
        print(f"{'round':>5}{'alone ms':>10}{'beside ms':>11}{'photos':>8}{'ratio':>7}")
        for number in range(options.rounds):
            alone_seconds = time_uploads(client, body, options.uploads)
            with apart(add_photos, service.port, photographer.headers, photo) as photos:
                beside_seconds = time_uploads(client, body, options.uploads)
                photos.send("end")
                taken = photos.recv()
            ratios.append(beside_seconds / alone_seconds)
            print(
                f"{number + 1:>5}{alone_seconds * 1000:>10.1f}{beside_seconds * 1000:>11.1f}"
                f"{taken:>8}{ratios[-1]:>7.2f}",
                flush=True,
            )
        client.close()
    ratio = median(ratios)
    print(f"{ratio:.2f} times as long, by the median")
    return 1 if options.check and ratio > MOST_RATIO else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
