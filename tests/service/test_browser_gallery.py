"""A page of fifty photos in a real browser: shapes and colours first, each thumbnail made once."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.support import rows
from tests.support.browser import Browser, open_browser
from tests.support.photos import store_photo
from tests.support.pictures import jpeg
from tests.support.services import ROOT, Service
from tests.support.web import WebPage, serve_pages

PHOTOS = 50
MASTER_SIDES_PX = (160, 120)  # of the photos that tests insert

# Shows the photos far below what is in view.
SHOW = """
async () => {
    const gallery = document.body.appendChild(document.createElement("div"));
    gallery.style.marginTop = "20000px";
    await showGallery(gallery, listPhotos(), "80px");
}
"""
STYLE = "img { width: 80px; height: auto }"
# What is seen of each image: its place, and the colour of that.
LOOK = """
() => Array.from(document.images, (image) => {
    const {width, height} = image.getBoundingClientRect();
    return [width, height, getComputedStyle(image).backgroundColor];
})
"""
SCROLL = "() => document.querySelector('div').scrollIntoView()"
ARE_LOADED = """
() => Array.from(document.images).every((image) => image.complete && image.naturalWidth)
"""
# The colour of the photos that tests insert, in the shape of 160 x 120.
PLACEHOLDER = [80, 60, "rgb(172, 50, 39)"]


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Another origin, with one empty page."""
    empty = f"<!DOCTYPE html><title>Elsewhere</title><style>{STYLE}</style><body></body>".encode()
    with serve_pages(lambda path: WebPage(200, empty, "text/html")) as url:
        yield url


def read_script(service: Service) -> str:
    """The functions of docs/frontend.md, for this service."""
    page = (ROOT / "docs" / "frontend.md").read_text()
    sections = page.split("\n## fetch\n", 1)[1].split("\n## Any other size\n", 1)[0]
    blocks = re.findall(r"```js\n(.*?)```", sections, re.DOTALL)
    return "\n".join(blocks).replace("http://127.0.0.1:8000", service.url)


def view(browser: Browser, origin: str, service: Service) -> list[str]:
    """Look at all photos; returns the paths of the pictures that were asked for."""
    page = browser.page
    page.goto(origin)
    page.add_script_tag(content=read_script(service))
    browser.requests.clear()
    page.evaluate(SHOW)
    assert page.evaluate(LOOK) == [PLACEHOLDER] * PHOTOS
    (listing,) = browser.requests  # no picture yet
    page.evaluate(SCROLL)
    page.wait_for_function(ARE_LOADED)
    assert page.evaluate(LOOK) == [PLACEHOLDER] * PHOTOS  # nothing has jumped
    return [urlsplit(request.url).path for request in browser.requests if request is not listing]


def test_fifty_photos_have_their_places_first_and_cost_nothing_at_the_second_view(
    start_service: Callable[..., Service], elsewhere: str
) -> None:
    service = start_service(cors_origins=elsewhere, thumbnail_widths="80,160")
    owner_id = rows.account().run(service)
    master = jpeg(*MASTER_SIDES_PX)
    ids = [store_photo(service, owner_id, master=master) for _ in range(PHOTOS)]
    with open_browser() as browser:
        asked = view(browser, elsewhere, service)
        on_demand = [f"/photos/{photo_id}/thumbnail" for photo_id in ids]
        assert sorted(path for path in asked if "thumbnail" in path) == sorted(on_demand)
        assert len(asked) == 2 * PHOTOS  # each was led to what was made
        stored = service.objects()

        again = view(browser, elsewhere, service)
        assert len(again) == PHOTOS
        assert sorted(again) == sorted(path for path in asked if "thumbnail" not in path)
        assert service.objects() == stored
        assert browser.complaints == []
    made = service.sql("SELECT rendition FROM thumbnails WHERE file_id IS NOT NULL")
    assert [row["rendition"] for row in made] == ["80x60:inside:webp"] * PHOTOS
