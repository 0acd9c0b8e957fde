"""Who sees which photos, over HTTP, and how a client walks through them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.photos import MASTER_SIDES_PX, ORIGINAL, store_photo
from tests.support.pictures import jpeg
from tests.support.services import Account, Service, assert_problem

MASTER = jpeg(*MASTER_SIDES_PX)
CALLERS = ("anonymous", "other", "admin", "owner")
BAD_CURSORS = {
    "empty": "",
    "a number": "7",
    "a word": "undefined",
    "not base64": "!!!!",
    "not ASCII": "é",
    "too short": "AQAAAA==",
    "too long": "AQAAAAAAAAAHAAAA",
    "of another list": "AgAAAAAAAAAH",
    "long": "A" * 5000,
    "a line more": "AQAAAAAAAAAH\n",
}


@dataclass(frozen=True)
class Cast:
    """Who looks, and what the owner has: a public photo and, newer, a private one."""

    service: Service
    accounts: dict[str, Account]
    public_id: int
    private_id: int

    def get(self, path: str, who: str = "anonymous", **parameters: Any) -> httpx.Response:
        with self.service.client(self.accounts.get(who)) as client:
            return client.get(path, params=parameters)


@pytest.fixture(scope="module")
def cast(shared_service: Service) -> Cast:
    accounts = {
        "owner": shared_service.register("photo-owner"),
        "other": shared_service.register("photo-other"),
        "admin": shared_service.register("photo-admin", is_admin=True),
    }
    owner_id = accounts["owner"].id
    ids = [
        store_photo(shared_service, owner_id, visibility, master=MASTER, caption=visibility)
        for visibility in ("public", "private")
    ]
    return Cast(shared_service, accounts, *ids)


def find_ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [photo["id"] for photo in answer.json()["photos"]]


def walk(client: httpx.Client, path: str, limit: int) -> Iterator[dict[str, Any]]:
    """The pages of a list, each with its header Link checked."""
    parameters: dict[str, Any] = {"limit": limit}
    while True:
        answer = client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        yield page
        if page["next"] is None:
            assert "link" not in answer.headers
            return
        parameters["cursor"] = page["next"]
        linked = answer.url.join(answer.links["next"]["url"])
        assert linked.path == answer.url.path
        assert dict(linked.params) == {name: str(value) for name, value in parameters.items()}


def test_a_photo_is_described_as_a_page_needs_it(cast: Cast) -> None:
    owner = cast.accounts["owner"]
    found = cast.get(f"/photos/{cast.public_id}")
    assert found.status_code == 200, found.text
    shown = found.json()
    url = shown.pop("url")
    made_at = datetime.fromisoformat(shown.pop("created_at"))
    placeholder = shown.pop("placeholder")
    thumbnails = shown.pop("thumbnails")
    assert [(each["width"], each["format"]) for each in thumbnails] == [
        (MASTER_SIDES_PX[0], "webp"),
        (MASTER_SIDES_PX[0], "jpeg"),
    ], "none is larger than the photo, and none comes twice"
    sources = [source.split() for source in shown.pop("srcset")["webp"].split(", ")]
    assert sources == [
        [each["url"], f"{each['width']}w"] for each in thumbnails if each["format"] == "webp"
    ]
    assert shown == {
        "id": cast.public_id,
        "owner": {
            "id": owner.id,
            "username": "photo-owner",
            "image_path": "/static/profile_pics/default.jpg",
        },
        "width": MASTER_SIDES_PX[0],
        "height": MASTER_SIDES_PX[1],
        "aspect_ratio": MASTER_SIDES_PX[0] / MASTER_SIDES_PX[1],
        "caption": "public",
        "alt": "a red boat",
        "visibility": "public",
        "filename": "IMG_0001.HEIC",
        "content_type": "image/heic",
        "size_bytes": len(ORIGINAL),
        "removed_metadata": ["exif", "gps"],
        "notes": [],
        "sizes": {},
    }
    assert abs(datetime.now(UTC) - made_at) < timedelta(hours=1)
    assert (placeholder["width"], placeholder["dominant_colour"]) == (MASTER_SIDES_PX[0], "#ac3227")
    loaded = cast.service.get_picture(url)
    assert (loaded.status_code, loaded.content) == (200, MASTER)


def test_only_the_owner_is_given_the_original(cast: Cast) -> None:
    for who in CALLERS:
        shown = cast.get(f"/photos/{cast.public_id}", who).json()
        assert ("original_url" in shown) == (who == "owner"), who
        if who == "owner":
            loaded = cast.service.get_picture(shown["original_url"])
            assert (loaded.status_code, loaded.content) == (200, ORIGINAL)
    (listed, _) = cast.get("/users/me/photos", "owner").json()["photos"]
    assert "original_url" not in listed


def test_what_is_private_is_shown_by_a_link_that_expires(cast: Cast) -> None:
    alone = cast.get(f"/photos/{cast.private_id}", "owner").json()
    (listed, public) = cast.get("/users/me/photos", "owner").json()["photos"]
    assert not httpx.URL(public["url"]).query
    for url in (alone["url"], alone["original_url"], listed["url"]):
        link = httpx.URL(url)
        expires = link.params.get("expires") or link.params["X-Amz-Expires"]
        assert int(expires) > 0 and (link.params.get("sig") or link.params["X-Amz-Signature"])
    assert cast.service.get_picture(listed["url"]).content == MASTER


def test_nothing_is_shown_of_an_original_that_was_not_kept(cast: Cast) -> None:
    cast.service.sql("UPDATE photos SET original_id = NULL WHERE id = $1", cast.private_id)
    shown = cast.get(f"/photos/{cast.private_id}", "owner").json()
    assert shown["original_url"] is None
    assert (shown["size_bytes"], shown["content_type"]) == (len(ORIGINAL), "image/heic")


def test_a_private_photo_is_there_for_its_owner_only(cast: Cast) -> None:
    owner_id = cast.accounts["owner"].id
    never = cast.get(f"/photos/{2**60}")
    for who in CALLERS:
        is_owner = who == "owner"
        visible = [cast.private_id, cast.public_id] if is_owner else [cast.public_id]
        assert find_ids(cast.get(f"/users/{owner_id}/photos", who)) == visible, who
        listed = find_ids(cast.get("/photos", who, limit=100))
        assert [each for each in listed if each in (cast.private_id, cast.public_id)] == visible
        one = cast.get(f"/photos/{cast.private_id}", who)
        if is_owner:
            assert one.json()["visibility"] == "private"
        else:
            assert_problem(one, 404, "photo_not_found")
            assert one.json()["detail"] == never.json()["detail"]
    assert_problem(never, 404, "photo_not_found")
    assert find_ids(cast.get("/users/me/photos", "owner")) == [cast.private_id, cast.public_id]
    assert find_ids(cast.get("/users/me/photos", "other")) == []


def test_a_photo_that_was_deleted_is_gone_from_everywhere(cast: Cast) -> None:
    leaving = store_photo(cast.service, cast.accounts["other"].id, master=MASTER)
    assert find_ids(cast.get("/users/me/photos", "other")) == [leaving]
    cast.service.sql("DELETE FROM photos WHERE id = $1", leaving)
    assert_problem(cast.get(f"/photos/{leaving}"), 404, "photo_not_found")
    assert find_ids(cast.get("/users/me/photos", "other")) == []


def test_a_list_is_walked_page_by_page(cast: Cast, account: Account) -> None:
    ids = [
        store_photo(cast.service, account.id, visibility, master=MASTER)
        for visibility in ("public", "private", "private", "public", "public", "private")
    ]
    ids.reverse()
    with cast.service.client(account) as client:
        for limit, lengths in ((4, [4, 2]), (3, [3, 3]), (6, [6]), (7, [6]), (1, [1] * 6)):
            pages = list(walk(client, "/users/me/photos", limit))
            assert [len(page["photos"]) for page in pages] == lengths
            assert [photo["id"] for page in pages for photo in page["photos"]] == ids
        everything = [
            photo["id"] for page in walk(client, "/photos", 2) for photo in page["photos"]
        ]
    assert everything == sorted(set(everything), reverse=True)
    assert set(ids) | {cast.public_id} <= set(everything)
    assert cast.private_id not in everything


def test_a_page_has_thirty_photos_unless_it_is_told(cast: Cast) -> None:
    asked = cast.get("/photos", limit=0)
    assert (asked.status_code, asked.json()["code"]) == (422, "invalid_request")
    for limit in ("101", "-1", "many", ""):
        assert cast.get("/photos", limit=limit).json()["code"] == "invalid_request", limit
    parameters = cast.get("/openapi.json").json()["paths"]["/photos"]["get"]["parameters"]
    limit = next(each["schema"] for each in parameters if each["name"] == "limit")
    assert (limit["default"], limit["minimum"], limit["maximum"]) == (30, 1, 100)


@pytest.mark.parametrize("cursor", BAD_CURSORS.values(), ids=list(BAD_CURSORS))
def test_a_cursor_that_no_list_gave_out_is_refused(cast: Cast, cursor: str) -> None:
    for path in ("/photos", f"/users/{cast.accounts['owner'].id}/photos"):
        assert_problem(cast.get(path, cursor=cursor), 422, "bad_cursor")


def test_a_list_of_nobody_is_not_found_and_one_of_nothing_is_empty(
    cast: Cast, account: Account
) -> None:
    assert cast.get(f"/users/{account.id}/photos").json() == {"photos": [], "next": None}
    assert_problem(cast.get(f"/users/{2**60}/photos"), 404, "user_not_found")
    with cast.service.client(account) as client:
        assert client.delete("/users/me").status_code == 204
    assert_problem(cast.get(f"/users/{account.id}/photos"), 404, "user_not_found")
    assert_problem(cast.get("/users/nobody/photos"), 404, "user_not_found")


def test_a_token_is_not_needed_but_a_bad_one_is_refused(cast: Cast) -> None:
    assert_problem(cast.get("/users/me/photos"), 401, "not_authenticated")
    with cast.service.client() as client:
        for path in ("/photos", "/users/me/photos", "/users/1/photos", f"/photos/{cast.public_id}"):
            for header in ("Bearer nonsense", "Bearer"):
                answer = client.get(path, headers={"Authorization": header})
                assert_problem(answer, 401, "invalid_token")
