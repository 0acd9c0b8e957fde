"""Proves that after any sequence of calls rows, objects and what is shown equal a small model.

The same sequences on every run; `--hypothesis-seed=N` tries others,
and more of them. A failure prints the calls that led to it.
"""

import hashlib
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from image_utils import make_master, make_thumbnail, process_profile_image
from models import DEFAULT_IMAGE_PATH
from tests.crash.storm import settled
from tests.support.databases import make_database
from tests.support.pictures import encoded, jpeg, phone_photo, quarters
from tests.support.services import Bucket, Service

PICTURES = {
    "landscape": jpeg(),
    "portrait": jpeg(300, 500),
    "png": encoded(quarters(400, 350).convert("RGBA"), "PNG"),
    "turned": phone_photo(400, 300),
}
# Each costs a second; by a seed somebody looks for more than the same sequences show every time.
EXAMPLES = 10
EXAMPLES_OF_A_SEED = 100
STEPS = 20
STORED = {name: process_profile_image(content).sha256 for name, content in PICTURES.items()}
ORIGINALS = {name: hashlib.sha256(content).hexdigest() for name, content in PICTURES.items()}
MASTERS = {name: make_master(content).sha256 for name, content in PICTURES.items()}
THUMBNAILS = {name: make_thumbnail(content).sha256 for name, content in PICTURES.items()}
CHECKSUMS = [*STORED.values(), *ORIGINALS.values(), *MASTERS.values(), *THUMBNAILS.values()]
assert len({*CHECKSUMS}) == len(CHECKSUMS)
BROKEN = {"text": b"not a picture", "empty": b"", "cut short": jpeg()[:2000]}
# Few, because a registration costs two hashes, and because what they do should meet.
NAMES = ("alice", "bob", "carol")

name_of_a_user = st.sampled_from(NAMES)
name_of_a_picture = st.sampled_from(sorted(PICTURES))
a_visibility = st.sampled_from(["public", "private"])


@dataclass
class Photo:
    """A photo, as its owner's latest answer left it."""

    owner: str
    picture: str  # the name of what was sent
    visibility: str
    caption: str


class Model:
    """What a service should hold: each account's picture, as a checksum, the photos by their ids,
    the owners and pictures of single thumbnails by theirs, and who is logged in.
    """

    def __init__(self) -> None:
        self.pictures: dict[str, str | None] = {}
        self.photos: dict[int, Photo] = {}
        self.thumbnails: dict[int, tuple[str, str]] = {}
        self.active: set[str] = set()

    def live(self) -> list[str]:
        pictures = [sha256 for sha256 in self.pictures.values() if sha256]
        originals = [ORIGINALS[photo.picture] for photo in self.photos.values()]
        masters = [MASTERS[photo.picture] for photo in self.photos.values()]
        thumbnails = [THUMBNAILS[picture] for _, picture in self.thumbnails.values()]
        return sorted([*pictures, *originals, *masters, *thumbnails])

    def forget(self, name: str) -> None:
        """The account is deleted, with all that it has."""
        del self.pictures[name]
        self.photos = {key: photo for key, photo in self.photos.items() if photo.owner != name}
        self.thumbnails = {key: made for key, made in self.thumbnails.items() if made[0] != name}


class People(RuleBasedStateMachine):
    """Some people, each with the newest of their tokens, and the model of what they did."""

    def __init__(self, service: Service, client: httpx.Client) -> None:
        super().__init__()
        self.service = service
        self.client = client
        self.model = Model()
        # Both are kept when the account is deleted or logged out: they must be worth nothing then.
        self.ids: dict[str, int] = {}
        self.tokens: dict[str, str] = {}

    def ask(self, method: str, path: str, token_of: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[token_of]}"}
        return self.client.request(method, path, headers=headers, **more)

    def send(self, name: str, content: bytes, token_of: str | None = None) -> httpx.Response:
        path = f"/users/{self.ids[name]}/picture"
        return self.ask("PATCH", path, token_of or name, files={"file": ("photo.jpg", content)})

    def send_for_thumbnail(
        self, name: str, content: bytes, headers: dict[str, str]
    ) -> httpx.Response:
        """Make a single thumbnail of this."""
        authorized = {"Authorization": f"Bearer {self.tokens[name]}", **headers}
        files = {"file": ("photo.jpg", content)}
        return self.client.post("/photos/thumbnail", files=files, headers=authorized)

    def delete(self, name: str, what: str = "", token_of: str | None = None) -> httpx.Response:
        return self.ask("DELETE", f"/users/{self.ids[name]}{what}", token_of or name)

    def arrive(self, name: str) -> None:
        """Register or log in, unless this person is there."""
        if name not in self.model.pictures:
            made = self.client.post("/users", json=registration(name))
            assert made.status_code == 201
            self.ids[name] = made.json()["id"]
            self.model.pictures[name] = None
        if name not in self.model.active:
            body = registration(name)
            answer = self.client.post(
                "/users/token", data={"username": body["email"], "password": body["password"]}
            )
            assert answer.status_code == 200
            self.tokens[name] = answer.json()["access_token"]
            self.model.active.add(name)

    def have_photo(self, name: str) -> int:
        """The newest photo of this person, who adds one if there is none."""
        self.arrive(name)
        owned = [key for key, photo in self.model.photos.items() if photo.owner == name]
        return max(owned) if owned else self.add(name, "landscape", "public")

    def add(self, name: str, sent: str, visibility: str) -> int:
        answer = self.ask(
            "POST",
            "/photos",
            name,
            files={"file": ("boat.jpg", PICTURES[sent])},
            data={"caption": sent, "visibility": visibility},
        )
        assert answer.status_code == 201
        photo_id: int = answer.json()["id"]
        self.model.photos[photo_id] = Photo(name, sent, visibility, sent)
        return photo_id

    def try_all(self, victim: str, token_of: str) -> set[int]:
        """Ask for every change of an account that there is; return the statuses."""
        answers = [
            self.send(victim, PICTURES["png"], token_of),
            self.delete(victim, "/picture", token_of),
            self.delete(victim, "", token_of),
        ]
        return {answer.status_code for answer in answers}

    @rule(name=name_of_a_user)
    def register(self, name: str) -> None:
        if name in self.model.pictures:
            assert self.client.post("/users", json=registration(name)).status_code == 409
        self.arrive(name)

    @rule(name=name_of_a_user, sent=name_of_a_picture)
    def replace(self, name: str, sent: str) -> None:
        self.arrive(name)
        answer = self.send(name, PICTURES[sent])
        assert answer.status_code == 200
        assert answer.json()["image_file"]
        self.model.pictures[name] = STORED[sent]

    @rule(name=name_of_a_user, sent=name_of_a_picture)
    def send_the_same_twice(self, name: str, sent: str) -> None:
        """The second time it is a new object all the same."""
        self.arrive(name)
        answers = [self.send(name, PICTURES[sent]) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json()["image_file"] != answers[1].json()["image_file"]
        self.model.pictures[name] = STORED[sent]

    @rule(name=name_of_a_user, sent=st.sampled_from(sorted(BROKEN)))
    def send_a_broken_file(self, name: str, sent: str) -> None:
        self.arrive(name)
        assert self.send(name, BROKEN[sent]).status_code == 400

    @rule(name=name_of_a_user, sent=name_of_a_picture)
    def remove_the_picture(self, name: str, sent: str) -> None:
        """Twice: the second time there is none."""
        self.arrive(name)
        if self.model.pictures[name] is None:
            assert self.send(name, PICTURES[sent]).status_code == 200
        answers = [self.delete(name, "/picture") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 404]
        assert answers[0].json()["image_file"] is None
        self.model.pictures[name] = None

    @rule(name=name_of_a_user, sent=name_of_a_picture, visibility=a_visibility)
    def add_a_photo(self, name: str, sent: str, visibility: str) -> None:
        self.arrive(name)
        self.add(name, sent, visibility)

    @rule(name=name_of_a_user, sent=name_of_a_picture)
    def replace_a_photo(self, name: str, sent: str) -> None:
        photo_id = self.have_photo(name)
        files = {"file": ("other.jpg", PICTURES[sent])}
        assert self.ask("PATCH", f"/photos/{photo_id}", name, files=files).status_code == 200
        self.model.photos[photo_id].picture = sent

    @rule(name=name_of_a_user, visibility=a_visibility, caption=st.sampled_from(["", "a boat"]))
    def hide_show_or_describe_a_photo(self, name: str, visibility: str, caption: str) -> None:
        photo_id = self.have_photo(name)
        words = {"visibility": visibility, "caption": caption}
        assert self.ask("PATCH", f"/photos/{photo_id}", name, json=words).status_code == 200
        self.model.photos[photo_id].visibility = visibility
        self.model.photos[photo_id].caption = caption

    @rule(name=name_of_a_user)
    def delete_a_photo(self, name: str) -> None:
        """Twice: the second time there is none."""
        path = f"/photos/{self.have_photo(name)}"
        answers = [self.ask("DELETE", path, name) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [204, 404]
        del self.model.photos[int(path.rpartition("/")[2])]

    @rule(name=name_of_a_user)
    def show_a_photo_as_the_picture(self, name: str) -> None:
        photo_id = self.have_photo(name)
        path = f"/users/{self.ids[name]}/picture"
        assert self.ask("PATCH", path, name, json={"photo_id": photo_id}).status_code == 200
        self.model.pictures[name] = STORED[self.model.photos[photo_id].picture]

    @rule(name=name_of_a_user, sent=name_of_a_picture)
    def make_a_single_thumbnail(self, name: str, sent: str) -> None:
        """Sent again with its key, it is the same one."""
        self.arrive(name)
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answers = [self.send_for_thumbnail(name, PICTURES[sent], key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        self.model.thumbnails[answers[0].json()["id"]] = (name, sent)

    @rule(pair=st.permutations(NAMES))
    def delete_a_single_thumbnail(self, pair: list[str]) -> None:
        """First someone else, who is not told that it is there."""
        name, other = pair[:2]
        self.arrive(name)
        self.arrive(other)
        if name not in {owner for owner, _ in self.model.thumbnails.values()}:
            self.make_a_single_thumbnail(name, "landscape")
        own = [key for key, (owner, _) in self.model.thumbnails.items() if owner == name]
        path = f"/thumbnails/{own[-1]}"
        answers = [self.ask("DELETE", path, who) for who in (other, name, name)]
        assert [answer.status_code for answer in answers] == [404, 204, 404]
        del self.model.thumbnails[own[-1]]

    @rule(name=name_of_a_user, sent=st.sampled_from(sorted(BROKEN)))
    def send_a_broken_photo(self, name: str, sent: str) -> None:
        photo_id = self.have_photo(name)
        files = {"file": ("broken.jpg", BROKEN[sent])}
        for method, path in (("POST", "/photos"), ("PATCH", f"/photos/{photo_id}")):
            assert self.ask(method, path, name, files=files).status_code == 400
        assert self.send_for_thumbnail(name, BROKEN[sent], {}).status_code == 400

    @rule(pair=st.permutations(NAMES))
    def change_anothers_photo(self, pair: list[str]) -> None:
        name, victim = pair[:2]
        self.arrive(name)
        path = f"/photos/{self.have_photo(victim)}"
        assert self.ask("DELETE", path, name).status_code in (403, 404)
        assert self.ask("PATCH", path, name, json={"caption": "mine"}).status_code in (403, 404)

    @rule(name=name_of_a_user)
    def delete_the_account(self, name: str) -> None:
        self.arrive(name)
        assert self.delete(name).status_code == 204
        self.model.forget(name)
        self.model.active.remove(name)
        assert self.try_all(name, token_of=name) == {401}

    @rule(name=name_of_a_user)
    def log_out_everywhere(self, name: str) -> None:
        self.arrive(name)
        assert self.ask("DELETE", "/users/token", name).status_code == 204
        self.model.active.remove(name)
        assert self.try_all(name, token_of=name) == {401}

    @rule(pair=st.permutations(NAMES))
    def change_anothers(self, pair: list[str]) -> None:
        name, victim = pair[:2]
        self.arrive(name)
        if victim in self.ids:
            assert self.try_all(victim, token_of=name) == {403}

    @invariant()
    def rows_and_objects_are_the_model(self) -> None:
        """Once what goes on behind the answers is done, only rows of what is shown are left."""
        objects: dict[str, bytes] = {}

        def read_objects() -> dict[str, bytes]:
            objects.clear()
            objects.update(self.service.objects())
            return objects

        assert settled(self.service, read_objects, patience_seconds=20) == []
        assert (
            sorted(hashlib.sha256(content).hexdigest() for content in objects.values())
            == self.model.live()
        )
        rows = self.service.sql(
            "SELECT u.id, f.sha256 FROM users u LEFT JOIN stored_files f ON f.id = u.picture_id"
        )
        assert {row["id"]: row["sha256"] for row in rows} == {
            self.ids[name]: sha256 for name, sha256 in self.model.pictures.items()
        }
        rows = self.service.sql(
            "SELECT p.id, p.owner_id, p.visibility, p.caption, o.sha256 AS original,"
            " m.sha256 AS master, m.purpose FROM photos p JOIN stored_files o"
            " ON o.id = p.original_id JOIN stored_files m ON m.id = p.master_id"
        )
        assert {row["id"]: tuple(row)[1:] for row in rows} == {
            photo_id: (
                self.ids[photo.owner],
                photo.visibility,
                photo.caption,
                ORIGINALS[photo.picture],
                MASTERS[photo.picture],
                "photo_rendition" if photo.visibility == "public" else "private_photo_rendition",
            )
            for photo_id, photo in self.model.photos.items()
        }
        rows = self.service.sql(
            "SELECT t.id, t.owner_id, f.sha256, f.purpose FROM single_thumbnails t"
            " JOIN stored_files f ON f.id = t.file_id"
        )
        assert {row["id"]: tuple(row)[1:] for row in rows} == {
            thumbnail_id: (self.ids[owner], THUMBNAILS[picture], "single_thumbnail")
            for thumbnail_id, (owner, picture) in self.model.thumbnails.items()
        }
        # As many rows as objects (`settled`), each of them of an owner who is there.
        rows = self.service.sql("SELECT DISTINCT state, owner_id FROM stored_files")
        owners = {self.ids[name] for name in self.model.pictures}
        assert all(row["state"] == "live" and row["owner_id"] in owners for row in rows)

    @invariant()
    def everyone_sees_the_model(self) -> None:
        for name, user_id in self.ids.items():
            shown = self.client.get(f"/users/{user_id}")
            if name not in self.model.pictures:
                assert shown.status_code == 404
                continue
            user = shown.json()
            sha256 = self.model.pictures[name]
            if sha256 is None:
                assert (user["image_file"], user["image_path"]) == (None, DEFAULT_IMAGE_PATH)
                continue
            assert user["image_path"].endswith(f"/profile_pics/{user['image_file']}")
            served = self.client.get(user["image_path"])
            assert served.status_code == 200
            assert hashlib.sha256(served.content).hexdigest() == sha256

    @invariant()
    def only_owners_see_private_photos(self) -> None:
        public = {key for key, photo in self.model.photos.items() if photo.visibility == "public"}
        shown = self.client.get("/photos", params={"limit": 100}).json()["photos"]
        assert [photo["id"] for photo in shown] == sorted(public, reverse=True)[:100]
        for photo in shown[:1]:
            served = self.client.get(photo["url"])
            picture = self.model.photos[photo["id"]].picture
            assert hashlib.sha256(served.content).hexdigest() == MASTERS[picture]
        for photo_id in sorted(self.model.photos.keys() - public)[-1:]:
            assert self.client.get(f"/photos/{photo_id}").status_code == 404

    def teardown(self) -> None:
        try:
            if sys.exception() is None:
                self.delete_all()
        finally:
            self.wipe()

    def delete_all(self) -> None:
        for name in sorted(self.model.pictures):
            self.arrive(name)
            assert self.delete(name).status_code == 204
            self.model.forget(name)
        self.rows_and_objects_are_the_model()

    def wipe(self) -> None:
        """Remove what a failure left, so that the same calls fail again and can be shown."""
        self.service.sql("TRUNCATE users, stored_files CASCADE")
        for key in self.service.objects():
            if self.service.settings["STORAGE"] == "s3":
                bucket = Bucket.of(self.service.settings)
                bucket.client().delete_object(Bucket=bucket.name, Key=key)
            else:
                (Path(self.service.settings["DATA_DIR"]) / "media" / key).unlink()


def registration(name: str) -> dict[str, str]:
    return {"username": name, "email": f"{name}@example.com", "password": f"{name}-password"}


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest,
    postgres: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A service that only the model talks to."""
    store = {"STORAGE": "local"}
    if request.config.getoption("--store") == "s3":
        store = Bucket.make(request.getfixturevalue("moto")).settings()
    data_dir: Path = tmp_path_factory.mktemp("model")
    started = Service(
        {
            "DATABASE_URL": make_database(postgres, template),
            "DATA_DIR": str(data_dir),
            "THUMBNAIL_WIDTHS": "[]",  # the model knows originals and masters
            **store,
        }
    )
    started.start()
    yield started
    started.stop()


@pytest.mark.backends
@pytest.mark.timeout(300)  # a failure waits for what does not come to be, more than once
def test_rows_objects_and_answers_equal_the_model_after_every_call(
    service: Service, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--hypothesis-seed")
    with service.client() as client:
        run_state_machine_as_test(
            lambda: People(service, client),  # type: ignore[arg-type]
            settings=settings(
                max_examples=EXAMPLES if seed is None else EXAMPLES_OF_A_SEED,
                stateful_step_count=STEPS,
                derandomize=seed is None,
                database=None,
                deadline=None,
                phases=[Phase.generate],  # to shrink would take minutes of waiting
                suppress_health_check=list(HealthCheck),
            ),
        )
