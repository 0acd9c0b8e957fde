"""Photos over HTTP: added, replaced, hidden, deleted; what is refused leaves nothing behind."""

import socket
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from config import MIB
from storage import PART_BYTES
from tests.support.pictures import encoded, jpeg, numbered, png_chunk, quarters
from tests.support.services import (
    FORM,
    Account,
    Bucket,
    Service,
    assert_problem,
    form,
    part,
    read_answer,
    wait_until,
)

LARGE = encoded(numbered(1, 2000, 1500), quality=95)
PADDED = LARGE + bytes(3 * PART_BYTES)


def add(
    service: Service, account: Account, content: bytes = LARGE, **fields: str
) -> httpx.Response:
    with service.client(account) as client:
        return client.post("/photos", files={"file": ("boat.jpg", content)}, data=fields)


def added(service: Service, account: Account, content: bytes = LARGE, **fields: str) -> Any:
    answer = add(service, account, content, **fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def load(url: str, service: Service) -> httpx.Response:
    return service.get_picture(url)


BOTH = [("photo_original", "live"), ("photo_rendition", "live")]


def list_owned(service: Service, account: Account) -> list[tuple[str, str]]:
    """The purposes and states of the files of an account: thumbnails are as masters are."""
    rows = service.sql(
        "SELECT DISTINCT purpose, state FROM stored_files WHERE owner_id = $1 ORDER BY 1, 2",
        account.id,
    )
    return [(row["purpose"], row["state"]) for row in rows]


def keys_of(service: Service, account: Account) -> set[str]:
    rows = service.sql("SELECT key FROM stored_files WHERE owner_id = $1", account.id)
    return {row["key"] for row in rows}


def test_a_photo_is_kept_as_it_was_sent_and_shown_by_its_master(
    shared_service: Service, account: Account
) -> None:
    photo = added(shared_service, account, caption="A boat", alt="red", visibility="public")
    assert (photo["caption"], photo["alt"], photo["visibility"]) == ("A boat", "red", "public")
    assert (photo["filename"], photo["size_bytes"]) == ("boat.jpg", len(LARGE))
    assert (photo["content_type"], photo["width"], photo["height"]) == ("image/jpeg", 1600, 1200)
    assert photo["aspect_ratio"] == pytest.approx(4 / 3)
    assert photo["owner"]["id"] == account.id
    shown = load(photo["url"], shared_service)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert load(photo["original_url"], shared_service).content == LARGE
    wait_until(lambda: list_owned(shared_service, account) == BOTH, "original and renditions")
    with shared_service.client(account) as client:
        assert client.get(f"/photos/{photo['id']}").json()["url"] == photo["url"]


def test_what_a_photo_shows_otherwise_than_its_original_is_noted(
    shared_service: Service, account: Account
) -> None:
    half_clear = quarters(640, 480).convert("RGBA")
    half_clear.putalpha(128)
    photo = added(shared_service, account, encoded(half_clear, "PNG"))
    assert photo["notes"] == ["transparency_flattened"]
    path = f"/photos/{photo['id']}"
    with shared_service.client(account) as client:
        assert client.get(path).json()["notes"] == photo["notes"]
        assert client.patch(path, json={"visibility": "private"}).json()["notes"] == photo["notes"]
        replaced = client.patch(path, files={"file": ("a.jpg", LARGE)})
        assert replaced.json()["notes"] == []


@pytest.mark.parametrize("size_bytes", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES])
def test_a_file_of_any_number_of_parts_is_kept_byte_for_byte(
    shared_service: Service, account: Account, size_bytes: int
) -> None:
    content = LARGE + bytes(size_bytes - len(LARGE))
    photo = added(shared_service, account, content)
    assert photo["size_bytes"] == size_bytes
    assert load(photo["original_url"], shared_service).content == content
    rows = shared_service.sql(
        "SELECT upload_id, size_bytes FROM stored_files WHERE owner_id = $1 AND purpose = $2",
        account.id,
        "photo_original",
    )
    assert [tuple(row) for row in rows] == [(None, size_bytes)]


def test_the_bare_file_is_taken_as_the_body(shared_service: Service, account: Account) -> None:
    with shared_service.client(account) as client:
        sent = client.post("/photos", content=PADDED, headers={"Content-Type": "image/jpeg"})
        assert sent.status_code == 201, sent.text
        photo = sent.json()
        assert (photo["caption"], photo["filename"], photo["visibility"]) == ("", "", "public")
        assert load(photo["original_url"], shared_service).content == PADDED


def test_only_whoever_has_a_link_sees_a_private_photo(
    shared_service: Service, account: Account
) -> None:
    photo = added(shared_service, account, visibility="private")
    assert load(photo["url"], shared_service).status_code == 200
    bare = photo["url"].partition("?")[0]
    assert load(bare, shared_service).status_code in (403, 404)
    assert load(photo["original_url"].partition("?")[0], shared_service).status_code in (403, 404)
    with shared_service.client() as client:
        assert_problem(client.get(f"/photos/{photo['id']}"), 404, "photo_not_found")


def test_hidden_and_shown_again_its_old_addresses_are_dead(
    shared_service: Service, account: Account
) -> None:
    photo = added(shared_service, account, caption="before")
    path = f"/photos/{photo['id']}"
    with shared_service.client(account) as client:
        hidden = client.patch(path, json={"visibility": "private", "alt": "a boat"})
        assert hidden.status_code == 200, hidden.text
        assert load(photo["url"], shared_service).status_code in (403, 404)
        assert (hidden.json()["caption"], hidden.json()["alt"]) == ("before", "a boat")
        content = load(hidden.json()["url"], shared_service).content
        shown = client.patch(path, json={"visibility": "public"}).json()
        assert shown["url"] != photo["url"]
        assert load(shown["url"], shared_service).content == content
        assert load(hidden.json()["url"], shared_service).status_code in (403, 404)
    wait_until(lambda: list_owned(shared_service, account) == BOTH, "original and renditions")


def test_a_new_file_takes_the_place_of_the_old_one(
    shared_service: Service, account: Account
) -> None:
    photo = added(shared_service, account, caption="stays")
    other = jpeg(300, 400)
    before = keys_of(shared_service, account)
    with shared_service.client(account) as client:
        answer = client.patch(
            f"/photos/{photo['id']}",
            files={"file": ("other.jpg", other)},
            data={"visibility": "private"},
        )
        assert answer.status_code == 200, answer.text
        changed = answer.json()
    assert (changed["caption"], changed["visibility"]) == ("stays", "private")
    assert (changed["width"], changed["height"], changed["filename"]) == (300, 400, "other.jpg")
    assert load(changed["original_url"], shared_service).content == other
    assert load(photo["url"], shared_service).status_code in (403, 404)
    wait_until(lambda: not before & keys_of(shared_service, account), "the old files are forgotten")


def test_an_admin_who_changes_a_photo_is_not_shown_its_original(
    shared_service: Service, account: Account
) -> None:
    photo = added(shared_service, account)
    admin = shared_service.register(f"admin-{uuid.uuid4().hex[:12]}", is_admin=True)
    with shared_service.client(admin) as client:
        said = client.patch(f"/photos/{photo['id']}", json={"caption": "by an admin"})
        sent = client.patch(f"/photos/{photo['id']}", files={"file": ("a.jpg", jpeg(300, 400))})
    for answer in (said, sent):
        assert (answer.status_code, answer.json()["original_url"]) == (200, None)
    with shared_service.client(account) as client:
        assert client.get(f"/photos/{photo['id']}").json()["original_url"]


def test_a_deleted_photo_leaves_nothing(shared_service: Service, account: Account) -> None:
    photo = added(shared_service, account)
    with shared_service.client(account) as client:
        assert client.delete(f"/photos/{photo['id']}").status_code == 204
        assert_problem(client.get(f"/photos/{photo['id']}"), 404, "photo_not_found")
        assert_problem(client.delete(f"/photos/{photo['id']}"), 404, "photo_not_found")
    wait_until(lambda: not list_owned(shared_service, account), "nothing is left")
    for url in (photo["url"], photo["original_url"]):
        assert load(url, shared_service).status_code == 404


def test_an_account_goes_with_all_its_photos(service: Service) -> None:
    account = service.register("leaving")
    other = service.register("staying")
    kept = added(service, other)
    for visibility in ("public", "private"):
        added(service, account, visibility=visibility)
    with service.client(account) as client:
        assert (
            client.patch(
                f"/users/{account.id}/picture", files={"file": ("a.jpg", LARGE)}
            ).status_code
            == 200
        )
        assert client.delete(f"/users/{account.id}").status_code == 204
    wait_until(lambda: not list_owned(service, account), "nothing is left")
    wait_until(lambda: set(service.objects()) == keys_of(service, other), "rows are objects")
    assert load(kept["url"], service).status_code == 200


def test_a_photo_becomes_the_profile_picture(shared_service: Service, account: Account) -> None:
    photo = added(shared_service, account)
    path = f"/users/{account.id}/picture"
    with shared_service.client(account) as client:
        answer = client.patch(path, json={"photo_id": photo["id"], "crop": "0,0,900"})
        assert answer.status_code == 200, answer.text
        by_photo = load(answer.json()["image_path"], shared_service).content
        sent = client.patch(path, files={"file": ("a.jpg", LARGE)}, data={"crop": "0,0,900"})
        assert load(sent.json()["image_path"], shared_service).content == by_photo
        bad = client.patch(path, json={"photo_id": photo["id"], "crop": "1,2"})
        assert_problem(bad, 422, "bad_crop")
        assert_problem(client.patch(path, json={"photo_id": 2**60}), 404, "photo_not_found")
        assert client.patch(path, json={"photo": 1}).json()["code"] == "invalid_request"
    stranger = shared_service.register("stranger-of-the-photo")
    with shared_service.client(stranger) as client:
        answer = client.patch("/users/me/picture", json={"photo_id": photo["id"]})
        assert_problem(answer, 404, "photo_not_found")


def test_originals_that_are_not_kept_go_with_the_commit(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(KEEP_ORIGINALS="false")
    account = service.register("frugal")
    photo = added(service, account, PADDED)
    assert (photo["original_url"], photo["size_bytes"]) == (None, len(PADDED))
    wait_until(
        lambda: list_owned(service, account) == [("photo_rendition", "live")],
        "only the master stays",
    )
    with service.client(account) as client:
        answer = client.patch("/users/me/picture", json={"photo_id": photo["id"]})
        assert answer.status_code == 200


REFUSED = {
    "text": (b"no picture at all" * 1000, 400, "not_a_picture"),
    "nothing": (b"", 400, "empty_file"),
    "half a picture": (LARGE[: len(LARGE) // 2], 400, "truncated_picture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_photo_is_refused_and_leaves_nothing(
    shared_service: Service, account: Account, name: str
) -> None:
    content, status, code = REFUSED[name]
    assert_problem(add(shared_service, account, content), status, code)
    wait_until(lambda: not list_owned(shared_service, account), "nothing is left")


def test_a_bad_field_is_refused_before_anything_is_stored(
    shared_service: Service, account: Account
) -> None:
    for fields, part_of_sentence in (
        ({"visibility": "hidden"}, "public or private"),
        ({"caption": "x" * 2001}, "2000"),
        ({"alt": "a\x00b"}, "control"),
    ):
        answer = add(shared_service, account, LARGE, **fields)
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "invalid_request"
        assert part_of_sentence in answer.json()["detail"]
    assert list_owned(shared_service, account) == []


def test_nobody_changes_the_photo_of_another(shared_service: Service, account: Account) -> None:
    public = added(shared_service, account)["id"]
    private = added(shared_service, account, visibility="private")["id"]
    stranger = shared_service.register(f"stranger-of-{account.id}")
    with shared_service.client(stranger) as client:
        for change in (
            lambda path: client.patch(path, json={"caption": "mine"}),
            lambda path: client.patch(path, files={"file": ("a.jpg", LARGE)}),
            client.delete,
        ):
            assert_problem(change(f"/photos/{public}"), 403, "not_yours")
            assert_problem(change(f"/photos/{private}"), 404, "photo_not_found")
    with shared_service.client() as client:
        assert_problem(client.post("/photos", content=LARGE), 401, "not_authenticated")
        assert_problem(client.delete(f"/photos/{public}"), 401, "not_authenticated")


@pytest.fixture
def connection(shared_service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", shared_service.port), timeout=30) as opened:
        yield opened


def begin(connection: socket.socket, account: Account, length: int, body: bytes) -> None:
    head = (
        "POST /photos HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {account.headers['Authorization']}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)


def test_what_is_too_large_or_no_picture_is_refused_before_the_rest_has_been_sent(
    shared_service: Service, account: Account, connection: socket.socket
) -> None:
    begin(connection, account, 40 * MIB, form(part(b"<html>" + b"x" * 100_000))[:90_000])
    assert_problem(read_answer(connection), 400, "unsupported_format")


def test_too_many_pixels_are_refused_before_the_rest_has_been_sent(
    shared_service: Service, account: Account, connection: socket.socket
) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", bytes(50_000))
    begin(connection, account, 40 * MIB, form(part(content))[:40_000])
    assert_problem(read_answer(connection), 413, "too_many_pixels")


def test_more_than_the_limit_is_refused_at_its_announcement(
    shared_service: Service, account: Account, connection: socket.socket
) -> None:
    begin(connection, account, 60 * MIB, b"")
    assert_problem(read_answer(connection), 413, "file_too_large")


def test_a_client_that_goes_away_leaves_no_upload_open(
    shared_service: Service, account: Account, connection: socket.socket
) -> None:
    body = form(part(PADDED))
    begin(connection, account, len(body), body[: 2 * PART_BYTES + 1000])

    def find_upload() -> list[Any]:
        return shared_service.sql(
            "SELECT key, upload_id FROM stored_files WHERE owner_id = $1 AND upload_id IS NOT NULL",
            account.id,
        )

    wait_until(find_upload, "an upload is open")
    ((key, upload_id),) = find_upload()
    connection.close()
    wait_until(lambda: upload_id not in find_open_uploads(shared_service), "it is aborted")
    assert list_owned(shared_service, account) == [("photo_original", "pending")]
    assert key not in shared_service.objects()


def find_open_uploads(service: Service) -> list[str]:
    """The ids of unfinished uploads: of drafts on disk, or as the bucket lists them."""
    if service.settings["STORAGE"] == "local":
        drafts = Path(service.settings["DATA_DIR"]) / "media" / ".drafts"
        return [draft.name for draft in drafts.glob("*")]
    bucket = Bucket.of(service.settings)
    found = bucket.client().list_multipart_uploads(Bucket=bucket.name)
    return [upload["UploadId"] for upload in found.get("Uploads", [])]
