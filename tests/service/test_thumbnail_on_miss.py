"""Whoever asks first for a thumbnail may be shown a placeholder at once, while one job runs."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
from PIL import Image

from tests.support import rows
from tests.support.photos import MASTER_SIDES_PX, store_photo
from tests.support.pictures import jpeg
from tests.support.services import Service, wait_until

ASKED_AT_ONCE = 8


def test_a_placeholder_is_shown_until_a_job_has_made_the_thumbnail(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(thumbnail_on_miss="placeholder", embedded_jobs=False)
    photo_id = store_photo(service, rows.account().run(service), master=jpeg(*MASTER_SIDES_PX))
    stored = service.objects()

    def ask(_: int = 0) -> httpx.Response:
        with service.client() as client:
            return client.get(f"/photos/{photo_id}/thumbnail?preset=160&format=jpeg")

    with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
        for answer in threads.map(ask, range(ASKED_AT_ONCE)):
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
            assert answer.headers["cache-control"] == "no-store"
            assert Image.open(io.BytesIO(answer.content)).size == (32, 24)
    assert len(service.sql("SELECT FROM pgqueuer")) == 1
    assert service.objects() == stored

    service.stop()
    service.settings["EMBEDDED_JOBS"] = "true"
    service.start()
    wait_until(lambda: ask().status_code == 302, "the thumbnail is made")
    answer = ask()
    assert answer.headers["cache-control"] == "public, max-age=300"
    shown = Image.open(io.BytesIO(service.get_picture(answer.headers["location"]).content))
    assert (shown.format, shown.size) == ("JPEG", MASTER_SIDES_PX)
    assert len(service.objects()) == len(stored) + 1

    # Of what was stored before there were placeholders there is none to show.
    service.sql("UPDATE stored_files SET thumbhash = NULL, dominant_colour = NULL")
    with service.client() as client:
        waited = client.get(f"/photos/{photo_id}/thumbnail?preset=160&format=webp")
    assert waited.status_code == 302
