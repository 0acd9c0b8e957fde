"""Proves that a picture which hangs, balloons or kills its decoder costs its own upload only."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

import image_utils
from concurrency import Amounts
from config import MIB, Settings
from errors import (
    BrokenPicture,
    DarkroomError,
    DecoderUnavailable,
    ShuttingDown,
    StartupError,
    UndecodablePicture,
)
from logs import Event
from pictures import Cost, Crop, ProcessedImage
from pictures import decoder as decoder_program
from pictures.arriving import HeaderWatch
from pictures.confinement import NO_LAYER
from pictures.costs import (
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WHOLE_PIXELS,
    examine,
    price_master,
    price_renditions,
)
from pictures.decoding import Decoding
from pictures.formats import read_header
from pictures.messages import HEAD_BYTES, Made, Refused, Rendered
from pictures.pool import WORKED_UNASKED, DecoderLimits, DecoderPool
from pictures.process import ENVIRONMENT, MOST_SAID_BYTES, DecoderProcess
from pictures.renditions import Fit, Rendition, RenditionFormat, resolve_rendition
from pictures.shared_file import KEPT_BYTES, SHARED_BYTES
from pictures.usage import count_threads
from pictures.values import CLEAR, THUMBNAIL_SIDE_PX, WHITE, Background, Clear
from tests.support.launched import launched
from tests.support.pictures import corners, encoded, jpeg, phone_photo, quarters
from tests.support.services import ROOT, assert_problem, wait_until

pillow_heif.register_heif_opener()

# A decoder that does what the file tells it to, as one does that a file took over. It is not
# confined, so that it can do everything that a decoder may die of.
OBEYING = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ctypes, json, os, signal, socket, time
import errors, image_utils
from pictures import confinement, decoder

decoder.confine = lambda: confinement.NO_LAYER

def obey_before(real):
    def process(content, *arguments, **options):
        exec(bytes(content).partition(b"ORDER: ")[2])
        return real(content, *arguments, **options)
    return process

image_utils.process_profile_image = obey_before(image_utils.process_profile_image)
image_utils.make_master = obey_before(image_utils.make_master)
image_utils.make_thumbnail = obey_before(image_utils.make_thumbnail)
image_utils.make_renditions = obey_before(image_utils.make_renditions)
decoder.serve(socket.socket(fileno=0))
"""
WARM_AND_WAIT = """
import sys
from pictures.pool import DecoderPool

pool = DecoderPool()
pool.warm()
print(pool._idle[0].pid, flush=True)
sys.stdin.read()
"""
PICTURE = jpeg(64, 48)
SEE_THROUGH = encoded(Image.new("RGBA", (64, 48), (10, 90, 200, 100)), "PNG")
HANG = "while True: pass"
BALLOON = "kept = []\nwhile True: kept.append(bytes(1 << 20))"
CRASH = "os.kill(os.getpid(), signal.SIGSEGV)"
ABORT = "os.abort()"
LEAVE = "os._exit(0)"
RAISE = "raise ValueError('not one of ours')"
BABBLE = f"os.write(0, {b'nonsense'.ljust(HEAD_BYTES)!r})"
BABBLE_AND_STAY = f"{BABBLE}\ntime.sleep(600)"
NO_HEAD = f"os.write(0, bytes({HEAD_BYTES}))"
NO_SUCH_REFUSAL = f"os.write(0, {Refused('none', 1).to_bytes()!r})"
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
# Enough for a picture of this size; and so little that a test need not wait long for a file that
# hangs.
SMALL = Cost(8 * MIB, 0.01)
SHORT_CPU_SECONDS = 0.3
# Only the time on the processor counts, however busy the machine is.
IMPATIENT = DecoderLimits(least_cpu_seconds=SHORT_CPU_SECONDS, times_the_cpu_seconds=1000)
# Address space of Python and what it loads, generously.
LIBRARIES_BYTES = 256 * MIB
FILES = {
    "JPEG": phone_photo(640, 480),
    "MPO": encoded(quarters(320, 240), "MPO", save_all=True, append_images=[quarters(160, 120)]),
    "PNG": encoded(quarters(320, 240).convert("RGBA"), "PNG"),
    "GIF": encoded(quarters(320, 240), "GIF", comment=b"a comment"),
    "WEBP": encoded(quarters(320, 240), "WEBP", xmp=b"<x/>"),
    "AVIF": encoded(quarters(320, 240), "AVIF", speed=10),
    "HEIF": encoded(quarters(320, 240), "HEIF", enc_params={"preset": "ultrafast"}),
    "HEIF of tiles": encoded(
        quarters(320, 240), "HEIF", tile_size=128, enc_params={"preset": "ultrafast"}
    ),
}
# Of a master as small as PICTURE: one of each format.
RENDITIONS = [
    Rendition(40, 30, Fit.INSIDE, RenditionFormat.WEBP),
    Rendition(20, 20, Fit.COVER, RenditionFormat.AVIF),
    Rendition(40, 30, Fit.INSIDE, RenditionFormat.JPEG),
]
REFUSED = {
    "empty": b"",
    "a PDF": b"%PDF-1.7",
    "no picture": b"hello",
    "cut short": FILES["JPEG"][:2000],
    "broken": FILES["PNG"].replace(b"IDAT", b"IDAX"),
    "too large": FILES["PNG"][:16] + (40_000).to_bytes(4, "big") * 2 + FILES["PNG"][24:],
}


def ordered(code: str) -> bytes:
    """A good picture, and what the obeying decoder is to do before it looks at it."""
    return PICTURE + b"ORDER: " + code.encode()


def make_picture(
    pool: DecoderPool,
    content: bytes,
    crop: Crop | None = None,
    cost: Cost = SMALL,
    background: Background | Clear = WHITE,
) -> ProcessedImage:
    return pool.process_profile_image(
        content, cost, crop, DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS, background
    )


def make_master(pool: DecoderPool, content: bytes, cost: Cost = SMALL) -> ProcessedImage:
    limits = (DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS)
    return pool.make_master(content, cost, read_header(content), *limits)


def make_thumbnail(pool: DecoderPool, content: bytes) -> ProcessedImage:
    limits = (DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS)
    header, cost = examine(content, None, *limits)
    return pool.make_thumbnail(content, cost, header, *limits)


def make_renditions(pool: DecoderPool, content: bytes) -> list[ProcessedImage]:
    size = (64, 48)
    return pool.make_renditions(
        content, price_renditions(size, len(content), RENDITIONS), RENDITIONS
    )


def ask_inside(pool: DecoderPool, code: str) -> object:
    """What this code, run in the decoder, leaves in `found`; the log brings it out."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("pictures.process").addHandler(handler)
    try:
        make_picture(pool, ordered(f"{code}\nprint(json.dumps(found), file=sys.stderr)"))
    finally:
        logging.getLogger("pictures.process").removeHandler(handler)
    (line,) = said
    return json.loads(line.partition(" said: ")[2])


def idle_pids(pool: DecoderPool) -> list[int]:
    """The decoders that have nothing to do, the one that is used next last."""
    return [decoder.pid for decoder in pool._idle]


def pids_at_work(pool: DecoderPool) -> set[int]:
    return {decoder.pid for decoder in list(pool._alive) if decoder.pictures}


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def zombies() -> list[str]:
    """Children of this process that ended and that nobody waited for."""
    stats = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            stats.append((entry / "stat").read_text() if entry.name.isdigit() else "")
    return [
        stat for stat in stats if stat.rpartition(")")[2].split()[:2] == ["Z", str(os.getpid())]
    ]


@pytest.fixture
def genuine() -> Iterator[DecoderPool]:
    """A pool as the service has it, but that looks at idle decoders all the time, with one."""
    with contextlib.closing(DecoderPool(limits=DecoderLimits(look_seconds=0.01))) as pool:
        pool.warm()
        yield pool


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The file that other pools run as decoder."""
    return tmp_path / "program.py"


@pytest.fixture
def make_obeying(program: Path) -> Iterator[Callable[..., DecoderPool]]:
    """Makes a pool whose decoders do what files tell them to; one has loaded all that it needs."""
    program.write_text(OBEYING)
    with contextlib.ExitStack() as stack:

        def make(limits: DecoderLimits | None = None) -> DecoderPool:
            pool = DecoderPool((str(program),), limits)
            stack.callback(pool.close)
            make_picture(pool, PICTURE)
            return pool

        yield make


@pytest.fixture
def obeying(make_obeying: Callable[..., DecoderPool]) -> DecoderPool:
    return make_obeying()


@pytest.fixture
def impatient(make_obeying: Callable[..., DecoderPool]) -> DecoderPool:
    """One that gives little time on the processor, and as much on the clock as it takes."""
    return make_obeying(IMPATIENT)


def test_a_decoder_gives_exactly_what_the_image_step_gives(genuine: DecoderPool) -> None:
    crops = (None, Crop(10, 20, 200))
    for name, content in FILES.items():
        for crop in crops:
            here = image_utils.process_profile_image(content, crop)
            there = make_picture(genuine, content, crop)
            assert dataclasses.replace(here, filename="") == dataclasses.replace(
                there, filename=""
            ), name
            assert (
                re.fullmatch(r"[0-9a-f]{32}\.jpg", there.filename)
                and here.filename != there.filename
            )
    for name, content in [*REFUSED.items(), *FILES.items()]:
        with pytest.raises(DarkroomError) as here_refused:
            image_utils.process_profile_image(content, Crop(0, 0, 9999))
        with pytest.raises(DarkroomError) as there_refused:
            make_picture(genuine, content, Crop(0, 0, 9999))
        assert type(here_refused.value) is type(there_refused.value), name
        assert here_refused.value.detail == there_refused.value.detail, name
    for name, content in FILES.items():
        here = image_utils.make_master(content)
        there = make_master(genuine, content, price_master(read_header(content), len(content)))
        assert dataclasses.replace(here, filename="") == dataclasses.replace(there, filename=""), (
            name
        )
        here = image_utils.make_thumbnail(content)
        there = make_thumbnail(genuine, content)
        assert max(there.width_px, there.height_px) == THUMBNAIL_SIDE_PX
        assert dataclasses.replace(here, filename="") == dataclasses.replace(there, filename=""), (
            name
        )
    here_all = image_utils.make_renditions(PICTURE, RENDITIONS)
    there_all = make_renditions(genuine, PICTURE)
    for here, there in zip(here_all, there_all, strict=True):
        assert Path(here.filename).suffix == Path(there.filename).suffix
        assert dataclasses.replace(here, filename="") == dataclasses.replace(there, filename="")
    with pytest.raises(BrokenPicture):
        make_renditions(genuine, FILES["PNG"])
    assert len(idle_pids(genuine)) == 1, "one decoder did it all"


def test_a_decoder_keeps_transparency_as_the_image_step_does(genuine: DecoderPool) -> None:
    for name, content in {**FILES, "see-through": SEE_THROUGH}.items():
        here = image_utils.process_profile_image(content, background=CLEAR)
        there = make_picture(genuine, content, background=CLEAR)
        assert dataclasses.replace(here, filename="") == dataclasses.replace(there, filename="")
        is_clear = name == "see-through"
        assert there.content_type == ("image/webp" if is_clear else "image/jpeg")
        assert re.fullmatch(r"[0-9a-f]{32}\." + ("webp" if is_clear else "jpg"), there.filename)
    assert len(idle_pids(genuine)) == 1


@pytest.mark.parametrize(
    "order",
    [
        *(HANG, BALLOON, CRASH, ABORT, LEAVE, RAISE),
        *(BABBLE, BABBLE_AND_STAY, NO_HEAD, NO_SUCH_REFUSAL),
    ],
    ids=str,
)
def test_a_file_that_ruins_its_decoder_costs_its_own_upload_only(
    impatient: DecoderPool, order: str
) -> None:
    with pytest.raises(UndecodablePicture):
        make_picture(impatient, ordered(order))
    assert corners(make_picture(impatient, PICTURE).content) == ["red", "green", "blue", "white"]
    assert zombies() == []


def test_the_time_on_the_processor_ends_also_for_a_decoder_that_stops_its_own_clock(
    impatient: DecoderPool,
) -> None:
    (first,) = idle_pids(impatient)
    with pytest.raises(UndecodablePicture):
        make_picture(impatient, ordered(f"signal.setitimer(signal.ITIMER_PROF, 0)\n{HANG}"))
    assert not is_running(first)
    assert zombies() == []


def test_a_decoder_that_hangs_does_not_disturb_the_others(impatient: DecoderPool) -> None:
    with ThreadPoolExecutor() as threads:
        lost = [threads.submit(make_picture, impatient, ordered(order)) for order in (HANG, CRASH)]
        good = [threads.submit(make_picture, impatient, PICTURE) for _ in range(20)]
        assert {each.result().sha256 for each in good} == {make_picture(impatient, PICTURE).sha256}
        assert [type(each.exception()) for each in lost] == [UndecodablePicture] * 2


def test_a_file_that_spoils_its_decoder_does_not_cost_the_next_upload(obeying: DecoderPool) -> None:
    """As a file does that ruins the heap, which nobody notices until it is used again."""
    spoil = "image_utils.process_profile_image = lambda *_, **__: os.abort()"
    make_picture(obeying, ordered(spoil))
    (spoilt,) = idle_pids(obeying)
    assert corners(make_picture(obeying, PICTURE).content) == ["red", "green", "blue", "white"]
    assert not is_running(spoilt)


def test_decoders_that_are_killed_while_they_have_nothing_to_do_cost_no_upload(
    obeying: DecoderPool,
) -> None:
    obeying._idle.extend(obeying._start() for _ in range(3))
    killed = idle_pids(obeying)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert make_picture(obeying, PICTURE).sha256 == make_picture(obeying, PICTURE).sha256


def test_a_picture_whose_decoder_is_killed_is_decoded_by_another(obeying: DecoderPool) -> None:
    (first,) = idle_pids(obeying)
    make_picture(
        obeying, ordered(f"os.getpid() == {first} and os.kill(os.getpid(), signal.SIGKILL)")
    )
    assert first not in idle_pids(obeying) and zombies() == []


def test_when_decoders_are_killed_again_and_again_the_client_may_try_later(
    obeying: DecoderPool,
) -> None:
    with pytest.raises(DecoderUnavailable) as refusal:
        make_picture(obeying, ordered(KILLED))
    assert refusal.value.headers == {"Retry-After": "2"}


@pytest.mark.parametrize("start", ["raise SystemExit(1)", "import no_such_module", KILLED])
def test_a_decoder_that_cannot_start_is_no_fault_of_the_file(program: Path, start: str) -> None:
    program.write_text(f"import os, signal\n{start}")
    with contextlib.closing(DecoderPool((str(program),))) as pool:
        with pytest.raises(DecoderUnavailable):
            make_picture(pool, PICTURE)
        pool.warm()
        with pytest.raises(StartupError):
            pool.wait_until_warm()


def test_a_decoder_that_is_told_to_end_while_it_starts_costs_no_upload(
    program: Path, tmp_path: Path
) -> None:
    """A process manager tells every process of the service to end, whatever its session."""
    once = tmp_path / "once"
    program.write_text(
        "import os, pathlib, signal\n"
        f"if not pathlib.Path({str(once)!r}).exists():\n"
        f"    pathlib.Path({str(once)!r}).touch()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n" + OBEYING
    )
    with contextlib.closing(DecoderPool((str(program),))) as pool:
        make_picture(pool, PICTURE)
    assert once.exists()


def test_a_decoder_that_no_longer_moves_is_given_up_and_killed(
    make_obeying: Callable[..., DecoderPool],
) -> None:
    pool = make_obeying(DecoderLimits(least_cpu_seconds=SHORT_CPU_SECONDS))
    (stopped,) = idle_pids(pool)
    os.kill(stopped, signal.SIGSTOP)
    # By another one: that the machine stands still is not the file's fault.
    make_picture(pool, PICTURE)
    assert not is_running(stopped) and zombies() == []


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_the_service_does_not_end_a_decoder_before_its_picture_is_done(
    obeying: DecoderPool, number: str
) -> None:
    (pid,) = idle_pids(obeying)
    assert os.getsid(pid) == pid, "Ctrl-C reaches it"
    make_picture(obeying, ordered(f"os.kill(os.getpid(), signal.{number})"))
    assert idle_pids(obeying) == [pid]


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_a_decoder_ends_with_its_service(end: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WARM_AND_WAIT], cwd=ROOT, stdin=-1, stdout=-1
    ) as service:
        assert service.stdin and service.stdout
        pid = int(service.stdout.readline())
        assert is_running(pid)
        service.stdin.close() if end is None else service.send_signal(end)
        wait_until(lambda: not is_running(pid), "the decoder ended")


def read_shared_memory(pool: DecoderPool) -> bytes:
    """What its decoder sees there, which changes with the next file only."""
    shared = pool._idle[-1]._shared
    assert shared is not None
    return os.pread(shared._memory.fileno(), KEPT_BYTES + 9, 0)


def test_no_file_sees_the_one_before_whichever_way_either_came() -> None:
    wanted = image_utils.process_profile_image(PICTURE).content
    with contextlib.closing(DecoderPool()) as pool:
        for length in (5_000, KEPT_BYTES + 9, 6_000, SHARED_BYTES + 1, 7_000):
            content = PICTURE + os.urandom(length - len(PICTURE))
            made = make_picture(pool, content, cost=Cost(160 * MIB, 1))
            assert made.content == wanted
            seen = content[:KEPT_BYTES] if length <= SHARED_BYTES else b""
            assert read_shared_memory(pool) == seen + bytes(KEPT_BYTES + 9 - len(seen))


def test_where_memory_cannot_be_shared_the_file_comes_through_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = image_utils.process_profile_image(PICTURE).content

    def refuse(*_: object) -> None:
        raise OSError("not here")

    with monkeypatch.context() as patch, contextlib.closing(DecoderPool()) as pool:
        patch.delattr(os, "memfd_create")
        assert make_picture(pool, PICTURE).content == wanted
        assert pool._idle[-1]._shared is None
    with monkeypatch.context() as patch, contextlib.closing(DecoderPool()) as pool:
        patch.setattr(socket, "send_fds", refuse)
        assert make_picture(pool, PICTURE).content == wanted
        assert pool._idle[-1]._shared is None
    with monkeypatch.context() as patch, contextlib.closing(DecoderPool()) as pool:
        pool.warm()
        (pid,) = idle_pids(pool)
        patch.setattr(os, "pwrite", lambda *_: 0)
        assert make_picture(pool, PICTURE).content == wanted
        assert idle_pids(pool) == [pid], "no decoder was blamed for it"


def test_a_decoder_whose_memory_does_not_arrive_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "send_fds", lambda link, words, _: link.sendall(words[0]))
    with contextlib.closing(DecoderPool()) as pool:
        pool.warm()
        with pytest.raises(StartupError):
            pool.wait_until_warm()


def test_a_decoder_holds_nothing_of_the_service_and_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "a secret")
    with open(os.devnull) as inheritable:
        os.set_inheritable(inheritable.fileno(), True)
        pool = DecoderPool()
        make_picture(pool, PICTURE)
    (pid,) = idle_pids(pool)
    names = {
        each.partition(b"=")[0] for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    }
    assert {name.decode() for name in names - {b""}} <= {*ENVIRONMENT, "PYTHONPATH"}, names
    held = {each.name: each for each in Path(f"/proc/{pid}/fd").iterdir()}
    (shared,) = (held.pop(name) for name in held.keys() - {"0", "1", "2"})
    assert sorted(held) == ["0", "1", "2"]
    assert os.readlink(shared).startswith("/memfd:darkroom-file")
    status = (shared.parent.parent / "fdinfo" / shared.name).read_text()
    (flags,) = re.findall(r"^flags:\s*(\d+)", status, re.MULTILINE)
    assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY
    rows = re.findall(
        r"^Max (.+?)  +(\w+) +(\w+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE
    )
    limits = {name: (soft, hard) for name, soft, hard in rows}
    assert limits["core file size"] == ("0", "0")
    assert all(int(each) <= 3 for each in limits["open files"])
    bound = int(limits["address space"][0])
    assert bound <= LIBRARIES_BYTES + SMALL.memory_bytes + DecoderLimits().spare_bytes
    pool.close()
    assert not is_running(pid)


def test_a_file_is_held_to_the_cost_that_was_set_aside(obeying: DecoderPool) -> None:
    def is_had(size_bytes: int, cost: Cost) -> bool:
        try:
            make_picture(obeying, ordered(f"bytearray({size_bytes})"), None, cost)
        except UndecodablePicture:
            return False
        return True

    small = Cost(8 * MIB, 0.01)
    large = Cost(300 * MIB, 0.01)
    assert is_had(250 * MIB, large) and not is_had(250 * MIB, small) and is_had(250 * MIB, large)
    assert is_had(8 * MIB, small), "what was set aside can be had"


# A picture that is one of ours, and another's that a decoder may have planted.
OURS = image_utils.process_profile_image(PICTURE).content
MADE = Made(len(OURS), 300, 300, "#102030", "A" * 32, ("exif",), ())
OTHER_SIDES = image_utils.make_master(PICTURE).content
PLANTED = image_utils.process_profile_image(jpeg(32, 32)).content
REFUSAL = Refused("broken_picture", 5).to_bytes()
BROKEN = BrokenPicture.sentence.encode()
HOSTILE_ANSWERS = {
    "HTML behind the signature": MADE.to_bytes() + b"\xff\xd8<html>".ljust(len(OURS)),
    "sides that are not those of the JPEG": dataclasses.replace(
        MADE, following_bytes=len(OTHER_SIDES)
    ).to_bytes() + OTHER_SIDES,
    "sides that nobody asked for": dataclasses.replace(
        MADE, following_bytes=len(OTHER_SIDES), width_px=64, height_px=48
    ).to_bytes() + OTHER_SIDES,
    "a comment within": dataclasses.replace(MADE, following_bytes=len(OURS) + 8).to_bytes()
    + OURS[:2]
    + b"\xff\xfe\0\x06evil"
    + OURS[2:],
    "bytes behind the end": dataclasses.replace(MADE, following_bytes=len(OURS) + 5).to_bytes()
    + OURS
    + b"<?php",
    "a length that lies": MADE.to_bytes()[:1] + b"\xff" * 4 + MADE.to_bytes()[5:] + OURS,
    "nested JSON": b"[" * 900_000,
    "a sentence that is none": REFUSAL + b"\xff\xfe\0\0\0",
    "a sentence of its own": Refused("broken_picture", 26).to_bytes()
    + b"Log in again at evil.test.",
    "a refusal that is not its own": Refused("wrong_password", 5).to_bytes() + b"Hello",
}  # fmt: skip


def said_by_decoder(answer: bytes, end: str = "os.read(0, 1)\nos._exit(0)") -> bytes:
    """A file whose decoder says this, and ends when the service has had enough of it."""
    return ordered(f"""
said = {answer!r}
while said:
    said = said[os.write(0, said):]
{end}
""")


def test_a_picture_of_ours_is_taken_and_named_by_the_service(obeying: DecoderPool) -> None:
    picture = make_picture(obeying, said_by_decoder(MADE.to_bytes() + OURS))
    assert picture.content == OURS
    assert re.fullmatch(r"[0-9a-f]{32}\.jpg", picture.filename)
    assert (picture.content_type, picture.width_px) == ("image/jpeg", 300)
    assert picture.sha256 == sha256(OURS).hexdigest()


@pytest.mark.parametrize("lie", HOSTILE_ANSWERS)
def test_a_hostile_answer_is_a_dead_decoder_and_one_refused_upload(
    obeying: DecoderPool, lie: str
) -> None:
    with pytest.raises(UndecodablePicture):
        make_picture(obeying, said_by_decoder(HOSTILE_ANSWERS[lie]))
    assert obeying._alive == set()
    assert make_picture(obeying, PICTURE).content == OURS


OUR_CLEAR = image_utils.process_profile_image(SEE_THROUGH, background=CLEAR)
MADE_CLEAR = Made.of(OUR_CLEAR)
WITH_EXIF = OUR_CLEAR.content[:20] + b"\x18" + OUR_CLEAR.content[21:]
LIES_ABOUT_TRANSPARENCY = {
    "a WebP that is said to be a JPEG": dataclasses.replace(
        MADE_CLEAR, format=RenditionFormat.JPEG
    ).to_bytes()
    + OUR_CLEAR.content,
    "a JPEG that is said to be a WebP": dataclasses.replace(
        MADE, format=RenditionFormat.WEBP
    ).to_bytes()
    + OURS,
    "a WebP that may have EXIF": MADE_CLEAR.to_bytes() + WITH_EXIF,
}


def test_a_transparent_picture_of_ours_is_taken_where_it_may_be_one(obeying: DecoderPool) -> None:
    said = said_by_decoder(MADE_CLEAR.to_bytes() + OUR_CLEAR.content)
    with pytest.raises(UndecodablePicture):
        make_picture(obeying, said)
    picture = make_picture(obeying, said, background=CLEAR)
    assert picture.content == OUR_CLEAR.content
    assert re.fullmatch(r"[0-9a-f]{32}\.webp", picture.filename)
    assert picture.content_type == "image/webp"


@pytest.mark.parametrize("lie", LIES_ABOUT_TRANSPARENCY)
def test_a_transparent_picture_that_is_none_is_a_dead_decoder(
    obeying: DecoderPool, lie: str
) -> None:
    said = said_by_decoder(LIES_ABOUT_TRANSPARENCY[lie])
    with pytest.raises(UndecodablePicture):
        make_picture(obeying, said, background=CLEAR)
    assert idle_pids(obeying) == []


OUR_MASTER = image_utils.make_master(PICTURE)
MADE_MASTER = dataclasses.replace(
    MADE, following_bytes=len(OUR_MASTER.content), width_px=64, height_px=48
)
LIES_ABOUT_SIDES = {
    "a square for a master": MADE.to_bytes() + OURS,
    "sides that are not the file's": dataclasses.replace(MADE_MASTER, height_px=49).to_bytes()
    + OUR_MASTER.content,
    "sides that are not the picture's": dataclasses.replace(
        MADE_MASTER, width_px=48, height_px=64
    ).to_bytes()
    + OUR_MASTER.content,
}


def test_a_master_of_ours_is_taken(obeying: DecoderPool) -> None:
    master = make_master(obeying, said_by_decoder(MADE_MASTER.to_bytes() + OUR_MASTER.content))
    assert master.content == OUR_MASTER.content
    assert (master.width_px, master.height_px) == (64, 48)


@pytest.mark.parametrize("lie", LIES_ABOUT_SIDES)
def test_sides_that_lie_are_a_dead_decoder(obeying: DecoderPool, lie: str) -> None:
    with pytest.raises(UndecodablePicture):
        make_master(obeying, said_by_decoder(LIES_ABOUT_SIDES[lie]))
    assert idle_pids(obeying) == []
    if lie == "a square for a master":
        with pytest.raises(UndecodablePicture):
            make_picture(obeying, said_by_decoder(MADE_MASTER.to_bytes() + OUR_MASTER.content))


# Of a file that is larger than a thumbnail: its master has other sides.
LARGE = jpeg(400, 300)
OUR_THUMBNAIL = image_utils.make_thumbnail(LARGE)
MASTER_OF_LARGE = image_utils.make_master(LARGE)


def say_whole(picture: ProcessedImage) -> bytes:
    """What a file says that has its decoder answer with this picture; it is as LARGE."""
    made = dataclasses.replace(
        MADE,
        following_bytes=len(picture.content),
        width_px=picture.width_px,
        height_px=picture.height_px,
    )
    return LARGE + said_by_decoder(made.to_bytes() + picture.content)[len(PICTURE) :]


def test_a_thumbnail_of_ours_is_taken_and_a_master_is_none(obeying: DecoderPool) -> None:
    thumbnail = make_thumbnail(obeying, say_whole(OUR_THUMBNAIL))
    assert thumbnail.content == OUR_THUMBNAIL.content
    assert (thumbnail.width_px, thumbnail.height_px) == (300, 225)
    with pytest.raises(UndecodablePicture):
        make_thumbnail(obeying, say_whole(MASTER_OF_LARGE))
    assert idle_pids(obeying) == []
    assert make_master(obeying, say_whole(MASTER_OF_LARGE)).content == MASTER_OF_LARGE.content
    with pytest.raises(UndecodablePicture):
        make_master(obeying, say_whole(OUR_THUMBNAIL))


RENDERED = [picture.content for picture in image_utils.make_renditions(PICTURE, RENDITIONS)]


def say_renditions(files: list[bytes]) -> bytes:
    """What a decoder says when it has made these, of which some may be others'."""
    return b"".join(
        Rendered(rendition, len(file)).to_bytes() + file
        for rendition, file in zip(RENDITIONS, files, strict=False)
    )


OUR_WEBP, OUR_AVIF, OUR_JPEG = RENDERED
WEBP_WITH_EXIF = encoded(quarters(40, 30), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
# The rest are told apart without a process, in tests/unit/test_served_files.py and others.
LIES_ABOUT_RENDITIONS = {
    "EXIF within": say_renditions([WEBP_WITH_EXIF, OUR_AVIF, OUR_JPEG]),
    "bytes behind the second": say_renditions([OUR_WEBP, OUR_AVIF + b"<?php", OUR_JPEG]),
    "other sides": say_renditions([OUR_WEBP, OUR_AVIF, encoded(quarters(30, 40))]),
    "a refusal behind two": say_renditions([OUR_WEBP, OUR_AVIF])
    + Refused("broken_picture", len(BROKEN)).to_bytes()
    + BROKEN,
}


def test_renditions_of_ours_are_taken_and_a_hostile_answer_is_one_refused_render(
    obeying: DecoderPool,
) -> None:
    made = make_renditions(obeying, said_by_decoder(say_renditions(RENDERED)))
    assert [picture.content for picture in made] == RENDERED
    for lie, answer in LIES_ABOUT_RENDITIONS.items():
        with pytest.raises(UndecodablePicture):
            make_renditions(obeying, said_by_decoder(answer))
        assert obeying._alive == set(), lie
    one_missing = said_by_decoder(say_renditions([OUR_WEBP, OUR_AVIF]), end="os._exit(0)")
    with pytest.raises(UndecodablePicture):
        make_renditions(obeying, one_missing)
    assert [picture.content for picture in make_renditions(obeying, PICTURE)] == RENDERED


def test_a_stored_master_is_fetched_in_its_slot_and_rendered_by_a_decoder() -> None:
    """Also a large one: what an encoder asks of the system may depend on the size."""
    size = (1600, 1200)
    master = image_utils.make_master(jpeg(*size)).content
    renditions = [
        resolve_rendition(*asked, file_format, size)
        for asked in ((1600, 0, Fit.INSIDE), (300, 300, Fit.COVER))
        for file_format in RenditionFormat
    ]
    cost = price_renditions(size, len(master), renditions)
    wanted = [picture.sha256 for picture in image_utils.make_renditions(master, renditions)]

    async def use(pool: DecoderPool) -> None:
        decoding = Decoding(pool, Settings(_env_file=None))
        before = decoding._slots.cores.free

        async def fetch() -> bytes:
            assert before - decoding._slots.cores.free == Amounts(1, cost.memory_bytes)
            return master

        made = await decoding.render(cost, fetch, renditions)
        assert [picture.sha256 for picture in made] == wanted
        larger = [Rendition(1601, 48, Fit.COVER, RenditionFormat.JPEG)]
        with pytest.raises(ValueError, match="rendition"):
            await decoding.render(cost, fetch, larger)
        assert decoding._slots.cores.free == before

    with contextlib.closing(DecoderPool()) as pool:
        asyncio.run(use(pool))
        (pid,) = idle_pids(pool)
        assert count_threads(pid) == 1


def test_a_stored_file_is_fetched_in_its_slot_and_its_master_made_by_a_decoder() -> None:
    content = phone_photo(2400, 1800) + bytes(100)
    watch = HeaderWatch(DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS)
    watch.feed(content)
    arrived = watch.finish()

    async def make(pool: DecoderPool) -> ProcessedImage:
        decoding = Decoding(pool, Settings(_env_file=None))

        async def fetch() -> bytes:
            assert decoding._slots.cores.free.common == (os.cpu_count() or 1) - 1
            return content[: arrived.picture_bytes]

        return await decoding.make_master(arrived.cost, fetch, [1])

    with contextlib.closing(DecoderPool()) as pool:
        master = asyncio.run(make(pool))
    assert master.sha256 == image_utils.make_master(content).sha256


def test_an_answer_that_is_cut_off_is_one_refused_upload(obeying: DecoderPool) -> None:
    cut_off = said_by_decoder(MADE.to_bytes() + OURS[:-1], end="os._exit(0)")
    with pytest.raises(UndecodablePicture):
        make_picture(obeying, cut_off)
    assert make_picture(obeying, PICTURE).content == OURS


def test_what_a_decoder_says_before_it_is_asked_is_nobodys_picture(obeying: DecoderPool) -> None:
    planted = dataclasses.replace(MADE, following_bytes=len(PLANTED)).to_bytes() + PLANTED
    answered_twice = MADE.to_bytes() + OURS + planted
    plant = f"decoder.Made.to_bytes = lambda _: {answered_twice!r}"
    assert make_picture(obeying, ordered(plant)).content == OURS
    (liar,) = idle_pids(obeying)
    assert make_picture(obeying, PICTURE).content == OURS
    assert not is_running(liar)


def test_a_byte_a_second_does_not_hold_a_decoder_for_ever(
    make_obeying: Callable[..., DecoderPool],
) -> None:
    patient = DecoderLimits(least_cpu_seconds=SHORT_CPU_SECONDS, times_the_cpu_seconds=4)
    pool = make_obeying(patient)
    dribble = f"""
for byte in {MADE.to_bytes() + OURS!r}:
    time.sleep(0.2)
    os.write(0, bytes([byte]))
"""
    with pytest.raises(DecoderUnavailable):
        make_picture(pool, ordered(dribble))
    assert idle_pids(pool) == []


def test_what_a_decoder_writes_is_one_line_of_the_log_and_bounded(
    obeying: DecoderPool, caplog: pytest.LogCaptureFixture
) -> None:
    forge = "sys.stderr.write('\\x1b[31m\\nINFO all is well\\n')"
    make_picture(obeying, ordered(forge))
    (line,) = caplog.messages
    assert line.endswith(r" said: \x1b[31m\nINFO all is well")
    caplog.clear()
    flood = """
for _ in range(1000):
    try:
        os.write(2, b'\\xff' * 1000)
    except BlockingIOError:
        break
"""
    make_picture(obeying, ordered(flood))
    assert sum(map(len, caplog.messages)) < 2 * MOST_SAID_BYTES
    caplog.clear()
    many_lines = "os.write(2, b'a warning\\n' * 3000 + b'the reason of its end')"
    make_picture(obeying, ordered(many_lines))
    assert caplog.messages[0].endswith(r"a warning\nthe reason of its end")
    assert len(caplog.messages[0]) < 2 * MOST_SAID_BYTES


def test_a_decoder_is_replaced_now_and_then(make_obeying: Callable[..., DecoderPool]) -> None:
    pool = make_obeying(DecoderLimits(most_pictures=3))
    used = [ask_inside(pool, "found = os.getpid()") for _ in range(8)]  # and one to begin with
    assert used[:2] == [used[0]] * 2
    assert used[2:5] == [used[2]] * 3
    assert used[5:] == [used[5]] * 3
    assert len(set(used)) == 3
    wait_until(lambda: idle_pids(pool), "the next picture need not wait for it")
    (successor,) = idle_pids(pool)
    assert successor not in used
    wait_until(lambda: len(pool._alive) == 1, "the worn one has ended")
    assert zombies() == []


def test_the_answer_comes_before_the_replacement_which_is_none_too_many(
    make_obeying: Callable[..., DecoderPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_obeying(DecoderLimits(most_pictures=2))
    (first,) = pool._idle
    answered = threading.Event()
    replace = pool._replace

    def replace_later(decoder: DecoderProcess) -> None:
        answered.wait(10)
        replace(decoder)

    monkeypatch.setattr(pool, "_replace", replace_later)
    make_picture(pool, PICTURE)
    assert first.is_alive, "the answer did not wait for its end"
    make_picture(pool, PICTURE)
    answered.set()
    wait_until(lambda: first not in pool._alive, "the worn one has ended")
    assert len(pool._alive) == 1, "the next picture's decoder is the successor"


# Code that works on behind the answer, in a thread; that waits in one for the next picture; that
# works on behind the next answer, in no thread of its own.
WORK_ON = "import threading\nthreading.Thread(target=exec, args=('while True: pass',)).start()"
LIE_IN_WAIT = "import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()"
WORK_ON_ALONE = """
def answer(*given, real=decoder._answer):
    real(*given)
    while True: pass
decoder._answer = answer
"""


def test_a_decoder_that_worked_while_it_had_no_picture_gets_no_other(
    make_obeying: Callable[..., DecoderPool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_obeying(DecoderLimits(look_seconds=600))
    make_picture(pool, ordered(WORK_ON))
    (decoder,) = pool._idle
    wait_until(lambda: decoder.worked_unasked, "it worked")
    make_picture(pool, PICTURE)
    assert not is_running(decoder.pid)
    assert caplog.messages == [WORKED_UNASKED]
    assert [vars(line)["event"] for line in caplog.records] == [Event.DECODER_KILLED]


@pytest.mark.parametrize(
    "files", [[ordered(WORK_ON)], [ordered(LIE_IN_WAIT)], [ordered(WORK_ON_ALONE), PICTURE]]
)
def test_what_works_or_hides_in_an_idle_decoder_is_found_without_a_picture(
    make_obeying: Callable[..., DecoderPool], caplog: pytest.LogCaptureFixture, files: list[bytes]
) -> None:
    pool = make_obeying(DecoderLimits(look_seconds=0.05))
    (first,) = pool._alive
    pool._idle.insert(0, pool._start())  # below it
    for content in files:
        make_picture(pool, content)
    wait_until(lambda: not is_running(first.pid), "it was ended")
    wait_until(lambda: len(pool._alive) == 1, "the other one is kept")
    assert caplog.messages == [WORKED_UNASKED]
    assert [vars(line)["event"] for line in caplog.records] == [Event.DECODER_KILLED]


def test_idle_decoders_that_had_a_picture_and_are_old_are_ended_and_one_is_left(
    make_obeying: Callable[..., DecoderPool],
) -> None:
    pool = make_obeying(DecoderLimits(look_seconds=0.05))
    old = list(pool._alive)
    pool._limits = DecoderLimits(most_seconds=0, look_seconds=0.05)
    wait_until(lambda: len(pool._idle) == 1 and pool._idle != old, "it was replaced")
    (successor,) = pool._idle
    wait_until(lambda: pool._alive == {successor}, "the old one is forgotten")
    successor.pictures = 1
    pool._idle.append(pool._start())  # without a picture, which is no reason to end it
    wait_until(lambda: successor not in pool._alive, "it was ended")
    assert len(pool._idle) == 1
    assert pool._idle[0].pictures == 0


def test_an_old_decoder_is_replaced_behind_its_next_picture(
    make_obeying: Callable[..., DecoderPool],
) -> None:
    pool = make_obeying()
    (first,) = idle_pids(pool)
    pool._limits = DecoderLimits(most_seconds=0)
    make_picture(pool, PICTURE)
    wait_until(lambda: not is_running(first), "the first has ended")
    (second,) = idle_pids(pool)
    assert first != second


def test_nothing_is_left_of_two_hundred_pictures_with_failures_among_them(
    impatient: DecoderPool,
) -> None:
    orders = {20: HANG, 60: CRASH, 61: KILLED, 100: RAISE, 140: BALLOON, 180: BABBLE}
    descriptors = set(os.listdir("/proc/self/fd"))

    def outcome(number: int) -> str:
        try:
            make_picture(impatient, ordered(orders[number]) if number in orders else PICTURE)
        except DarkroomError as err:
            return err.code
        return "made"

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(outcome, range(200)))
    assert [outcomes[number] for number in sorted(orders)].count("undecodable_picture") == 5
    assert outcomes[61] == "decoder_unavailable" and outcomes.count("made") == 194
    assert len(idle_pids(impatient)) <= 2
    impatient.close()
    assert len(set(os.listdir("/proc/self/fd"))) < len(descriptors), (
        "the first decoder's is closed as well"
    )
    assert zombies() == []


def test_a_decoder_does_not_grow(obeying: DecoderPool) -> None:
    grown = []
    (pid,) = idle_pids(obeying)
    for _ in range(2):
        for content in list(FILES.values()) * 8:
            make_picture(obeying, content)
        grown.append(
            int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
        )
    assert idle_pids(obeying) == [pid]
    assert grown[1] - grown[0] <= 2 * MIB, "a thousand pictures would not fit in"


def test_no_parser_is_loaded_that_is_not_needed(obeying: DecoderPool) -> None:
    for content in FILES.values():
        make_picture(obeying, content)
    found = ask_inside(
        obeying, "found = sorted(name for name in sys.modules if name.endswith('ImagePlugin'))"
    )
    own = {f"PIL.{name}ImagePlugin" for name in ("Avif", "Gif", "Jpeg", "Png", "Tiff", "WebP")}
    assert isinstance(found, list) and set(found) == own, "Tiff reads EXIF"


def test_two_pools_in_one_process_do_not_disturb_each_other(
    make_obeying: Callable[..., DecoderPool],
) -> None:
    one = make_obeying(IMPATIENT)
    other = make_obeying(DecoderLimits(most_pictures=2))
    theirs = idle_pids(other)
    assert not set(idle_pids(one)) & set(theirs)
    with pytest.raises(UndecodablePicture):
        make_picture(one, ordered(HANG))
    for _ in range(5):
        make_picture(one, PICTURE)
    assert len(idle_pids(one)) == 1, "the other's limit ended one of ours"
    one.close()
    assert idle_pids(other) == theirs
    assert is_running(theirs[0])
    assert ask_inside(other, "found = os.getpid()") == theirs[0]
    assert theirs[0] not in idle_pids(other), "its own limit holds"


def test_whoever_has_a_picture_in_work_or_comes_later_is_told_of_the_end(
    obeying: DecoderPool,
) -> None:
    (first,) = idle_pids(obeying)
    stay = f"os.getpid() == {first} and os.kill({first}, signal.SIGKILL)\ntime.sleep(600)"
    with ThreadPoolExecutor() as threads:
        busy = threads.submit(make_picture, obeying, ordered(stay))
        wait_until(lambda: pids_at_work(obeying) - {first}, "the second decoder is at work")
        obeying.close()
        assert isinstance(busy.exception(), ShuttingDown)
    for _ in range(2):
        with pytest.raises(ShuttingDown):
            make_picture(obeying, PICTURE)
    assert zombies() == []
    assert obeying._alive == set()


def test_over_http_a_ruinous_file_is_a_400_and_others_are_served_at_the_same_time(
    new_database: Callable[[], str], store_settings: dict[str, str], tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(OBEYING)
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path / "data"),
        **store_settings,
    }
    service = launched(settings, {"pictures.pool.PROGRAM": [str(program)]})
    service.start()
    try:
        alice = service.register("alice")
        bob = service.register("bob")
        shown = service.patch_picture(alice, PICTURE).json()["image_file"]
        for order in (HANG, BALLOON, CRASH):
            answers: list[int] = []
            with ThreadPoolExecutor() as threads:
                lost = threads.submit(service.patch_picture, alice, ordered(order))
                while not (lost.done() and answers):
                    answers.append(service.patch_picture(bob, PICTURE).status_code)
            assert_problem(lost.result(), 400, "undecodable_picture")
            assert set(answers) == {200}
        answer = service.patch_picture(alice, ordered(KILLED))
        assert_problem(answer, 503, "decoder_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        with service.client(alice) as client:
            assert client.get("/users/me").json()["image_file"] == shown, (
                "the account keeps its picture"
            )
    finally:
        service.stop()
    assert "Traceback" not in service.log()
    lines = [json.loads(line) for line in service.log().splitlines() if '"event"' in line]
    killed = [line for line in lines if line["event"] == Event.DECODER_KILLED]
    assert len(killed) >= 4, "each that a file ruined"
    assert {line["account"] for line in killed} == {alice.id}


def test_decoders_of_the_gallery_let_others_go_before() -> None:
    with contextlib.closing(DecoderPool(niceness=10)) as nice_pool:
        nice_pool.warm()
        nice_pool.wait_until_warm()
        (decoder,) = nice_pool._alive
        pid = decoder._process.pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == decoder_program.NICENESS + 10
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            assert group.read_text().split()[-1] == "10"
        other = DecoderPool()
        other.require_what_is_required_of(nice_pool)
        assert other._required_layers == nice_pool._required_layers != NO_LAYER
