"""The image step beside the textbook's.

`scripts/dev python -m benchmarks.image_step [--sizes 0.2 2 12] [--kinds jpeg png]` runs each
pipeline in a process of its own on one thread, first once for its memory, then in rounds that
alternate between the two. With `--check` it exits with 1 unless a 12-megapixel JPEG is as much
faster as it should be, and alike.
"""

import argparse
import gc
import importlib
import io
import math
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import accumulate, product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from PIL import AvifImagePlugin, Image, ImageChops, ImageDraw

# Kind -> Pillow's name of the format and how to save. Where an encoder is slow, its fastest speed:
# we only decode.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 90}),
    "progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "png": ("PNG", {"compress_level": 6}),
    "webp": ("WEBP", {"quality": 80, "method": 0}),
    "avif": ("AVIF", {"quality": 60, "speed": 10}),
    # In tiles, as phones write it.
    "heic": ("HEIF", {"quality": 60, "tile_size": 512, "enc_params": {"preset": "ultrafast"}}),
}
SIZES = (0.2, 2.0, 12.0, 48.0)
# Above it only a baseline JPEG is taken, which need not be decoded whole.
LARGEST_WHOLE_MEGAPIXELS = 25.0
# What a warm process has seen once before it is measured: codecs are loaded, tables built.
WARM_MEGAPIXELS = 0.05
# Others' work only ever adds to a round's time, so the least of them counts, and seven find it.
ROUNDS = 7
# What --check asks of a baseline JPEG of so many megapixels.
CHECKED_MEGAPIXELS = 12.0
NEEDED_RATIO = 3.2
NEEDED_SSIM = 0.975

MIB = 1024 * 1024
SSIM_WINDOW_PX = 8


@dataclass(frozen=True)
class Measured:
    """What one pipeline did with one file. A refusal has a sentence, and nothing else."""

    cpu_ms: float = math.nan
    peak_mib: float = math.nan  # more than before the first run
    served: bytes = b""
    refusal: str = ""


@dataclass(frozen=True)
class Row:
    """Both pipelines on one file."""

    kind: str
    megapixels: float
    file_bytes: int
    textbook: Measured
    darkroom: Measured

    @property
    def ratio(self) -> float:
        return self.textbook.cpu_ms / self.darkroom.cpu_ms

    @property
    def alikeness(self) -> float:
        if not (self.textbook.served and self.darkroom.served):
            return math.nan
        return compare_by_ssim(_open_grey(self.textbook.served), _open_grey(self.darkroom.served))

    def __str__(self) -> str:
        cells = (
            f"{self.kind:<12}{self.megapixels:>5g}{self.file_bytes / MIB:>8.2f}",
            _show(self.textbook.cpu_ms, 10, 1),
            _show(self.darkroom.cpu_ms, 10, 1),
            _show(self.ratio, 7, 2),
            _show(self.textbook.peak_mib, 10, 1),
            _show(self.darkroom.peak_mib, 10, 1),
            _show(self.alikeness, 8, 4),
        )
        refusals = {"textbook": self.textbook.refusal, "Darkroom": self.darkroom.refusal}
        told = (f"  {who}: {refusal}" for who, refusal in refusals.items() if refusal)
        return "".join(cells) + "".join(told)


def _show(value: float, width: int, digits: int) -> str:
    number = "-" if math.isnan(value) else f"{value:.{digits}f}"
    return number.rjust(width)


_WHOSE = f"{'textbook':>10}{'Darkroom':>10}"
HEADING = (
    f"{'':<17}{'file':>8}{_WHOSE}{'':>7}{_WHOSE}\n"
    f"{'kind':<12}{'MP':>5}{'MiB':>8}{'CPU ms':>10}{'CPU ms':>10}{'ratio':>7}"
    f"{'peak MiB':>10}{'peak MiB':>10}{'SSIM':>8}"
)


def draw_photo(width_px: int, height_px: int, seed: int = 1) -> Image.Image:
    """Draw what costs as much as a photo: things of every size, and grain.

    As JPEG it takes some 0.3 bytes a pixel.
    """
    rng = random.Random(seed)
    sizes = [(width_px, height_px)]
    while min(sizes[-1]) > 4:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    picture = Image.merge("RGB", [_draw_noise(rng, sizes[-1], 0.6) for _ in range(3)])
    for octave, size in enumerate(reversed(sizes[:-1])):
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(8 * (octave + 1)):
            x = rng.randrange(size[0])
            y = rng.randrange(size[1])
            radius = rng.uniform(1, min(60, *size) / 4)
            colour = (rng.randrange(30, 226), rng.randrange(30, 226), rng.randrange(30, 226))
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape((x - radius, y - radius, x + radius, y + radius), fill=colour)
        grain = _draw_noise(rng, size, max(0.3 * 0.72**octave, 0.07))
        picture = ImageChops.add(picture, Image.merge("RGB", (grain, grain, grain)), 1, -128)
    return picture


def _draw_noise(rng: random.Random, size: tuple[int, int], depth: float) -> Image.Image:
    flat = Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))
    return flat.point([round(128 + (value - 128) * depth) for value in range(256)])


def find_sides(megapixels: float) -> tuple[int, int]:
    """Find width and height of a picture of 4:3."""
    width_px = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    return width_px, round(width_px * 3 / 4)


def encode(picture: Image.Image, kind: str) -> bytes:
    """Make the file of a picture, as one of KINDS."""
    name, options = KINDS[kind]
    out = io.BytesIO()
    if name == "HEIF":
        importlib.import_module("pillow_heif").register_heif_opener()
    picture.save(out, name, **options)
    return out.getvalue()


def _open_grey(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as picture:
        return picture.convert("L")


def compare_by_ssim(picture: Image.Image, other: Image.Image) -> float:
    """The mean structural similarity (Wang et al. 2004) of two grey pictures of one size.

    In every 8 x 8 window.
    """
    x = picture.tobytes()
    y = other.tobytes()
    pixels = SSIM_WINDOW_PX**2
    steady_mean = (0.01 * 255) ** 2
    steady_contrast = (0.03 * 255) ** 2
    products = (
        x,
        y,
        [a * a for a in x],
        [b * b for b in y],
        [a * b for a, b in zip(x, y, strict=True)],
    )
    total = 0.0
    count = 0
    windows = (_sum_windows(values, picture.width) for values in products)
    for sums in zip(*windows, strict=True):
        mean_x, mean_y, square_x, square_y, product_xy = (value / pixels for value in sums)
        spread = square_x - mean_x**2 + square_y - mean_y**2
        together = product_xy - mean_x * mean_y
        total += ((2 * mean_x * mean_y + steady_mean) * (2 * together + steady_contrast)) / (
            (mean_x**2 + mean_y**2 + steady_mean) * (spread + steady_contrast)
        )
        count += 1
    return total / count


def _sum_windows(values: Sequence[int], width: int) -> list[int]:
    """The sums of all windows, line by line."""
    lines = [_sum_runs(values[start : start + width]) for start in range(0, len(values), width)]
    columns = [_sum_runs(column) for column in zip(*lines, strict=True)]
    return [value for line in zip(*columns, strict=True) for value in line]


def _sum_runs(values: Sequence[int]) -> list[int]:
    sums = [0, *accumulate(values)]
    return [high - low for low, high in zip(sums, sums[SSIM_WINDOW_PX:], strict=False)]


def measure(kind: str, megapixels: float, rounds: int, folder: Path) -> Row:
    """Run both pipelines on one picture, in turns."""
    file = folder / "file"
    warm_file = folder / "warm"
    file.write_bytes(encode(draw_photo(*find_sides(megapixels)), kind))
    warm_file.write_bytes(encode(draw_photo(*find_sides(WARM_MEGAPIXELS)), kind))
    with (
        _worker(_load_textbook, file, warm_file) as textbook,
        _worker(_load_darkroom, file, warm_file) as darkroom,
    ):
        first = (textbook.recv(), darkroom.recv())
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for worker, measured, taken in zip((textbook, darkroom), first, times, strict=True):
                if not measured.refusal:
                    worker.send(True)
                    taken.append(worker.recv())
    both = [
        replace(measured, cpu_ms=min(taken)) if taken else measured
        for measured, taken in zip(first, times, strict=True)
    ]
    return Row(kind, megapixels, file.stat().st_size, *both)


@contextmanager
def _worker(
    load: Callable[[], Callable[[bytes], bytes]], file: Path, warm_file: Path
) -> Iterator["Connection[Any, Any]"]:
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    process = processes.Process(target=_work, args=(theirs, load, file, warm_file), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _work(
    connection: "Connection[Any, Any]",
    load: Callable[[], Callable[[bytes], bytes]],
    file: Path,
    warm_file: Path,
) -> None:
    """Send what the first run needed at its peak, then, whenever asked, the CPU time of another."""
    make = load()
    content = file.read_bytes()
    try:
        make(warm_file.read_bytes())
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, at what is in use now
        before_mib = _peak_mib()
        served = make(content)
        connection.send(Measured(peak_mib=_peak_mib() - before_mib, served=served))
    except Exception as err:
        connection.send(Measured(refusal=type(err).__name__))
    with suppress(EOFError):  # no more rounds
        while connection.recv():
            started = time.process_time()
            make(content)
            connection.send((time.process_time() - started) * 1000)


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _load_textbook() -> Callable[[bytes], bytes]:
    """The textbook's, which opens HEIC as well here, and with as many threads as ours: one."""
    pillow_heif = importlib.import_module("pillow_heif")
    pillow_heif.register_heif_opener()
    pillow_heif.options.DECODE_THREADS = 1
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    make: Callable[[bytes], bytes] = importlib.import_module("benchmarks.textbook").textbook_image
    return make


def _load_darkroom() -> Callable[[bytes], bytes]:
    process = importlib.import_module("image_utils").process_profile_image
    return lambda content: process(content).content


def find_shortfalls(rows: Sequence[Row]) -> list[str]:
    """Find what is missing to what `--check` asks for, as sentences."""
    checked = [row for row in rows if (row.kind, row.megapixels) == ("jpeg", CHECKED_MEGAPIXELS)]
    missing = [] if checked else [f"No JPEG of {CHECKED_MEGAPIXELS:g} megapixels was measured."]
    for row in checked:
        if not row.ratio >= NEEDED_RATIO:
            missing.append(
                f"The JPEG of 12 megapixels is {row.ratio:.2f} times faster, not {NEEDED_RATIO}."
            )
        if not row.alikeness >= NEEDED_SSIM:
            missing.append(f"Its SSIM is {row.alikeness:.4f}, not {NEEDED_SSIM}.")
    return missing


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_step")
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, metavar="MEGAPIXELS")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 unless a 12-megapixel JPEG is as it should be",
    )
    options = parser.parse_args(arguments)
    print(HEADING)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, megapixels in product(options.kinds, options.sizes):
            if kind == "jpeg" or megapixels <= LARGEST_WHOLE_MEGAPIXELS:
                rows.append(measure(kind, megapixels, options.rounds, Path(folder)))
                print(rows[-1], flush=True)
    missing = find_shortfalls(rows) if options.check else []
    for sentence in missing:
        print(sentence)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
