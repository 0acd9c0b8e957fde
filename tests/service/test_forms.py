"""A form is understood however a client writes it, and what cannot be is told in its own words."""

from collections.abc import Callable

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.services import BOUNDARY, FORM, Account, Service, assert_problem, form, part

FILE = 'form-data; name="file"'
UNCHOSEN = part(b"", f'{FILE}; filename=""\r\nContent-Type: application/octet-stream')
OTHER_UNCHOSEN = part(b"", 'form-data; name="cover"; filename=""')
BARE = "image/jpeg"


def picture(disposition: str = f'{FILE}; filename="photo.jpg"') -> bytes:
    return part(jpeg(), disposition)


# What is written in another way than a browser does, and still one picture.
UNDERSTOOD: dict[str, Callable[[], bytes]] = {
    "a name without quotes": lambda: form(picture("form-data; name=file; filename=photo.jpg")),
    "an encoded filename only": lambda: form(picture(f"{FILE}; filename*=UTF-8''%E2%82%AC.jpg")),
    "an empty filename": lambda: form(picture(f'{FILE}; filename=""')),
    "a type only": lambda: form(picture(f"{FILE}\r\nContent-Type: image/jpeg")),
    "bytes of no type": lambda: form(picture(f"{FILE}\r\nContent-Type: application/octet-stream")),
    "a binary text": lambda: form(
        picture(f"{FILE}\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary")
    ),
    "an attachment": lambda: form(picture('attachment; name="file"; filename="photo.jpg"')),
    "an empty input before": lambda: form(UNCHOSEN, picture()),
    "an empty input after": lambda: form(picture(), UNCHOSEN),
    "empty inputs of other names": lambda: form(OTHER_UNCHOSEN, picture(), OTHER_UNCHOSEN),
    "a preamble": lambda: b"This is a form.\r\n" * 100 + form(picture()),
    "a field of an odd name": lambda: form(part(b"x", 'form-data; name="filename*"'), picture()),
    "an empty line before": lambda: b"\r\n" + form(picture()),
    "a type for the crop": lambda: form(
        picture(), part(b"0,0,200", 'form-data; name="crop"\r\nContent-Type: text/plain')
    ),
}


def send(
    service: Service, account: Account, body: bytes, content_type: str = FORM["Content-Type"]
) -> httpx.Response:
    with service.client(account) as client:
        headers = {"Content-Type": content_type}
        return client.patch("/users/me/picture", content=body, headers=headers)


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_file_is_found_however_it_is_announced(
    shared_service: Service, account: Account, name: str
) -> None:
    answer = send(shared_service, account, UNDERSTOOD[name]())
    assert answer.status_code == 200, answer.text
    assert answer.json()["image_file"]


def test_a_form_is_understood_in_pieces_of_any_size(
    shared_service: Service, account: Account
) -> None:
    body = b"A preamble.\r\n\r\n" + form(UNCHOSEN, picture())
    with shared_service.client(account) as client:
        for size_bytes in (7, 1000):
            pieces = (body[at : at + size_bytes] for at in range(0, len(body), size_bytes))
            answer = client.patch("/users/me/picture", content=pieces, headers=FORM)
            assert answer.status_code == 200, answer.text


def test_a_bare_picture_is_taken_up_to_the_limit(shared_service: Service, account: Account) -> None:
    for content_type in ("image/jpeg", "IMAGE/PNG", "image/*", "image/jpeg; charset=binary"):
        answer = send(shared_service, account, jpeg(), content_type)
        assert answer.status_code == 200, answer.text
    largest = jpeg().ljust(5 * 1024 * 1024, b"\0")
    assert send(shared_service, account, largest, BARE).status_code == 200
    with shared_service.client(account) as client:
        pieces = (largest[:1000], largest[1000:], b"\0")
        answer = client.patch(
            "/users/me/picture", content=iter(pieces), headers={"Content-Type": BARE}
        )
    assert_problem(answer, 413, "file_too_large")


CROP = 'form-data; name="crop"'
BACKGROUND = 'form-data; name="background"'
OTHER = 'form-data; name="photo"'
MULTIPART = FORM["Content-Type"]
# Content-Type, body, code, and a part of the sentence.
REFUSED: dict[str, tuple[str, bytes, str, str]] = {
    "no boundary": ("multipart/form-data", form(picture()), "not_a_form", "Do not set this header"),
    "another type": ("application/octet-stream", jpeg(), "not_a_form", "as in image/jpeg"),
    **{
        name: (MULTIPART, body, code, told)
        for name, body, code, told in (
            (
                "a file of another name",
                form(picture(f'{OTHER}; filename="photo.jpg"')),
                *("file_missing", "under another name"),
            ),
            (
                "content in an empty input of another name",
                form(picture(f'{OTHER}; filename=""')),
                *("file_missing", "under another name"),
            ),
            ("two empty inputs", form(UNCHOSEN, UNCHOSEN), "file_missing", "has no file"),
            (
                "two files, one without a name",
                form(picture(), picture(f'{FILE}; filename=""')),
                *("too_many_files", "one file only"),
            ),
            (
                "a text of a type",
                form(part(b"photo.jpg", f"{FILE}\r\nContent-Type: text/plain; charset=UTF-8")),
                *("file_is_a_field", "holds text"),
            ),
            (
                "a long preamble",
                b"This is a form.\r\n" * 1000 + form(picture()),
                *("malformed_form", "damaged"),
            ),
            ("a preamble that is all", b"--another\r\n", "malformed_form", "damaged"),
            ("an empty crop", form(picture(), part(b"", CROP)), "bad_crop", "is empty"),
            (
                "an undefined crop",
                form(picture(), part(b"undefined", CROP)),
                *("bad_crop", "is the word undefined"),
            ),
            (
                "a crop of an object",
                form(picture(), part(b"[object Object]", CROP)),
                *("bad_crop", "a variable has no value"),
            ),
            (
                "an empty background",
                form(picture(), part(b"", BACKGROUND)),
                *("bad_background", "is empty"),
            ),
            (
                "an undefined background",
                form(picture(), part(b"undefined", BACKGROUND)),
                *("bad_background", "is the word undefined"),
            ),
            *(
                (
                    f"the background {value}",
                    form(picture(), part(value.encode(), BACKGROUND)),
                    *("bad_background", "# and six hexadecimal digits"),
                )
                for value in ("ffffff", "#fff", "#ffffff00", "#gggggg", "white", "AUTO")
            ),
        )
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_told_as_such(
    shared_service: Service, account: Account, name: str
) -> None:
    content_type, body, code, told = REFUSED[name]
    answer = send(shared_service, account, body, content_type)
    assert_problem(answer, 422, code)
    assert told in answer.json()["detail"]
    with shared_service.client(account) as client:
        assert client.get("/users/me").json()["image_file"] is None


def test_a_boundary_in_the_preamble_that_is_not_on_its_own_line_is_none(
    shared_service: Service, account: Account
) -> None:
    body = f"This is --{BOUNDARY} of ours.\r\n".encode() + form(picture())
    assert send(shared_service, account, body).status_code == 200
