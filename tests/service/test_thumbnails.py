"""Thumbnails over HTTP: presets at once, any signed size, each made once; what is refused.

Photos whose presets no test needs are inserted by hand, so that no job makes any.
"""

import io
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from models import Photo, Visibility
from photos import MOST_SIZES, VERSION, ThumbnailLinks, ThumbnailOptions, WantedFormat
from tests.support.accounts import make_account
from tests.support.backends import make_settings
from tests.support.photos import MASTER_SIDES_PX, store_photo
from tests.support.pictures import EXIF_ARTIST, jpeg
from tests.support.services import (
    Account,
    Service,
    assert_problem,
    wait_until,
)
from tests.support.stock import Stock

pytestmark = pytest.mark.backends

SENDER = "the name of whoever took it"
MASTER = jpeg(*MASTER_SIDES_PX)
PRESET_SIDES = [(160, 120), (320, 240), (640, 480), (1280, 960)]
FOR_EVER = "public, max-age=31536000, immutable"
FORMATS = {"JPEG": "image/jpeg", "WEBP": "image/webp", "AVIF": "image/avif"}
# What a JPEG says of itself, and nothing of its maker.
PLAIN_JPEG = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression"}


def make_file() -> bytes:
    exif = Image.Exif()
    exif[EXIF_ARTIST] = SENDER
    return jpeg(2000, 1500, exif=exif, comment=SENDER.encode())


LARGE = make_file()


def add(service: Service, account: Account, content: bytes = LARGE, **fields: str) -> Any:
    with service.client(account) as client:
        answer = client.post("/photos", files={"file": ("boat.jpg", content)}, data=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def insert(service: Service, account: Account, visibility: str = "public") -> int:
    return store_photo(service, account.id, visibility, master=MASTER)


def read(service: Service, photo_id: int, account: Account | None = None, **query: str) -> Any:
    with service.client(account) as client:
        answer = client.get(f"/photos/{photo_id}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(
    service: Service, address: str, account: Account | None = None, **headers: str
) -> httpx.Response:
    """Ask for a thumbnail, and do not follow where the answer leads."""
    with service.client(account) as client:
        return client.get(address, headers=headers)


def ask_for(service: Service, photo_id: int, query: str, **options: Any) -> httpx.Response:
    return ask(service, f"/photos/{photo_id}/thumbnail?{query}", **options)


def load(service: Service, address: str) -> tuple[str, tuple[int, int]]:
    """Load a picture, from where an address leads to; return its type and its sides."""
    answer = ask(service, address)
    if answer.status_code == 302:
        answer = ask(service, answer.headers["location"])
    assert answer.status_code == 200, answer.text
    picture = Image.open(io.BytesIO(answer.content))
    picture.load()
    assert FORMATS[str(picture.format)] == answer.headers["content-type"]
    return answer.headers["content-type"], picture.size


def are_stored(photo: Any) -> bool:
    return not any("/thumbnail?" in thumbnail["url"] for thumbnail in photo["thumbnails"])


def wait_for_presets(service: Service, account: Account, photo_id: int) -> Any:
    wait_until(lambda: are_stored(read(service, photo_id, account)), "the presets are stored")
    return read(service, photo_id, account)


def list_thumbnails(service: Service, photo_id: int) -> dict[str, str]:
    """The key of every thumbnail of a photo that is stored, or being made, by what it is."""
    rows = service.sql(
        "SELECT rendition, coalesce(key, '') AS key FROM thumbnails"
        " LEFT JOIN stored_files f ON f.id = file_id WHERE photo_id = $1",
        photo_id,
    )
    return {row["rendition"]: row["key"] for row in rows}


def list_files(service: Service, account: Account) -> list[tuple[str, str]]:
    rows = service.sql(
        "SELECT key, state FROM stored_files WHERE owner_id = $1 ORDER BY 1", account.id
    )
    return [(row["key"], row["state"]) for row in rows]


def assert_dead(service: Service, url: str) -> None:
    assert ask(service, url).status_code in (403, 404), url


@pytest.fixture
def links(shared_service: Service) -> ThumbnailLinks:
    """Signs as a page does that a server writes."""
    return ThumbnailLinks(make_settings(shared_service.settings))


def sign(
    links: ThumbnailLinks,
    photo_id: int,
    options: ThumbnailOptions,
    visibility: Visibility = Visibility.PUBLIC,
) -> str:
    return links.write_address(Photo(id=photo_id, visibility=visibility), options)


def test_the_presets_are_stored_right_behind_the_answer(
    shared_service: Service, account: Account
) -> None:
    added = add(shared_service, account)
    path = f"/photos/{added['id']}/thumbnail"
    described = [(one["width"], one["height"], one["format"]) for one in added["thumbnails"]]
    assert described == [(*sides, name) for sides in PRESET_SIDES for name in ("webp", "jpeg")]
    addresses = [
        f"{path}?preset={width}&format={name}"
        for width, _ in PRESET_SIDES
        for name in ("webp", "jpeg")
    ]
    assert [one["url"] for one in added["thumbnails"]] == addresses
    photo = wait_for_presets(shared_service, account, added["id"])
    with shared_service.client() as client:
        (listed,) = client.get(f"/users/{account.id}/photos").json()["photos"]
    assert (listed["thumbnails"], listed["srcset"]) == (photo["thumbnails"], photo["srcset"])
    assert [(one["width"], one["height"], one["format"]) for one in photo["thumbnails"]] == (
        described
    )
    for one in photo["thumbnails"]:
        answer = ask(shared_service, one["url"])
        assert (answer.status_code, answer.headers["cache-control"]) == (200, FOR_EVER)
        assert answer.headers["content-type"] == f"image/{one['format']}"
        picture = Image.open(io.BytesIO(answer.content))
        picture.load()
        assert picture.size == (one["width"], one["height"])
        assert set(picture.info) <= PLAIN_JPEG | {"loop", "background", "timestamp", "duration"}
        assert SENDER.encode() not in answer.content and not picture.getexif()
    for name in ("webp", "jpeg"):
        written = [
            f"{one['url']} {one['width']}w" for one in photo["thumbnails"] if one["format"] == name
        ]
        assert photo["srcset"][name] == ", ".join(written)
    # What an address of before leads to is what the photo shows now.
    for address, one in zip(addresses, photo["thumbnails"], strict=True):
        assert ask(shared_service, address).headers["location"] == one["url"]
    assert {state for _, state in list_files(shared_service, account)} == {"live"}


def test_a_small_photo_has_what_presets_there_can_be(
    shared_service: Service, account: Account
) -> None:
    photo_id = insert(shared_service, account)
    photo = read(shared_service, photo_id)
    assert [(one["width"], one["height"]) for one in photo["thumbnails"]] == [MASTER_SIDES_PX] * 2
    for query in ("preset=1280&format=webp", "preset=160&format=webp"):
        assert ask_for(shared_service, photo_id, query).status_code == 302
    assert list(list_thumbnails(shared_service, photo_id)) == ["160x120:inside:webp"]


def test_a_preset_leads_to_what_is_stored(shared_service: Service, account: Account) -> None:
    photo_id = insert(shared_service, account)
    named = ask_for(shared_service, photo_id, "preset=320&format=webp", accept="image/jpeg")
    assert (named.status_code, named.headers["cache-control"]) == (302, "public, max-age=300")
    assert "Accept" not in named.headers.get("vary", "").split(", ")
    taking = {"image/avif,image/webp,*/*": "image/webp", "*/*": "image/jpeg"}
    for query in ("preset=320", "preset=320&format=auto"):
        for accepted, content_type in taking.items():
            answer = ask_for(shared_service, photo_id, query, accept=accepted)
            assert answer.status_code == 302
            assert "Accept" in answer.headers["vary"].split(", ")
            assert answer.headers["cache-control"] == "public, max-age=300"
            target = answer.headers["location"]
            assert load(shared_service, target) == (content_type, MASTER_SIDES_PX)
            assert (target == named.headers["location"]) == (content_type == "image/webp")
    stored = ask(shared_service, target)
    part = ask(shared_service, target, range="bytes=2-5")
    assert (part.status_code, part.content) == (206, stored.content[2:6])
    same = ask(shared_service, target, None, **{"if-none-match": stored.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_a_page_is_given_the_signed_addresses_of_its_sizes(
    shared_service: Service, account: Account
) -> None:
    photo_id = insert(shared_service, account)
    wanted = {
        "80x": (80, 60),
        "x30": (40, 30),
        "100x30": (40, 30),
        "96x96:cover": (96, 96),
        "100x40:contain": (100, 40),
        "50x50:inside": (50, 38),
        # Never larger than the photo.
        "4096x": MASTER_SIDES_PX,
        "500x500:cover": (120, 120),
    }
    assert len(wanted) == MOST_SIZES
    sizes = read(shared_service, photo_id, sizes=",".join(wanted))["sizes"]
    assert list(sizes) == list(wanted)
    for size, sides in wanted.items():
        assert load(shared_service, sizes[size]) == ("image/jpeg", sides)
    assert len(list_thumbnails(shared_service, photo_id)) == len(wanted) - 1  # two are one
    assert read(shared_service, photo_id)["sizes"] == {}
    with shared_service.client() as client:
        for wrong in (",".join([*wanted, "9x9"]), "0x0", "80x,nothing"):
            answer = client.get(f"/photos/{photo_id}", params={"sizes": wrong})
            assert_problem(answer, 422, "bad_thumbnail")


def test_a_page_that_a_server_writes_signs_by_itself(
    shared_service: Service, account: Account, links: ThumbnailLinks
) -> None:
    photo_id = insert(shared_service, account)
    options = ThumbnailOptions(100, None, format=WantedFormat.AVIF)
    assert load(shared_service, sign(links, photo_id, options)) == ("image/avif", (100, 75))


def find_bad_input(
    service: Service, account: Account, links: ThumbnailLinks, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str, int, str]]:
    """What is asked, and how it is refused; the photos are another account's."""
    public_id = insert(service, account)
    private_id = insert(service, account, "private")
    deleted_id = insert(service, account)
    with service.client(account) as client:
        assert client.delete(f"/photos/{deleted_id}").status_code == 204
    public = f"/photos/{public_id}/thumbnail"
    options = ThumbnailOptions(90, 60)
    signed = sign(links, public_id, options)
    shown = sign(links, private_id, options, Visibility.PRIVATE)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 1_700_000_000.0)
        expired = sign(links, private_id, options, Visibility.PRIVATE)
    unsigned = signed.partition("&sig=")[0]
    yield "unsigned", unsigned, 403, "bad_signature"
    yield "an empty signature", f"{unsigned}&sig=", 403, "bad_signature"
    yield "another width", signed.replace("w=90", "w=91"), 403, "bad_signature"
    moved = signed.replace(f"/{public_id}/", f"/{deleted_id}/")
    yield "another photo", moved, 403, "bad_signature"
    yield "a later end", shown.replace("expires=", "expires=9"), 403, "bad_signature"
    yield "without its end", shown.replace("&expires=", "&ends="), 403, "bad_signature"
    yield "expired", expired, 403, "link_expired"
    yield "no preset", f"{public}?preset=161", 422, "bad_thumbnail"
    yield "a preset and a side", f"{public}?preset=160&w=160", 422, "bad_thumbnail"
    yield "no side", f"{public}?fit=cover", 422, "bad_thumbnail"
    yield "nothing", public, 422, "bad_thumbnail"
    for query in ("w=0", "w=100000", "h=0", "w=-1", "w=x", "preset=x", "w=9&expires=x"):
        yield query, f"{public}?{query}", 422, "invalid_request"
    for query in ("preset=160&format=gif", "w=9&fit=crop"):
        yield query, f"{public}?{query}", 422, "invalid_request"
    private = f"/photos/{private_id}/thumbnail"
    yield "a private photo", f"{private}?preset=160", 404, "photo_not_found"
    yield "a private photo, unsigned", f"{private}?w=9", 404, "photo_not_found"
    yield "signed when public", sign(links, private_id, options), 404, "photo_not_found"
    yield "a deleted photo", f"/photos/{deleted_id}/thumbnail?preset=160", 404, "photo_not_found"
    yield "deleted, signed", sign(links, deleted_id, options), 404, "photo_not_found"
    yield "no photo", f"/photos/{2**60}/thumbnail?preset=160", 404, "photo_not_found"
    yield "no id", "/photos/0/thumbnail?preset=160", 404, "photo_not_found"


def test_bad_input_is_refused_and_leaves_nothing(
    shared_service: Service,
    account: Account,
    links: ThumbnailLinks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger = make_account(shared_service, f"stranger-of-thumbnails-{account.id}")
    for name, address, status, code in find_bad_input(shared_service, account, links, monkeypatch):
        for viewer in (None, stranger):
            answer = ask(shared_service, address, viewer)
            found = (answer.status_code, answer.json()["code"])
            assert found == (status, code), (name, answer.text)
            assert "location" not in answer.headers
    rows = shared_service.sql(
        "SELECT photo_id FROM thumbnails JOIN photos p ON p.id = photo_id WHERE owner_id = $1",
        account.id,
    )
    assert rows == []
    wait_until(lambda: len(list_files(shared_service, account)) == 4, "two photos are left")
    assert {state for _, state in list_files(shared_service, account)} == {"live"}


def test_of_a_private_photo_the_addresses_load_without_a_login_until_they_expire(
    shared_service: Service,
    account: Account,
    links: ThumbnailLinks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo_id = insert(shared_service, account, "private")
    photo = read(shared_service, photo_id, account, sizes="90x60")
    addresses = [one["url"] for one in photo["thumbnails"]] + [photo["sizes"]["90x60"]]
    for address in addresses:
        assert "expires=" in address
        answer = ask(shared_service, address)
        assert (answer.status_code, answer.headers["cache-control"]) == (302, "no-store")
        assert load(shared_service, answer.headers["location"])[1] in (MASTER_SIDES_PX, (80, 60))
        assert_dead(shared_service, answer.headers["location"].partition("?")[0])
    # Once they are stored, each is signed itself.
    stored = read(shared_service, photo_id, account)
    assert are_stored(stored)
    for one in stored["thumbnails"]:
        assert load(shared_service, one["url"]) == (f"image/{one['format']}", MASTER_SIDES_PX)
        assert_dead(shared_service, one["url"].partition("?")[0])
    assert all(
        key.startswith("private_photos/")
        for key in list_thumbnails(shared_service, photo_id).values()
    )
    # Its owner needs no signature for a preset, and one for all else.
    own = ask_for(shared_service, photo_id, "preset=160&format=webp", account=account)
    assert (own.status_code, own.headers["cache-control"]) == (302, "no-store")
    unsigned = ask_for(shared_service, photo_id, "w=90", account=account)
    assert_problem(unsigned, 403, "bad_signature")


def test_hidden_its_public_thumbnails_are_dead_and_private_ones_are_made(
    shared_service: Service, account: Account, links: ThumbnailLinks
) -> None:
    photo_id = add(shared_service, account)["id"]
    photo = wait_for_presets(shared_service, account, photo_id)
    address = sign(links, photo_id, ThumbnailOptions(90, 60))
    target = ask(shared_service, address).headers["location"]
    before = set(list_thumbnails(shared_service, photo_id).values())
    assert len(before) == len(photo["thumbnails"]) + 1
    with shared_service.client(account) as client:
        hidden = client.patch(f"/photos/{photo_id}", json={"visibility": "private"})
        assert hidden.status_code == 200
    for url in (target, *(one["url"] for one in photo["thumbnails"])):
        assert_dead(shared_service, url)
    assert not before & {key for key, _ in list_files(shared_service, account)}
    assert not before & set(shared_service.objects())
    for query in (urlsplit(address).query, "preset=160"):
        answer = ask_for(shared_service, photo_id, query)
        assert_problem(answer, 404, "photo_not_found")
    photo = wait_for_presets(shared_service, account, photo_id)
    for one in photo["thumbnails"]:
        assert "/private_photos/" in urlsplit(one["url"]).path
        assert load(shared_service, one["url"]) == (
            f"image/{one['format']}",
            (one["width"], one["height"]),
        )


@pytest.mark.parametrize("how", ["the photo is replaced", "it is deleted", "its account is"])
def test_thumbnails_go_with_their_master(
    shared_service: Service, account: Account, how: str
) -> None:
    photo_id = insert(shared_service, account)
    for query in ("preset=160&format=webp", "preset=160&format=jpeg"):
        assert ask_for(shared_service, photo_id, query).status_code == 302
    urls = [one["url"] for one in read(shared_service, photo_id)["thumbnails"]]
    before = {key for key, _ in list_files(shared_service, account)}
    assert len(before) == 4 and before <= set(shared_service.objects())
    path = f"/photos/{photo_id}"
    with shared_service.client(account) as client:
        if how == "the photo is replaced":
            answer = client.patch(path, files={"file": ("b.jpg", jpeg(100, 300))})
            sides = [(one["width"], one["height"]) for one in answer.json()["thumbnails"]]
            assert sides == [(100, 300)] * 2
        else:
            answer = client.delete(path if how == "it is deleted" else f"/users/{account.id}")
        assert answer.is_success
    for url in urls:
        assert_dead(shared_service, url)
    wait_until(
        lambda: not before & {key for key, _ in list_files(shared_service, account)},
        "the old files are forgotten",
    )
    assert not before & set(shared_service.objects())
    if how == "the photo is replaced":
        wait_for_presets(shared_service, account, photo_id)
        keys = set(list_thumbnails(shared_service, photo_id).values())
        assert len(keys) == 2 and not keys & before
    else:
        assert list_thumbnails(shared_service, photo_id) == {}
        assert list_files(shared_service, account) == []


def test_a_store_that_is_away_is_a_503_and_is_not_asked_again_at_once(
    shared_service: Service, account: Account
) -> None:
    photo_id = insert(shared_service, account)
    ((key,),) = shared_service.sql(
        "SELECT key FROM stored_files f JOIN photos p ON p.master_id = f.id WHERE p.id = $1",
        photo_id,
    )
    stock = Stock(shared_service.settings)
    query = "preset=160&format=webp"
    stock.lose(key)
    answer = ask_for(shared_service, photo_id, query)
    assert_problem(answer, 503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    failed = "SELECT FROM thumbnails WHERE photo_id = $1 AND failures = 1 AND claim IS NULL"
    wait_until(lambda: shared_service.sql(failed, photo_id), "the failure is noted")
    assert not are_stored(read(shared_service, photo_id))
    assert len(list_files(shared_service, account)) == 2
    # The store is back, but nobody asks it before the time has come.
    stock.put(key, MASTER)
    set_retry(shared_service, photo_id, "1 hour")
    answer = ask_for(shared_service, photo_id, query)
    assert_problem(answer, 503, "thumbnail_not_ready")
    assert int(answer.headers["retry-after"]) >= 1
    assert ask_for(shared_service, photo_id, "preset=160&format=jpeg").status_code == 302
    set_retry(shared_service, photo_id, "0 seconds")
    answer = ask_for(shared_service, photo_id, query)
    assert load(shared_service, answer.headers["location"]) == ("image/webp", MASTER_SIDES_PX)
    assert are_stored(read(shared_service, photo_id))
    # What was made in another way is not shown any more.
    shared_service.sql("UPDATE thumbnails SET version = version + 1 WHERE photo_id = $1", photo_id)
    assert not are_stored(read(shared_service, photo_id))


def test_a_row_that_lies_about_its_masters_sides_is_a_503_and_an_error_in_the_log(
    shared_service: Service, account: Account
) -> None:
    width_px, height_px = MASTER_SIDES_PX
    smaller = jpeg(width_px // 2, height_px // 2)
    photo_id = store_photo(shared_service, account.id, master=smaller)
    answer = ask_for(shared_service, photo_id, "preset=160&format=webp")
    assert_problem(answer, 503, "thumbnail_not_ready")
    failed = "SELECT FROM thumbnails WHERE photo_id = $1 AND failures = 1 AND claim IS NULL"
    wait_until(lambda: shared_service.sql(failed, photo_id), "the failure is noted")
    errors = [line for line in shared_service.log().splitlines() if "cannot be rendered" in line]
    assert len(errors) == 1 and "160" in errors[0] and "80" in errors[0]
    assert len(list_files(shared_service, account)) == 2


def set_retry(service: Service, photo_id: int, after: str) -> None:
    service.sql(
        f"UPDATE thumbnails SET retry_at = now() + interval '{after}' WHERE photo_id = $1", photo_id
    )


def test_what_a_process_claimed_that_died_is_made_by_another(
    shared_service: Service, account: Account
) -> None:
    photo_id = insert(shared_service, account)
    shared_service.sql(
        "INSERT INTO thumbnails (photo_id, master_id, rendition, version, claim, claimed_until)"
        " SELECT id, master_id, '160x120:inside:webp', $2, gen_random_uuid(), now()"
        " FROM photos WHERE id = $1",
        photo_id,
        VERSION,
    )
    assert ask_for(shared_service, photo_id, "preset=160&format=webp").status_code == 302
