"""Proves that a picture which hangs, balloons or
kills its decoder costs its own upload and no other.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pillow_heif
import pytest

import image_utils
from config import MIB
from errors import DarkroomError, DecoderUnavailable, NotAPicture, UndecodablePicture
from image_utils import ProcessedImage
from pictures import decoder
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS, Cost, Crop
from tests.support.launched import launched
from tests.support.pictures import corners, encoded, jpeg, phone_photo, quarters
from tests.support.services import ROOT, assert_problem, wait_until

pillow_heif.register_heif_opener()

# A decoder that does what the file tells it to, as one does that a file took over.
OBEYING = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import ctypes, json, os, signal, socket, time
import errors, image_utils
from pictures import decoder

real = image_utils.process_profile_image

def process(content, *arguments, **options):
    exec(content.partition(b"ORDER: ")[2])
    return real(content, *arguments, **options)

image_utils.process_profile_image = process
decoder._serve(socket.socket(fileno=0))
"""
PICTURE = jpeg(64, 48)
HANG = "while True: pass"
BALLOON = "kept = []\nwhile True: kept.append(bytes(1 << 20))"
CRASH = "os.kill(os.getpid(), signal.SIGSEGV)"
ABORT = "os.abort()"
LEAVE = "os._exit(0)"
RAISE = "raise ValueError('not one of ours')"
BABBLE = "os.write(0, b'nonsense\\n')"
NO_OBJECT = "os.write(0, b'[]\\n')"
NO_SUCH_REFUSAL = """os.write(0, b'{"refusal": "none", "sentence": ""}\\n')"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
# Enough for a picture of this size; and so little that
# a test need not wait long for a file that hangs.
SMALL = Cost(8 * MIB, 0.01)
SHORT_CPU_SECONDS = 0.3
# So that only the time on the processor counts, however busy the machine is.
ANY_TIME = 1000
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
}
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


def made(content: bytes, crop: Crop | None = None, cost: Cost = SMALL) -> ProcessedImage:
    return decoder.process_profile_image(
        content, cost, crop, DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS
    )


def told(code: str) -> object:
    """What this code, run in the decoder, leaves in `found`; a refusal's sentence brings it out."""
    with pytest.raises(NotAPicture) as refusal:
        made(ordered(f"{code}\nraise errors.NotAPicture(json.dumps(found))"))
    return json.loads(refusal.value.detail)


def pids() -> list[int]:
    """The decoders that have nothing to do, the one that is used next last."""
    return [each._process.pid for each in decoder._idle]


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
        each for each in stats if each.rpartition(")")[2].split()[:2] == ["Z", str(os.getpid())]
    ]


@pytest.fixture
def genuine() -> Iterator[None]:
    """One decoder, as the service starts it."""
    decoder.close()
    decoder.warm()
    yield
    decoder.close()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that is run as decoder from now on."""
    decoder.close()
    path = tmp_path / "program.py"
    monkeypatch.setattr(decoder, "PROGRAM", (str(path),))
    yield path
    decoder.close()


@pytest.fixture
def obeying(program: Path) -> None:
    """One decoder that does what files tell it to, and has imported all that it needs."""
    program.write_text(OBEYING)
    made(PICTURE)


@pytest.fixture
def impatient(obeying: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with little time on the processor and as much on the clock as it takes."""
    monkeypatch.setattr(decoder, "LEAST_CPU_SECONDS", SHORT_CPU_SECONDS)
    monkeypatch.setattr(decoder, "TIMES_THE_CPU_SECONDS", ANY_TIME)


def test_a_decoder_gives_exactly_what_the_image_step_gives(genuine: None) -> None:
    crops = (None, Crop(10, 20, 200))
    for name, content in FILES.items():
        for crop in crops:
            here = image_utils.process_profile_image(content, crop)
            there = made(content, crop)
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
            made(content, Crop(0, 0, 9999))
        assert type(here_refused.value) is type(there_refused.value), name
        assert here_refused.value.detail == there_refused.value.detail, name
    assert len(pids()) == 1, "one decoder did it all"


@pytest.mark.parametrize(
    "order",
    [HANG, BALLOON, CRASH, ABORT, LEAVE, RAISE, BABBLE, NO_OBJECT, NO_SUCH_REFUSAL],
    ids=lambda order: order,
)
def test_a_file_that_ruins_its_decoder_costs_its_own_upload_only(
    impatient: None, order: str
) -> None:
    with pytest.raises(UndecodablePicture):
        made(ordered(order))
    assert corners(made(PICTURE).content) == ["red", "green", "blue", "white"]
    assert zombies() == []


def test_a_decoder_that_hangs_does_not_disturb_the_others(impatient: None) -> None:
    with ThreadPoolExecutor() as threads:
        lost = [threads.submit(made, ordered(order)) for order in (HANG, CRASH)]
        good = [threads.submit(made, PICTURE) for _ in range(20)]
        assert {each.result().sha256 for each in good} == {made(PICTURE).sha256}
        assert [type(each.exception()) for each in lost] == [UndecodablePicture] * 2


def test_a_file_that_spoils_its_decoder_does_not_cost_the_next_upload(obeying: None) -> None:
    """As a file does that ruins the heap, which nobody notices until it is used again."""
    spoil = "image_utils.process_profile_image = lambda *_, **__: os.abort()"
    made(ordered(spoil))
    (spoilt,) = pids()
    assert corners(made(PICTURE).content) == ["red", "green", "blue", "white"]
    assert not is_running(spoilt)


def test_decoders_that_are_killed_while_they_have_nothing_to_do_cost_no_upload(
    obeying: None,
) -> None:
    decoder._idle.extend(decoder._Decoder() for _ in range(3))
    killed = pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert made(PICTURE).sha256 == made(PICTURE).sha256


def test_a_picture_whose_decoder_is_killed_is_decoded_by_another(obeying: None) -> None:
    (first,) = pids()
    made(ordered(f"os.getpid() == {first} and os.kill(os.getpid(), signal.SIGKILL)"))
    assert first not in pids() and zombies() == []


def test_when_decoders_are_killed_again_and_again_the_client_may_try_later(obeying: None) -> None:
    with pytest.raises(DecoderUnavailable) as refusal:
        made(ordered(KILLED))
    assert refusal.value.headers == {"Retry-After": "2"}


@pytest.mark.parametrize("start", ["raise SystemExit(1)", "import no_such_module", KILLED])
def test_a_decoder_that_cannot_start_is_no_fault_of_the_file(program: Path, start: str) -> None:
    program.write_text(f"import os, signal\n{start}")
    with pytest.raises(DecoderUnavailable):
        made(PICTURE)


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
    made(PICTURE)
    assert once.exists()


def test_a_decoder_that_no_longer_moves_is_given_up_and_killed(
    obeying: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "LEAST_CPU_SECONDS", SHORT_CPU_SECONDS)
    (stopped,) = pids()
    os.kill(stopped, signal.SIGSTOP)
    made(PICTURE)  # by another one: that the machine stands still is not the file's fault
    assert not is_running(stopped) and zombies() == []


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_the_service_does_not_end_a_decoder_before_its_picture_is_done(
    obeying: None, number: str
) -> None:
    (pid,) = pids()
    assert os.getsid(pid) == pid, "Ctrl-C reaches it"
    made(ordered(f"os.kill(os.getpid(), signal.{number})"))
    assert pids() == [pid]


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_a_decoder_ends_with_its_service(end: signal.Signals | None) -> None:
    code = "import sys, decoder; decoder.warm(); print(decoder._idle[0]._process.pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1) as service:
        assert service.stdin and service.stdout
        pid = int(service.stdout.readline())
        assert is_running(pid)
        service.stdin.close() if end is None else service.send_signal(end)
        wait_until(lambda: not is_running(pid), "the decoder ended")


def test_a_decoder_holds_nothing_of_the_service_and_is_limited(
    genuine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.close()  # and started again with these
    for name in ("SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "a secret")
    with open(os.devnull) as inheritable:
        os.set_inheritable(inheritable.fileno(), True)
        decoder.warm()
        made(PICTURE)
    (pid,) = pids()
    names = {
        each.partition(b"=")[0] for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    }
    assert all(name.startswith(b"MALLOC_") for name in names - {b""}), names
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    rows = re.findall(
        r"^Max (.+?)  +(\w+) +(\w+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE
    )
    limits = {name: (soft, hard) for name, soft, hard in rows}
    assert limits["core file size"] == ("0", "0")
    assert all(int(each) <= 3 for each in limits["open files"])
    bound = int(limits["address space"][0])
    assert bound <= LIBRARIES_BYTES + SMALL.memory_bytes + len(PICTURE) + decoder.SPARE_BYTES


def test_code_in_a_decoder_opens_neither_files_nor_connections(obeying: None) -> None:
    tries = (
        "open('/etc/passwd')",
        "open('/proc/self/environ')",
        "socket.socket()",
        "socket.socketpair()",
        "os.pipe()",
        "os.dup(0)",
        "(os.close(1), os.open('/etc/passwd', os.O_RDONLY))",
        "(os.close(2), socket.socket())",
    )
    code = f"found = []\nfor each in {tries!r}:\n    try: eval(each); found.append(each)\n    except OSError: pass"
    assert told(code) == []


def test_a_file_is_held_to_the_cost_that_was_set_aside(obeying: None) -> None:
    def is_had(size_bytes: int, cost: Cost) -> bool:
        try:
            made(ordered(f"bytearray({size_bytes})"), None, cost)
        except UndecodablePicture:
            return False
        return True

    small = Cost(8 * MIB, 0.01)
    large = Cost(300 * MIB, 0.01)
    assert is_had(250 * MIB, large) and not is_had(250 * MIB, small) and is_had(250 * MIB, large)
    assert is_had(8 * MIB, small), "what was set aside can be had"


def test_a_decoder_that_was_taken_over_is_not_believed(obeying: None) -> None:
    lies = {
        "filename": "../../main.py",
        "content_type": "text/html",
        "sha256": "0" * 64,
        "width_px": 10**9,
    }
    told_so = {**{k: v for k, v in vars(made(PICTURE)).items() if k != "content"}, **lies}

    def answer(length: int, sent: int) -> ProcessedImage | None:
        line = json.dumps({**told_so, "length": length}).encode() + b"\n"
        code = f"socket.socket(fileno=os.dup2(0, 1)).sendall({line!r} + b'<html>' + bytes({sent}))\nos._exit(0)"
        try:
            return made(ordered(code))
        except UndecodablePicture:
            return None

    for length, sent in ((1000, 1000), (-1, 4 * MIB), (10**9, 4 * MIB)):
        picture = answer(length, sent)
        if picture is not None:
            assert len(picture.content) <= decoder.MOST_ANSWER_BYTES
            assert re.fullmatch(r"[0-9a-f]{32}\.jpg", picture.filename)
            assert (picture.content_type, picture.width_px) == ("image/jpeg", 300)
            assert picture.sha256 == sha256(picture.content).hexdigest()
            assert picture.content.startswith(b"\xff\xd8"), "no JPEG is served as one"


def test_a_decoder_is_replaced_now_and_then(obeying: None, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.close()
    monkeypatch.setattr(decoder, "MOST_PICTURES", 3)
    used = []
    for _ in range(6):
        used.append(told("found = os.getpid()"))
    assert used[:3] == [used[0]] * 3 and used[3:] == [used[3]] * 3 and used[0] != used[3]
    assert pids() == [] and zombies() == []


def test_nothing_is_left_of_two_hundred_pictures_with_failures_among_them(impatient: None) -> None:
    orders = {20: HANG, 60: CRASH, 61: KILLED, 100: RAISE, 140: BALLOON, 180: BABBLE}
    descriptors = set(os.listdir("/proc/self/fd"))

    def outcome(number: int) -> str:
        try:
            made(ordered(orders[number]) if number in orders else PICTURE)
        except DarkroomError as err:
            return err.code
        return "made"

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(outcome, range(200)))
    assert [outcomes[number] for number in sorted(orders)].count("undecodable_picture") == 5
    assert outcomes[61] == "decoder_unavailable" and outcomes.count("made") == 194
    assert len(pids()) <= 2
    decoder.close()
    assert len(set(os.listdir("/proc/self/fd"))) < len(descriptors), (
        "the first decoder's is closed as well"
    )
    assert zombies() == []


def test_a_decoder_does_not_grow(obeying: None) -> None:
    grown = []
    (pid,) = pids()
    for _ in range(2):
        for content in list(FILES.values()) * 8:
            made(content)
        grown.append(
            int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
        )
    assert pids() == [pid]
    assert grown[1] - grown[0] <= 2 * MIB, "a thousand pictures would not fit in"


def test_no_parser_is_loaded_that_is_not_needed(obeying: None) -> None:
    for content in FILES.values():
        made(content)
    found = told("found = sorted(name for name in sys.modules if name.endswith('ImagePlugin'))")
    own = {f"PIL.{name}ImagePlugin" for name in ("Avif", "Gif", "Jpeg", "Png", "Tiff", "WebP")}
    assert isinstance(found, list) and set(found) == own, "Tiff reads EXIF"


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
    constants = (
        f"from pictures import decoder; decoder.PROGRAM = ({str(program)!r},)",
        "decoder.LEAST_CPU_SECONDS = 1.0",
    )
    service = launched(settings, *constants)
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
