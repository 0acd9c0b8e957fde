"""Bad input is a 4xx with its own code and changes nothing; odd but good pictures are served."""

import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from PIL import Image

from tests.support.pictures import BLUE, GREEN, RED, corners, encoded, jpeg, quarters
from tests.support.services import (
    BOUNDARY,
    FORM,
    Account,
    Bucket,
    Service,
    assert_problem,
    form,
    part,
    read_answer,
)

MAX_UPLOAD_SIZE_BYTES = 5 * 1024 * 1024

Send = Callable[[Service, Account], httpx.Response]


def png(
    width_px: int, height_px: int, bit_depth: int, colour_type: int, rows: Iterable[bytes]
) -> bytes:
    """A PNG file written chunk by chunk, for what Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width_px, height_px, bit_depth, colour_type, 0, 0, 0)
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(b"\0" + row) for row in rows) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def bomb() -> bytes:
    """Some 48 kB that say they are 400 megapixels, and are."""
    side_px = 20_000
    content = png(side_px, side_px, 1, 0, repeat(bytes(side_px // 8), side_px))
    assert len(content) < 60_000
    return content


def patch(
    service: Service, account: Account | None, user_id: int, **request: Any
) -> httpx.Response:
    """Send a request to change the picture of an account."""
    with service.client(account) as client:
        return client.patch(f"/users/{user_id}/picture", **request)


def as_file(
    content: bytes | Callable[[], bytes], filename: str = "photo.jpg", **fields: str
) -> Send:
    """Send this as the form's file."""

    def send(service: Service, account: Account) -> httpx.Response:
        sent = content if isinstance(content, bytes) else content()
        return patch(service, account, account.id, files={"file": (filename, sent)}, data=fields)

    return send


def as_body(body: bytes | Callable[[], bytes], content_type: str = FORM["Content-Type"]) -> Send:
    """Send this as the whole body."""

    def send(service: Service, account: Account) -> httpx.Response:
        content = body if isinstance(body, bytes) else body()
        return patch(
            service, account, account.id, content=content, headers={"Content-Type": content_type}
        )

    return send


def in_chunks(body: Callable[[], Iterator[bytes]]) -> Send:
    """Send the body without announcing its length."""

    def send(service: Service, account: Account) -> httpx.Response:
        answer = patch(service, account, account.id, content=body(), headers=FORM)
        assert answer.request.headers["transfer-encoding"] == "chunked"
        return answer

    return send


def with_token(make: Callable[[Service, Account], str | None], user_id: int | None = None) -> Send:
    """Send a good picture with this as the Authorization header."""

    def send(service: Service, account: Account) -> httpx.Response:
        value = make(service, account)
        headers = {} if value is None else {"Authorization": value}
        return patch(
            service,
            None,
            user_id or account.id,
            files={"file": ("photo.jpg", jpeg())},
            headers=headers,
        )

    return send


def signed(service: Service, account: Account, **claims: Any) -> str:
    """A token that the service would have signed itself."""
    secret = (Path(service.settings["DATA_DIR"]) / "secret_key").read_text()
    now = time.time()
    given = {"sub": str(account.id), "iat": now, "exp": now + 600, "aud": "access", **claims}
    return "Bearer " + jwt.encode(given, secret, "HS256")


def tampered(service: Service, account: Account) -> str:
    """The account's token with another subject under the old signature."""
    head, _, signature = account.token.split(".")
    claims = jwt.decode(account.token, options={"verify_signature": False})
    body = jwt.encode({**claims, "sub": "1"}, "another secret, of thirty-two characters").split(
        "."
    )[1]
    return f"Bearer {head}.{body}.{signature}"


def to_another(service: Service, account: Account) -> httpx.Response:
    other = service.register(f"other-{account.id}")
    answer = patch(service, account, other.id, files={"file": ("photo.jpg", jpeg())})
    assert service.sql("SELECT id FROM stored_files WHERE owner_id = $1", other.id) == []
    return answer


def raw(service: Service, account: Account, announced_bytes: int, body: bytes) -> httpx.Response:
    """Announce one length and send another, then read the answer."""
    head = (
        f"PATCH /users/{account.id}/picture HTTP/1.1\r\nHost: {service.host}\r\n"
        f"Authorization: Bearer {account.token}\r\nContent-Type: {FORM['Content-Type']}\r\n"
        f"Content-Length: {announced_bytes}\r\n\r\n"
    )
    with socket.create_connection((service.host, service.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        return read_answer(connection)


def stored_keys(service: Service) -> set[str]:
    """The keys of all objects in the service's store."""
    if service.settings["STORAGE"] == "local":
        return set(service.objects())
    bucket = Bucket.of(service.settings)
    pages = bucket.client().get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
    return {found["Key"] for page in pages for found in page.get("Contents", [])}


@pytest.fixture
def kept(shared_service: Service, account: Account) -> Iterator[str]:
    """The path of a picture that the account has.

    After the test it still has it, and nothing else is left.
    """
    path: str = shared_service.patch_picture(account, jpeg()).json()["image_path"]
    before = stored_keys(shared_service)
    yield path
    with shared_service.client(account) as client:
        assert client.get("/users/me").json()["image_path"] == path
    assert corners(shared_service.get_picture(path).content) == ["red", "green", "blue", "white"]
    rows = shared_service.sql("SELECT state, key FROM stored_files WHERE owner_id = $1", account.id)
    assert [(row["state"], row["key"].rpartition("/")[2]) for row in rows] == [
        ("live", path.rpartition("/")[2])
    ]
    assert stored_keys(shared_service) == before


SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300">'
    b"<script>alert(1)</script></svg>"
)
FIELD = 'form-data; name="file"'

BAD_FILES: dict[str, tuple[Send, int, str]] = {
    "an empty file": (as_file(b""), 400, "empty_file"),
    "text named jpg": (as_file(b"This is no picture.\n" * 100), 400, "not_a_picture"),
    "a truncated JPEG": (as_file(lambda: jpeg()[:-2000]), 400, "truncated_picture"),
    "a truncated PNG": (
        as_file(lambda: encoded(quarters(640, 480), "PNG")[:-1000]),
        400,
        "truncated_picture",
    ),
    "the first bytes of a JPEG": (as_file(lambda: jpeg()[:30]), 400, "truncated_picture"),
    "a damaged PNG": (
        as_file(lambda: png(64, 64, 8, 2, repeat(b"\xff", 64))),
        400,
        "truncated_picture",
    ),
    "400 megapixels in 48 kB": (as_file(bomb, "small.png"), 413, "too_many_pixels"),
    "an SVG": (as_file(SVG, "drawing.svg"), 400, "unsupported_format"),
    "a format that is not on the list": (
        as_file(lambda: encoded(quarters(64, 64), "TIFF")),
        400,
        "unsupported_format",
    ),
    "a file of 6 MB": (as_file(lambda: bytes(6_000_000)), 413, "file_too_large"),
    "a file of 64 MB": (as_file(lambda: bytes(64_000_000)), 413, "file_too_large"),
    "one byte more than the limit": (
        as_file(lambda: jpeg().ljust(MAX_UPLOAD_SIZE_BYTES + 1, b"\0")),
        413,
        "file_too_large",
    ),
}

BAD_FORMS: dict[str, tuple[Send, int, str]] = {
    "a form without a file": (
        as_body(form(part(b"hello", 'form-data; name="caption"'))),
        422,
        "file_missing",
    ),
    "a form with nothing in it": (as_body(form()), 422, "file_missing"),
    "a file under another name": (
        as_body(lambda: form(part(jpeg(), 'form-data; name="photo"; filename="photo.jpg"'))),
        422,
        "file_missing",
    ),
    "no file chosen in a browser": (
        as_body(
            form(
                part(
                    b"",
                    'form-data; name="file"; filename=""\r\nContent-Type: application/octet-stream',
                )
            )
        ),
        422,
        "file_missing",
    ),
    "two files": (as_body(lambda: form(part(jpeg()), part(jpeg()))), 422, "too_many_files"),
    "a field instead of a file": (as_body(form(part(b"photo.jpg", FIELD))), 422, "file_is_a_field"),
    "a picture in a field instead of a file": (
        as_body(lambda: form(part(jpeg(), FIELD))),
        422,
        "file_is_a_field",
    ),
    "text": (as_body(b"photo.jpg", content_type="text/plain"), 422, "not_a_form"),
    "a form of the other kind": (
        as_body(b"file=photo.jpg", content_type="application/x-www-form-urlencoded"),
        422,
        "not_a_form",
    ),
    "a bare picture of no type": (
        as_body(lambda: jpeg(), content_type="application/octet-stream"),
        422,
        "not_a_form",
    ),
    "a bare text of a picture's type": (
        as_body(b"This is no picture.", content_type="image/jpeg"),
        400,
        "not_a_picture",
    ),
    "nothing, of a picture's type": (as_body(b"", content_type="image/png"), 400, "empty_file"),
    "a bare file of one byte more than the limit": (
        as_body(lambda: jpeg().ljust(MAX_UPLOAD_SIZE_BYTES + 1, b"\0"), content_type="image/jpeg"),
        413,
        "file_too_large",
    ),
    "an empty body": (as_body(b""), 422, "malformed_form"),
    "no body and no type": (
        lambda service, account: patch(service, account, account.id),
        422,
        "not_a_form",
    ),
    "a form that names no boundary": (
        as_body(lambda: form(part(jpeg())), content_type="multipart/form-data"),
        422,
        "not_a_form",
    ),
    "a wrong boundary": (
        as_body(lambda: form(part(jpeg())), content_type="multipart/form-data; boundary=another"),
        422,
        "malformed_form",
    ),
    "a boundary longer than any": (
        as_body(
            lambda: form(part(jpeg())), content_type=f"multipart/form-data; boundary={'b' * 5000}"
        ),
        431,
        "head_too_large",
    ),
    "a form cut short": (as_body(lambda: form(part(jpeg()))[:-3000]), 422, "malformed_form"),
    "a form without its last line": (as_body(lambda: part(jpeg())), 422, "malformed_form"),
    "a part without a name": (
        as_body(lambda: form(part(jpeg(), "form-data"))),
        422,
        "malformed_form",
    ),
    "a part with a broken header": (
        as_body(
            lambda: form(f"--{BOUNDARY}\r\nContent Disposition\r\n\r\n".encode() + jpeg() + b"\r\n")
        ),
        422,
        "malformed_form",
    ),
    "bytes that are no form": (as_body(bytes(range(256)) * 40), 422, "malformed_form"),
    "a thousand parts": (
        as_body(form(*[part(b"x", 'form-data; name="x"')] * 1000)),
        422,
        "malformed_form",
    ),
    "an endless part header": (
        as_body(lambda: form(part(jpeg(), f'form-data; name="file"; filename="{"x" * 300_000}"'))),
        422,
        "malformed_form",
    ),
}

BAD_CROPS: dict[str, tuple[Send, int, str]] = {
    f"crop {crop}": (as_file(jpeg, crop=crop), 422, "bad_crop")
    for crop in (
        *(
            "0,0",
            "0,0,10,10",
            "a,b,c",
            "-1,0,10",
            "0,0,0",
            "1.5,0,10",
            "0,0,9999999999",
            "0;0;10",
            "\u0661,0,10",
        ),
        *("0,0,481", "441,0,200", "0,281,200", "640,0,1", "999999999,999999999,999999999"),
    )
}

BAD_SENDERS: dict[str, tuple[Send, int, str]] = {
    "someone else's account": (to_another, 403, "not_yours"),
    "an account that is not there": (with_token(signed, 2**63 - 1), 403, "not_yours"),
    "no token": (with_token(lambda *_: None), 401, "not_authenticated"),
    "another scheme": (with_token(lambda *_: "Basic YWxpY2U6YWxpY2U="), 401, "not_authenticated"),
    "an expired token": (
        with_token(lambda *to: signed(*to, exp=time.time() - 1)),
        401,
        "token_expired",
    ),
    "a tampered token": (with_token(tampered), 401, "invalid_token"),
    "a token for another purpose": (
        with_token(lambda *to: signed(*to, aud="reset")),
        401,
        "invalid_token",
    ),
    "a token of nobody": (
        with_token(lambda *to: signed(*to, sub=str(2**63 - 1))),
        401,
        "invalid_token",
    ),
    "a token whose subject is too large": (
        with_token(lambda *to: signed(*to, sub="9" * 30)),
        401,
        "invalid_token",
    ),
    "a token whose subject is a word": (
        with_token(lambda *to: signed(*to, sub="alice")),
        401,
        "invalid_token",
    ),
    "a token without an end": (with_token(lambda *to: signed(*to, exp=None)), 401, "invalid_token"),
    "a token that is none": (with_token(lambda *_: "Bearer token"), 401, "invalid_token"),
    "an unsigned token": (
        with_token(
            lambda _, account: (
                "Bearer " + jwt.encode({"sub": str(account.id), "aud": "access"}, "", "none")
            )
        ),
        401,
        "invalid_token",
    ),
}


def endless_file(size_bytes: int) -> Iterator[bytes]:
    """A form with a file of this size, as it arrives."""
    yield part(b"")[:-2]
    for _ in range(size_bytes // 50_000):
        yield bytes(50_000)
    yield b"\r\n" + form()


BAD_LENGTHS: dict[str, tuple[Send, int, str]] = {
    "6 MB without a length": (in_chunks(lambda: endless_file(6_000_000)), 413, "file_too_large"),
    "64 MB without a length": (in_chunks(lambda: endless_file(64_000_000)), 413, "file_too_large"),
    "a bad picture without a length": (
        in_chunks(lambda: iter([form(part(SVG))])),
        400,
        "unsupported_format",
    ),
    "a length that is shorter than the form": (
        lambda service, account: raw(service, account, 4000, form(part(jpeg()))[:4000]),
        422,
        "malformed_form",
    ),
    "a length far above the limit": (
        lambda service, account: raw(service, account, 10**18, form(part(jpeg()))),
        413,
        "file_too_large",
    ),
}

BAD_INPUT = {**BAD_FILES, **BAD_FORMS, **BAD_CROPS, **BAD_SENDERS, **BAD_LENGTHS}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_and_the_picture_is_kept(
    name: str, shared_service: Service, account: Account, kept: str
) -> None:
    send, status, code = BAD_INPUT[name]
    answer = send(shared_service, account)
    assert_problem(answer, status, code)
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


def test_what_follows_a_body_that_is_longer_than_announced_is_never_a_picture(
    shared_service: Service, account: Account, kept: str
) -> None:
    body = form(part(jpeg()))
    try:
        status = raw(shared_service, account, 4000, body).status_code
    except (ConnectionError, EOFError):
        return
    assert 400 <= status < 500


def test_a_body_that_ends_before_its_length_is_no_picture(
    shared_service: Service, account: Account, kept: str
) -> None:
    body = form(part(jpeg()))
    head = (
        f"PATCH /users/{account.id}/picture HTTP/1.1\r\nHost: {shared_service.host}\r\n"
        f"Authorization: Bearer {account.token}\r\nContent-Type: {FORM['Content-Type']}\r\n"
        f"Content-Length: {len(body) + 1}\r\n\r\n"
    )
    with socket.create_connection(
        (shared_service.host, shared_service.port), timeout=30
    ) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert not answer or answer.startswith(b"HTTP/1.1 4")


def test_a_request_id_is_taken_over_if_it_is_safe(shared_service: Service) -> None:
    with shared_service.client() as client:
        answer = client.get("/users/me", headers={"X-Request-ID": "from-the-client.1"})
        assert_problem(answer, 401, "not_authenticated")
        assert answer.json()["request_id"] == "from-the-client.1"
        for unsafe in ("two words", "x" * 65, '"><script>'):
            answer = client.get("/users/me", headers={"X-Request-ID": unsafe})
            assert_problem(answer, 401, "not_authenticated")
            assert answer.json()["request_id"] != unsafe


def test_a_refused_preflight_has_the_one_shape(shared_service: Service) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "PATCH"}
    with shared_service.client() as client:
        answer = client.options("/users/1/picture", headers=asked)
    assert_problem(answer, 400, "preflight_refused")
    assert "access-control-allow-origin" not in answer.headers


def served(service: Service, account: Account, answer: httpx.Response) -> bytes:
    """The finished picture behind an answer of 200."""
    assert answer.status_code == 200, answer.text
    found = service.get_picture(answer.json()["image_path"])
    assert (found.status_code, found.headers["content-type"]) == (200, "image/jpeg")
    picture = Image.open(io.BytesIO(found.content))
    assert (picture.size, picture.format, picture.mode) == ((300, 300), "JPEG", "RGB")
    rows = service.sql("SELECT state FROM stored_files WHERE owner_id = $1", account.id)
    assert [row["state"] for row in rows] == ["live"]
    return found.content


def deep(picture: Image.Image) -> bytes:
    """A picture as PNG with 16 bits a channel."""
    colour_type = 2 if picture.mode == "RGB" else 0
    stride = picture.width * len(picture.getbands())
    content = picture.tobytes()
    rows = (content[start : start + stride] for start in range(0, len(content), stride))
    return png(
        *picture.size,
        16,
        colour_type,
        (bytes(byte for byte in row for _ in range(2)) for row in rows),
    )


def half_transparent(mode: str) -> bytes:
    """Green on the right; on the left red, but transparent."""
    picture = Image.new("RGBA", (400, 400), (*RED, 0))
    picture.paste((*GREEN, 255), (200, 0, 400, 400))
    if mode == "RGBA":
        return encoded(picture, "PNG")
    flat = Image.new("P", picture.size, 0)
    flat.putpalette([*RED, *GREEN])
    flat.paste(1, (200, 0, 400, 400))
    return encoded(flat, "PNG", transparency=0)


IN_ORDER = ["red", "green", "blue", "white"]

GOOD: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "a 16-bit PNG": (lambda: deep(quarters(320, 320)), IN_ORDER),
    "a CMYK JPEG": (lambda: encoded(quarters(640, 480).convert("CMYK"), quality=90), IN_ORDER),
    "a transparent PNG": (lambda: half_transparent("RGBA"), ["white", "green", "white", "green"]),
    "a PNG with a transparent colour": (
        lambda: half_transparent("P"),
        ["white", "green", "white", "green"],
    ),
    "a file of exactly the limit": (lambda: jpeg().ljust(MAX_UPLOAD_SIZE_BYTES, b"\0"), IN_ORDER),
    "a PNG named jpg": (lambda: encoded(quarters(320, 320), "PNG"), IN_ORDER),
    "a single pixel": (lambda: encoded(Image.new("RGB", (1, 1), BLUE), "PNG"), ["blue"] * 4),
}


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_but_good_picture_is_served(
    name: str, shared_service: Service, account: Account
) -> None:
    make, expected = GOOD[name]
    content = make()
    found = served(shared_service, account, shared_service.patch_picture(account, content))
    assert corners(found) == expected


def test_what_was_transparent_is_white(shared_service: Service, account: Account) -> None:
    found = served(
        shared_service, account, shared_service.patch_picture(account, half_transparent("RGBA"))
    )
    pixel = Image.open(io.BytesIO(found)).getpixel((75, 150))
    assert isinstance(pixel, tuple) and min(pixel) >= 253


def test_the_greys_of_a_16_bit_picture_are_kept(shared_service: Service, account: Account) -> None:
    greys = Image.new("L", (300, 300))
    for band, grey in enumerate((0, 64, 128, 255)):
        greys.paste(grey, (band * 75, 0, band * 75 + 75, 300))
    found = served(shared_service, account, shared_service.patch_picture(account, deep(greys)))
    picture = Image.open(io.BytesIO(found)).convert("L")
    for band, grey in enumerate((0, 64, 128, 255)):
        pixel = picture.getpixel((band * 75 + 37, 150))
        assert isinstance(pixel, int) and abs(pixel - grey) <= 3


def test_a_picture_without_an_announced_length_is_served(
    shared_service: Service, account: Account
) -> None:
    body = form(part(jpeg()))
    pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
    with shared_service.client(account) as client:
        answer = client.patch(f"/users/{account.id}/picture", content=pieces, headers=FORM)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert corners(served(shared_service, account, answer)) == IN_ORDER


# How an upright picture is stored under each EXIF orientation (EXIF 2.32, tag 274).
STORED: dict[int, Image.Transpose | None] = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_a_crop_is_in_pixels_of_the_upright_picture(
    orientation: int, shared_service: Service, account: Account
) -> None:
    upright = quarters(640, 480)
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = encoded(upright if turn is None else upright.transpose(turn), quality=90, exif=exif)
    # Each lies in one quarter; the last is where green meets white, and touches the right edge.
    crops = {
        "410,20,200": ["green"] * 4,
        "30,270,200": ["blue"] * 4,
        "440,140,200": ["green"] * 2 + ["white"] * 2,
    }
    for crop, expected in crops.items():
        answer = shared_service.patch_picture(account, photo, data={"crop": crop})
        assert corners(served(shared_service, account, answer)) == expected, crop
    assert (
        corners(served(shared_service, account, shared_service.patch_picture(account, photo)))
        == IN_ORDER
    )


def test_no_refusal_repeats_what_was_sent(shared_service: Service) -> None:
    secret = "a-password-that-nobody-may-read"
    with shared_service.client() as client:
        answer = client.post(
            "/users", json={"username": "", "email": "x", "password": [secret], "more": secret}
        )
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "invalid_request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["errors"] and secret not in json.dumps(body)


@pytest.mark.parametrize("how", ["form", "photo"])
def test_what_is_transparent_shows_the_background_that_was_asked_for(
    how: str, shared_service: Service, account: Account
) -> None:
    """Whether the picture is sent or is a photo of the account."""
    drawing = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    drawing.paste((250, 250, 240, 255), (100, 100, 200, 200))
    content = encoded(drawing, "PNG")
    path = f"/users/{account.id}/picture"
    with shared_service.client(account) as client:
        photo = client.post("/photos", files={"file": ("drawing.png", content)}).json()
        backgrounds = {
            "#0a64C8": (10, 100, 200),
            "auto": (32, 33, 36),  # a light drawing stands out from it
            None: (255, 255, 255),
        }
        for background, expected in backgrounds.items():
            fields = {} if background is None else {"background": background}
            if how == "form":
                answer = client.patch(path, files={"file": ("a.png", content)}, data=fields)
            else:
                answer = client.patch(path, json={"photo_id": photo["id"], **fields})
            assert answer.status_code == 200, answer.text
            shown = Image.open(
                io.BytesIO(shared_service.get_picture(answer.json()["image_path"]).content)
            )
            corner = shown.getpixel((20, 20))
            assert isinstance(corner, tuple)
            assert max(abs(a - b) for a, b in zip(corner, expected, strict=True)) <= 3, background
        if how == "photo":
            bad = client.patch(path, json={"photo_id": photo["id"], "background": "white"})
            assert (bad.status_code, bad.json()["code"]) == (422, "bad_background")
