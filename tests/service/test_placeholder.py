"""Every answer that shows an account has the placeholder of its own picture."""

import base64

import pytest
from PIL import Image
from thumbhash import thumb_hash_to_average_rgba

from image_utils import process_profile_image
from tests.support.pictures import encoded, jpeg
from tests.support.services import Account, Service

SKY = (120, 170, 230)
GRASS = (40, 120, 40)


def landscape() -> Image.Image:
    """Three quarters of it sky, the rest grass."""
    picture = Image.new("RGB", (640, 640), SKY)
    picture.paste(GRASS, (0, 480, 640, 640))
    return picture


def is_near(one: tuple[int, ...], other: tuple[int, ...], most: int) -> bool:
    return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("turn", [None, Image.Transpose.ROTATE_90])
def test_the_dominant_colour_is_that_of_most_pixels_and_the_hash_has_their_mean(
    turn: Image.Transpose | None,
) -> None:
    picture = landscape() if turn is None else landscape().transpose(turn)
    made = process_profile_image(encoded(picture, "PNG"))
    red, green, blue = bytes.fromhex(made.dominant_colour.removeprefix("#"))
    assert is_near((red, green, blue), SKY, 6)
    mean = tuple((3 * sky + grass) // 4 for sky, grass in zip(SKY, GRASS, strict=True))
    hashed = base64.b64decode(made.thumbhash, validate=True)
    assert is_near(
        tuple(round(255 * value) for value in thumb_hash_to_average_rgba(list(hashed))[:3]),
        mean,
        16,
    )


def test_a_hash_tells_which_way_is_up() -> None:
    upside_down = landscape().transpose(Image.Transpose.ROTATE_180)
    hashes = {
        process_profile_image(encoded(each, "PNG")).thumbhash for each in (landscape(), upside_down)
    }
    assert len(hashes) == 2


def test_every_answer_shows_the_placeholder_of_the_picture(
    shared_service: Service, account: Account
) -> None:
    content = jpeg()
    made = process_profile_image(content)
    wanted = {
        "width": 300,
        "height": 300,
        "dominant_colour": made.dominant_colour,
        "thumbhash": made.thumbhash,
    }
    path = f"/users/{account.id}"
    with shared_service.client(account) as mine, shared_service.client() as anyone:
        assert mine.get("/users/me").json()["image_placeholder"] is None
        assert shared_service.patch_picture(account, content).json()["image_placeholder"] == wanted
        assert mine.get("/users/me").json()["image_placeholder"] == wanted
        assert anyone.get(path).json()["image_placeholder"] == wanted
        shared_service.sql(
            "UPDATE stored_files SET thumbhash = NULL, dominant_colour = NULL WHERE owner_id = $1",
            account.id,
        )
        assert anyone.get(path).json()["image_placeholder"] is None, (
            "a picture from before there was one"
        )
        assert mine.delete(f"{path}/picture").json()["image_placeholder"] is None
