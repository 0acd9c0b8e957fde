"""The main job, end to end: a phone's photo in, a clean picture out, and nothing left behind."""

import io
from collections.abc import Callable

import pytest
from PIL import Image

from tests.support.pictures import corners, jpeg, phone_photo
from tests.support.services import Service

pytestmark = pytest.mark.backends


def test_a_phone_photo_comes_back_upright_and_clean(service: Service) -> None:
    alice = service.register()
    answer = service.patch_picture(alice, phone_photo())
    assert answer.status_code == 200, answer.text
    user = answer.json()
    served = service.get_picture(user["image_path"])
    assert (served.status_code, served.headers["content-type"]) == (200, "image/jpeg")
    picture = Image.open(io.BytesIO(served.content))
    assert (picture.size, picture.format, picture.mode) == ((300, 300), "JPEG", "RGB")
    assert corners(served.content) == ["red", "green", "blue", "white"]
    assert not picture.getexif() and set(picture.info) <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
    }
    assert list(service.objects()) == [f"profile_pics/{user['image_file']}"]


def test_after_ten_replacements_there_is_one_object_and_none_after_the_account(
    service: Service,
) -> None:
    alice = service.register()
    paths = [service.patch_picture(alice, jpeg()).json()["image_path"] for _ in range(11)]
    assert len(set(paths)) == 11
    assert service.get_picture(paths[0]).status_code in (403, 404)
    assert service.get_picture(paths[-1]).status_code == 200
    assert len(service.objects()) == 1
    with service.client(alice) as client:
        assert client.delete(f"/users/{alice.id}").status_code == 204
    assert service.objects() == {}
    assert service.sql("SELECT * FROM stored_files") == []


def test_the_picture_survives_a_restart(start_service: Callable[..., Service]) -> None:
    service = start_service()
    alice = service.register()
    path = service.patch_picture(alice, jpeg()).json()["image_path"]
    service.stop()
    service.start()
    with service.client(alice) as client:
        assert client.get(f"/users/{alice.id}").json()["image_path"] == path
    assert service.get_picture(path).status_code == 200


def test_deleting_the_picture_shows_the_default_one(service: Service) -> None:
    alice = service.register()
    service.patch_picture(alice, jpeg())
    with service.client(alice) as client:
        user = client.delete(f"/users/{alice.id}/picture").json()
        assert (user["image_file"], user["image_path"]) == (
            None,
            "/static/profile_pics/default.jpg",
        )
        again = client.delete(f"/users/{alice.id}/picture")
        assert (again.status_code, again.json()["code"]) == (404, "no_picture")
    default = service.get_picture(user["image_path"])
    assert (default.status_code, default.headers["content-type"]) == (200, "image/jpeg")
    assert service.objects() == {}
