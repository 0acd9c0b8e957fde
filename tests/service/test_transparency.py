"""Proves that a picture stays transparent where the operator says so, and outlives another word."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from image_utils import process_profile_image
from pictures.values import CLEAR
from tests.support.findings import findings
from tests.support.pictures import encoded, jpeg, quarters
from tests.support.services import Account, Service, wait_until
from tests.support.stock import Stock

pytestmark = pytest.mark.backends


def make_see_through() -> bytes:
    picture = quarters(500, 400).convert("RGBA")
    picture.paste((200, 10, 10, 100), (0, 0, 250, 400))
    return encoded(picture, "PNG")


SEE_THROUGH = make_see_through()


def replace(service: Service, account: Account, content: bytes, **fields: str) -> Any:
    answer = service.patch_picture(account, content, data=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def load(service: Service, user: Any) -> httpx.Response:
    served = service.get_picture(user["image_path"])
    assert served.status_code == 200
    assert user["image_path"].endswith(f"/profile_pics/{user['image_file']}")
    return served


def is_jpeg(service: Service, user: Any) -> bool:
    assert re.fullmatch(r"[0-9a-f]{32}\.(jpg|webp)", user["image_file"])
    content_type = load(service, user).headers["content-type"]
    suffix = Path(user["image_file"]).suffix
    assert (content_type, suffix) in [("image/jpeg", ".jpg"), ("image/webp", ".webp")]
    return suffix == ".jpg"


def test_what_was_kept_transparent_is_served_checked_and_deleted_also_when_nothing_else_is(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(AVATAR_TRANSPARENCY="keep", REAPER_INTERVAL_SECONDS=0.1)
    alice = service.register()
    shown = replace(service, alice, SEE_THROUGH)
    assert not is_jpeg(service, shown)
    assert shown["notes"] == []
    served = load(service, shown)
    assert served.content == process_profile_image(SEE_THROUGH, background=CLEAR).content
    assert Image.open(io.BytesIO(served.content)).mode == "RGBA"
    assert served.headers["cache-control"] == "public, max-age=31536000, immutable"
    key = f"profile_pics/{shown['image_file']}"
    row = Stock(service.settings).read(key)
    assert (row["content_type"], row["state"], row["width_px"]) == ("image/webp", "live", 300)

    service.stop()
    service.settings["AVATAR_TRANSPARENCY"] = "flatten"
    service.start()
    assert load(service, shown).content == served.content
    stock = Stock(service.settings)
    for command in ("check", "sweep"):
        run = stock.run(command)
        assert run.returncode == 0, run.stderr
        assert command == "sweep" or findings(json.loads(run.stdout)) == {}
    stock.put(key, served.content[:-2])
    assert findings(json.loads(stock.run("check").stdout)).keys() == {"wrong"}
    flattened = replace(service, alice, SEE_THROUGH)
    assert is_jpeg(service, flattened)
    assert flattened["notes"] == ["transparency_flattened"]
    wait_until(
        lambda: service.objects().keys() == {f"profile_pics/{flattened['image_file']}"},
        "the old picture is deleted",
    )


def test_only_a_profile_picture_without_a_background_is_kept_transparent(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(AVATAR_TRANSPARENCY="keep", THUMBNAIL_WIDTHS="")
    alice = service.register()
    for content in (jpeg(), encoded(quarters(320, 240).convert("RGBA"), "PNG")):
        assert is_jpeg(service, replace(service, alice, content))
    for background in ("#00ff00", "#ffffff", "auto"):
        shown = replace(service, alice, SEE_THROUGH, background=background)
        assert is_jpeg(service, shown)
        assert shown["notes"] == ["transparency_flattened"]
    with service.client(alice) as client:
        photo = client.post("/photos", files={"file": ("a.png", SEE_THROUGH)}).json()
        assert photo["url"].endswith(".jpg")
        assert photo["notes"] == ["transparency_flattened"]
        thumbnail = client.post("/photos/thumbnail", files={"file": ("a.png", SEE_THROUGH)})
        assert thumbnail.json()["content_type"] == "image/jpeg"
        path = f"/users/{alice.id}/picture"
        of_photo = client.patch(path, json={"photo_id": photo["id"]}).json()
        assert not is_jpeg(service, of_photo)
        on_white = {"photo_id": photo["id"], "background": "#ffffff"}
        assert is_jpeg(service, client.patch(path, json=on_white).json())
        bare = client.patch(path, content=SEE_THROUGH, headers={"Content-Type": "image/png"})
        assert not is_jpeg(service, bare.json())
