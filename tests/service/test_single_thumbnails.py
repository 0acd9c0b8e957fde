"""Thumbnails of which nothing else is kept: made, listed, deleted; a refusal leaves nothing."""

import io
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from image_utils import make_thumbnail
from tests.support.pictures import encoded, jpeg, phone_photo, quarters
from tests.support.s3 import FakeS3
from tests.support.services import Account, Service, assert_problem, wait_until

CONTENT = jpeg(400, 300)


def send(
    service: Service, account: Account, content: bytes = CONTENT, key: str | None = None
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    with service.client(account) as client:
        files = {"file": ("a.jpg", content)}
        return client.post("/photos/thumbnail", files=files, headers=headers)


def made(service: Service, account: Account, content: bytes = CONTENT, **more: str) -> Any:
    answer = send(service, account, content, **more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def list_owned(service: Service, account: Account) -> list[tuple[str, str]]:
    rows = service.sql(
        "SELECT key, state FROM stored_files WHERE owner_id = $1 ORDER BY id", account.id
    )
    return [(row["key"], row["state"]) for row in rows]


def test_it_is_made_of_the_file_and_nothing_else_is_kept(
    shared_service: Service, account: Account
) -> None:
    content = phone_photo(4000, 3000)
    keys = set(shared_service.objects())
    told = made(shared_service, account, content)
    served = shared_service.get_picture(told["thumbnail"])
    assert (served.status_code, served.headers["content-type"]) == (200, "image/jpeg")
    assert served.content == make_thumbnail(content).content
    picture = Image.open(io.BytesIO(served.content))
    assert picture.size == (told["width"], told["height"]) == (225, 300)
    assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert (told["content_type"], told["size_bytes"]) == ("image/jpeg", len(served.content))
    assert (told["placeholder"]["width"], told["placeholder"]["height"]) == (225, 300)
    ((key, state),) = list_owned(shared_service, account)
    assert state == "live" and key.startswith("thumbnails/")
    assert told["thumbnail"].endswith(key)
    assert set(shared_service.objects()) - keys == {key}


def test_the_bare_file_is_taken_as_the_body(shared_service: Service, account: Account) -> None:
    with shared_service.client(account) as client:
        headers = {"Content-Type": "image/jpeg"}
        told = client.post("/photos/thumbnail", content=CONTENT, headers=headers)
    assert told.status_code == 201, told.text
    shown = shared_service.get_picture(told.json()["thumbnail"])
    assert shown.content == make_thumbnail(CONTENT).content


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no picture": ({"files": {"file": ("a.jpg", b"no picture")}}, 400, "not_a_picture"),
    "nothing": ({"files": {"file": ("a.jpg", b"")}}, 400, "empty_file"),
    "a PDF": ({"files": {"file": ("a.pdf", b"%PDF-1.7\n")}}, 400, "unsupported_format"),
    "cut short": ({"files": {"file": ("a.jpg", CONTENT[:2000])}}, 400, "truncated_picture"),
    "no file": ({"data": {"caption": "a"}, "files": {"a": ""}}, 422, "file_missing"),
    "another name": ({"files": {"picture": ("a.jpg", CONTENT)}}, 422, "file_missing"),
    "two files": (
        {"files": [("file", ("a.jpg", CONTENT)), ("file", ("b.jpg", CONTENT))]},
        422,
        "too_many_files",
    ),
    "no form": ({"json": {"file": "a.jpg"}}, 422, "not_a_form"),
    "too many bytes": ({"files": {"file": ("a.jpg", bytes(6 << 20))}}, 413, "file_too_large"),
    "too many pixels": (
        {"files": {"file": ("a.png", encoded(Image.new("1", (8000, 6400)), "PNG"))}},
        413,
        "too_many_pixels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(
    shared_service: Service, account: Account, name: str
) -> None:
    request, status, code = REFUSED[name]
    with shared_service.client(account) as client:
        assert_problem(client.post("/photos/thumbnail", **request), status, code)
        assert client.get("/thumbnails").json() == {"thumbnails": [], "next": None}
    assert list_owned(shared_service, account) == []


def test_only_its_owner_deletes_it_and_it_is_gone(
    shared_service: Service, account: Account
) -> None:
    told = made(shared_service, account)
    path = f"/thumbnails/{told['id']}"
    other = shared_service.register(f"other-{account.id}")
    with shared_service.client(other) as client:
        assert_problem(client.delete(path), 404, "thumbnail_not_found")
        assert client.get("/thumbnails").json()["thumbnails"] == []
    with shared_service.client() as client:
        assert_problem(client.delete(path), 401, "not_authenticated")
    assert shared_service.get_picture(told["thumbnail"]).status_code == 200
    with shared_service.client(account) as client:
        assert client.delete(path).status_code == 204
        assert_problem(client.delete(path), 404, "thumbnail_not_found")
        assert client.get("/thumbnails").json()["thumbnails"] == []
    wait_until(lambda: list_owned(shared_service, account) == [], "its row is gone")
    assert shared_service.get_picture(told["thumbnail"]).status_code in (403, 404)


def test_sent_again_with_its_key_it_is_made_once(shared_service: Service, account: Account) -> None:
    key = uuid.uuid4().hex
    told = made(shared_service, account, key=key)
    assert made(shared_service, account, key=key) == told
    other = send(shared_service, account, jpeg(300, 400), key)
    assert_problem(other, 422, "idempotency_key_reused")
    with shared_service.client(account) as client:
        files = {"file": ("a.jpg", CONTENT)}
        photo = client.post("/photos", files=files, headers={"Idempotency-Key": key})
        assert_problem(photo, 422, "idempotency_key_reused")
        photo = client.post("/photos", files=files, headers={"Idempotency-Key": "a-photo"})
        assert photo.status_code == 201
    assert_problem(send(shared_service, account, key="a-photo"), 422, "idempotency_key_reused")
    assert list_thumbnails(shared_service, account) == [told]
    with shared_service.client(account) as client:
        assert client.delete(f"/thumbnails/{told['id']}").status_code == 204
    assert_problem(send(shared_service, account, key=key), 404, "thumbnail_not_found")


def test_a_key_that_is_none_is_refused(shared_service: Service, account: Account) -> None:
    answer = send(shared_service, account, key="a b")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert list_owned(shared_service, account) == []


def test_a_key_whose_request_was_refused_is_free_again(
    shared_service: Service, account: Account
) -> None:
    assert_problem(send(shared_service, account, b"no picture", "again"), 400, "not_a_picture")
    wait_until(
        lambda: send(shared_service, account, key="again").status_code == 201, "the key is free"
    )


def list_thumbnails(service: Service, account: Account) -> list[dict[str, Any]]:
    with service.client(account) as client:
        answer = client.get("/thumbnails")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["thumbnails"]
        return found


def test_the_list_has_all_of_them_in_pages(shared_service: Service, account: Account) -> None:
    told = [made(shared_service, account, jpeg(40, 30 + number)) for number in range(3)]
    with shared_service.client(account) as client:
        first = client.get("/thumbnails", params={"limit": 2})
        assert 'rel="next"' in first.headers["link"]
        cursor = first.json()["next"]
        second = client.get("/thumbnails", params={"limit": 2, "cursor": cursor})
        assert first.json()["thumbnails"] + second.json()["thumbnails"] == told[::-1]
        assert second.json()["next"] is None and "link" not in second.headers
        for path in ("/photos", "/users/me/photos"):
            assert_problem(client.get(path, params={"cursor": cursor}), 422, "bad_cursor")
        for wrong in ("", "x", cursor + "=", "AQAAAAAAAAAB"):
            answer = client.get("/thumbnails", params={"cursor": wrong})
            assert_problem(answer, 422, "bad_cursor")


def test_they_go_with_their_account(start_service: Callable[..., Service]) -> None:
    service = start_service(thumbnail_widths="[]")
    leaver = service.register("leaver")
    stays = service.register("stays")
    for account in (leaver, stays):
        made(service, account, key="one")
        made(service, account)
        service.patch_picture(account, CONTENT).raise_for_status()
    with service.client(leaver) as client:
        assert client.delete("/users/me").status_code == 204
    wait_until(lambda: list_owned(service, leaver) == [], "all of its files are gone")
    left = list_owned(service, stays)
    assert len(left) == 3
    objects = [key for key in service.objects() if not key.startswith("darkroom/")]
    assert sorted(objects) == sorted(key for key, _ in left)
    assert service.sql("SELECT DISTINCT owner_id FROM single_thumbnails")[0][0] == stays.id


def test_while_the_store_is_away_nothing_is_made(start_service: Callable[..., Service]) -> None:
    """It is not answered with the address of a picture that is not there."""
    with FakeS3() as store:
        settings = {name.lower(): value for name, value in store.settings().items()}
        service = start_service(**settings)
        account = service.register("waits")
        store.away = True
        assert_problem(send(service, account), 503, "store_unavailable")
    assert service.sql("SELECT 1 FROM single_thumbnails") == []
    assert {row["state"] for row in service.sql("SELECT state FROM stored_files")} == {"pending"}


def test_a_picture_that_is_small_is_not_enlarged(shared_service: Service, account: Account) -> None:
    told = made(shared_service, account, encoded(quarters(30, 20), "PNG"))
    assert (told["width"], told["height"]) == (30, 20)
