"""Proves that only a WebP or AVIF as a rendition has it may be served, from first byte to last."""

import io
import random
import tracemalloc
from collections.abc import Callable

import pytest
from PIL import Image

from pictures import pillow
from pictures.encoding import encode
from pictures.renditions import Fit, Rendition, RenditionFormat
from pictures.served_files import is_served_file, is_served_picture
from pictures.served_jpeg import count_most_bytes
from tests.support.pictures import exif_block

AVIF = RenditionFormat.AVIF
WEBP = RenditionFormat.WEBP
SIZE = (48, 32)
# Sides of one bit, of the edges of a block, beyond a superblock, and of the largest master.
SIZES = [(1, 1), (1, 1600), (2, 3), (15, 17), (64, 65), SIZE, (1600, 1067)]


@pytest.fixture(autouse=True, scope="module")
def configured() -> None:
    pillow.configure()


def draw_harsh(size: tuple[int, int]) -> Image.Image:
    """Nothing takes more bytes than pure black beside pure colours."""
    bits = random.Random(3).randbytes(3 * size[0] * size[1])
    return Image.frombytes("RGB", size, bits).point(lambda value: 255 * (value > 127))


def save(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def ask(size: tuple[int, int], file_format: RenditionFormat) -> Rendition:
    return Rendition(*size, Fit.INSIDE, file_format)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("file_format", RenditionFormat)
def test_every_file_of_ours_is_one_of_its_sides_and_format_only(
    size: tuple[int, int], file_format: RenditionFormat
) -> None:
    for picture in (draw_harsh(size), Image.new("RGB", size, "white")):
        file = encode(picture, file_format)
        assert is_served_file(file, ask(size, file_format))
        assert len(file) < count_most_bytes(size) / 1.5
        for other in ((size[0] + 1, size[1]), (size[0], size[1] + 1), (9, 9)):
            assert not is_served_file(file, ask(other, file_format))
        for other_format in {*RenditionFormat} - {file_format}:
            assert not is_served_file(file, ask(size, other_format))


PICTURE = draw_harsh(SIZE)
PROFILE = b"\0\0\2\x0cADBE" + bytes(516)
EXIF = b"Exif\0\0" + exif_block([(0x0112, "short", (6,)), (0x013B, "ascii", b"evil")])
XMP = b"<x:xmpmeta/>"


def riff(chunks: bytes) -> bytes:
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


def chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body


def put(file: bytes, at: int, *said: int) -> bytes:
    return file[:at] + bytes(said) + file[at + len(said) :]


def make_webps(ours: bytes) -> dict[str, bytes]:
    """Others; from byte 20 on ours has the frame's tag, its start code and the sides."""
    picture = ours[12:]
    extended = chunk(b"VP8X", bytes((0, 0, 0, 0, 47, 0, 0, 31, 0, 0)))
    return {
        "the extended form": riff(extended + picture),
        "a profile": save(PICTURE, "WEBP", icc_profile=PROFILE),
        "EXIF": save(PICTURE, "WEBP", exif=EXIF),
        "XMP": save(PICTURE, "WEBP", xmp=XMP),
        "EXIF in the simple form": riff(picture + chunk(b"EXIF", EXIF)),
        "a chunk of its own before": riff(chunk(b"evil", b"evil") + picture),
        "a chunk of its own behind": riff(picture + chunk(b"evil", b"evil")),
        "two pictures": riff(picture + picture),
        "transparency": save(PICTURE.convert("RGBA").rotate(9), "WEBP"),
        "no loss": save(PICTURE, "WEBP", lossless=True),
        "an animation": save(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(9)]),
        "bytes behind it": ours + b"<?php ",
        "a byte behind it": ours + b"\0",
        "an odd length": riff(chunk(b"VP8 ", ours[20:] + b"\0")),
        "no picture": riff(chunk(b"VP8 ", ours[20:30])),
        "a longer container": put(ours, 4, ours[4] + 2),
        "a longer chunk": put(ours, 16, ours[16] + 2),
        "no key frame": put(ours, 20, ours[20] | 1),
        "another version": put(ours, 20, ours[20] | 2),
        "a frame that is not shown": put(ours, 20, ours[20] & 0b11101111),
        "an empty first partition": put(ours, 20, 0b10000, 0, 0),
        "a first partition beyond the end": put(ours, 20, 0b11110000, 0xFF, 0xFF),
        "another start code": put(ours, 23, 0x9C),
        "a picture that is scaled": put(ours, 27, ours[27] | 0x40),
    }


def draw_clear(size: tuple[int, int]) -> Image.Image:
    """Harsh colours that show through here and there: slowly, so that it is compressed."""
    picture = draw_harsh(size)
    picture.putalpha(Image.linear_gradient("L").resize(size))
    return picture


def make_clear_webps(ours: bytes) -> dict[str, bytes]:
    """Others; ours has the extended head up to byte 30, its transparency, and the picture."""
    head = ours[12:30]
    rest = ours[30:]
    end = 8 + int.from_bytes(rest[4:8], "little")
    transparency = rest[: end + end % 2]
    picture = rest[end + end % 2 :]
    inner = transparency[8:end]
    raw = chunk(b"ALPH", b"\0" + bytes(48 * 32)) + b"\0"
    return {
        "no transparency": encode(PICTURE, WEBP),
        "no transparency in the extended form": riff(head + picture),
        "a profile": save(CLEAR_PICTURE, "WEBP", icc_profile=PROFILE),
        "EXIF": save(CLEAR_PICTURE, "WEBP", exif=EXIF),
        "XMP": save(CLEAR_PICTURE, "WEBP", xmp=XMP),
        "no loss": save(CLEAR_PICTURE, "WEBP", lossless=True),
        "an animation": save(
            CLEAR_PICTURE, "WEBP", save_all=True, append_images=[CLEAR_PICTURE.rotate(9)]
        ),
        "a chunk of its own before": riff(head + chunk(b"evil", b"evil") + rest),
        "a chunk of its own between": riff(head + transparency + chunk(b"evil", b"evil") + picture),
        "a chunk of its own behind": riff(head + rest + chunk(b"evil", b"evil")),
        "EXIF behind it": riff(head + rest + chunk(b"EXIF", b"evil")),
        "bytes behind it": ours + b"<?php ",
        "transparency twice": riff(head + transparency + rest),
        "two pictures": riff(head + rest + picture),
        "the picture first": riff(head + picture + transparency),
        "only transparency": riff(head + transparency),
        "transparency without pixels": riff(head + chunk(b"ALPH", inner[:1]) + b"\0" + picture),
        "transparency beyond the end": put(ours, 34, *(1 << 20).to_bytes(4, "little")),
        "longer transparency than pixels": riff(
            head + chunk(b"ALPH", b"\1" + bytes(48 * 32 + 1)) + picture
        ),
        "raw transparency that is too short": riff(
            head + chunk(b"ALPH", b"\0" + bytes(48 * 32 - 1)) + picture
        ),
        "an unknown compression": put(ours, 38, ours[38] | 2),
        "reduced levels": put(ours, 38, ours[38] | 1 << 4),
        "a reserved bit": put(ours, 38, ours[38] | 1 << 6),
        "a filler that says something": riff(head + raw[:-1] + b"e" + picture),
        "other sides of the canvas": put(ours, 24, ours[24] + 1),
        "other sides of the picture": riff(head + transparency + put(picture, 14, picture[14] + 1)),
    }


def put_data(ours: bytes, coded: bytes) -> bytes:
    """Our AVIF with another coded picture, whose length its container tells in both places."""
    data = ours.index(b"mdat") + 4
    head = ours[:data]
    for more_bytes in (0, 8):
        old = (len(ours) - data + more_bytes).to_bytes(4, "big")
        assert head.count(old) == 1
        head = head.replace(old, (len(coded) + more_bytes).to_bytes(4, "big"))
    return head + coded


def make_avifs(ours: bytes) -> dict[str, bytes]:
    """Others; ours ends with its data, which is a delimiter, a sequence's header and the frame."""
    data = ours.index(b"mdat") + 4
    sequence = data + 2
    frame = sequence + 2 + ours[sequence + 1]
    return {
        "a profile": save(PICTURE, "AVIF", icc_profile=PROFILE),
        "EXIF": save(PICTURE, "AVIF", exif=EXIF),
        "XMP": save(PICTURE, "AVIF", xmp=XMP),
        "transparency": save(PICTURE.convert("RGBA").rotate(9), "AVIF"),
        "grey": save(PICTURE.convert("L"), "AVIF"),
        "colour that is not halved": save(PICTURE, "AVIF", subsampling="4:4:4"),
        "limited range": save(PICTURE, "AVIF", range="limited"),
        "turned": save(PICTURE, "AVIF", exif=b"Exif\0\0" + exif_block([(0x0112, "short", (6,))])),
        "an animation": save(PICTURE, "AVIF", save_all=True, append_images=[PICTURE.rotate(9)]),
        "bytes behind it": ours + b"<?php",
        "a box behind it": ours + b"\0\0\0\x0cfreeevil",
        "a box before it": b"\0\0\0\x0cfreeevil" + ours,
        "a longer data box": put(ours, data - 5, ours[data - 5] + 1),
        "a data box to the end": put(ours, data - 8, 0, 0, 0, 0),
        "another name for its item": ours.replace(b"Color", b"Colos"),
        "another level in its container": ours.replace(b"av1C\x81\0", b"av1C\x81\1"),
        "other sides in its container": ours.replace(
            b"\0\0\0\x30\0\0\0\x20", b"\0\0\0\x20\0\0\0\x30"
        ),
        "no delimiter": put(ours, data, 0x0A),
        "a delimiter that is long": put(ours, data + 1, 1),
        "other sides in its picture": put(ours, sequence + 4, ours[sequence + 4] ^ 0x10),
        "another colour": put(ours, sequence + 7, ours[sequence + 7] ^ 0x10),
        # Behind 5 bits of what it is, 5 of its level, 8 and 11 of its sides, and 3 other tools.
        "a picture that is enlarged": put(ours, sequence + 6, ours[sequence + 6] ^ 0x80),
        "an empty frame": put_data(ours, ours[data:frame] + b"\x32\0"),
        "a second frame": put_data(ours, ours[data:] + ours[frame:]),
        "a part of metadata before": put_data(
            ours, ours[data:frame] + b"\x2a\x04evil" + ours[frame:]
        ),
        "a part of metadata": put(ours, frame, 0x2A),
        "a frame that ends before the data": put(ours, frame + 1, ours[frame + 1] - 1),
        "a frame that ends behind the data": put(ours, frame + 1, ours[frame + 1] + 1),
        "a sequence's header beyond the data": put(ours, sequence + 1, 0xFF, 0xFF, 0x7F),
        "a sequence's header without a length": put(ours, sequence + 1, *[0xFF] * 9),
    }


CLEAR_PICTURE = draw_clear(SIZE)
CLEAR = encode(CLEAR_PICTURE, WEBP)
CLEAR_OTHERS = make_clear_webps(CLEAR)
OURS = {WEBP: encode(PICTURE, WEBP), AVIF: encode(PICTURE, AVIF)}
OTHERS = {WEBP: make_webps(OURS[WEBP]), AVIF: make_avifs(OURS[AVIF])}


@pytest.mark.parametrize(
    ("file_format", "other"),
    [
        (file_format, name)
        for file_format, files in OTHERS.items()
        for name in (*files, "nothing", "no end", "half", "a JPEG")
    ],
)
def test_nothing_else_is_one(file_format: RenditionFormat, other: str) -> None:
    ours = OURS[file_format]
    assert is_served_file(ours, ask(SIZE, file_format))
    cut: dict[str, Callable[[], bytes]] = {
        "nothing": bytes,
        "no end": lambda: ours[:-1],
        "half": lambda: ours[: len(ours) // 2],
        "a JPEG": lambda: save(PICTURE, "JPEG"),
    }
    file = cut[other]() if other in cut else OTHERS[file_format][other]
    assert file != ours
    assert not is_served_file(file, ask(SIZE, file_format))


def test_a_long_header_of_a_sequence_takes_no_more_memory_than_its_file() -> None:
    ours = OURS[AVIF]
    long = put_data(ours, b"\x12\0" + b"\x0a\x80\x80\x40" + bytes(1 << 20) + b"\x32\1\0")
    tracemalloc.start()
    try:
        assert not is_served_file(long, ask(SIZE, AVIF))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * len(long)


@pytest.mark.parametrize("file_format", [WEBP, AVIF])
def test_no_head_is_long_enough_by_itself(file_format: RenditionFormat) -> None:
    ours = OURS[file_format]
    for length in range(300):
        assert not is_served_file(ours[:length], ask(SIZE, file_format))


@pytest.mark.parametrize("file_format", [WEBP, AVIF])
def test_every_bit_of_the_container_counts(file_format: RenditionFormat) -> None:
    ours = OURS[file_format]
    # Up to the coded picture; of the WebP's tag the length of its first partition may be another.
    container = range(ours.index(b"mdat") + 4) if file_format is AVIF else range(20)
    for at in container:
        for bit in range(8):
            assert not is_served_file(put(ours, at, ours[at] ^ 1 << bit), ask(SIZE, file_format))


def is_clear(file: bytes, size: tuple[int, int] = SIZE) -> bool:
    return is_served_picture(file, WEBP, size)


@pytest.mark.parametrize("size", [*SIZES[:-1], (300, 300)])
def test_every_transparent_webp_of_ours_is_one_of_its_sides_only(size: tuple[int, int]) -> None:
    noise = Image.frombytes("L", size, random.Random(5).randbytes(size[0] * size[1]))
    harsh = draw_harsh(size)
    harsh.putalpha(noise.point(lambda value: max(1, min(254, value))))  # raw where it is large
    # Whose rows are told as differences.
    soft = draw_harsh(size)
    soft.putalpha(Image.radial_gradient("L").resize(size).rotate(45))
    for picture in (harsh, draw_clear(size), soft, Image.new("RGBA", size)):
        file = encode(picture, WEBP)
        assert is_clear(file, size)
        assert len(file) < count_most_bytes(size)
        for other in ((size[0] + 1, size[1]), (size[0], size[1] + 1), (9, 9)):
            assert not is_clear(file, other)
        assert not is_served_file(file, ask(size, WEBP))
        assert not is_served_picture(file, RenditionFormat.JPEG, size)


@pytest.mark.parametrize("other", CLEAR_OTHERS)
def test_no_other_transparent_webp_is_one(other: str) -> None:
    assert is_clear(CLEAR)
    assert CLEAR_OTHERS[other] != CLEAR
    assert not is_clear(CLEAR_OTHERS[other])


def test_raw_transparency_is_one_with_its_filler() -> None:
    end = 38 + int.from_bytes(CLEAR[34:38], "little")
    picture = CLEAR[end + end % 2 :]
    raw = chunk(b"ALPH", b"\0" + bytes(48 * 32)) + b"\0"
    assert is_clear(riff(CLEAR[12:30] + raw + picture))


def test_no_head_of_a_transparent_webp_is_long_enough_and_every_bit_of_it_counts() -> None:
    assert not any(is_clear(CLEAR[:length]) for length in range(len(CLEAR)))
    for at in range(38):
        for bit in range(8):
            assert not is_clear(put(CLEAR, at, CLEAR[at] ^ 1 << bit))


def test_a_picture_is_a_jpeg_only_if_it_is_said_to_be_one() -> None:
    file = encode(PICTURE, RenditionFormat.JPEG)
    assert is_served_picture(file, RenditionFormat.JPEG, SIZE)
    assert not is_clear(file)
