"""Proves that after any sequence of calls rows, objects and what is shown equal a ten-line model.

The same sequences on every run; `--hypothesis-seed=N` tries others,
and more of them. A failure prints the calls that led to it.
"""

import hashlib
import sys
from collections.abc import Iterator
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

from image_utils import process_profile_image
from models import DEFAULT_IMAGE_PATH
from tests.crash.storm import settled
from tests.support.databases import make_database
from tests.support.pictures import encoded, jpeg, phone_photo, quarters
from tests.support.services import Bucket, Service

PICTURES = {
    "landscape": jpeg(),
    "portrait": jpeg(300, 500),
    "png": encoded(quarters(200, 200).convert("RGBA"), "PNG"),
    "turned": phone_photo(400, 300),
}
# Each costs a second; by a seed somebody looks for more than the same sequences show every time.
EXAMPLES = 10
EXAMPLES_OF_A_SEED = 100
STEPS = 20
STORED = {name: process_profile_image(content).sha256 for name, content in PICTURES.items()}
assert len(set(STORED.values())) == len(PICTURES)
BROKEN = {"text": b"not a picture", "empty": b"", "cut short": jpeg()[:2000]}
# Few, because a registration costs two hashes, and because what they do should meet.
NAMES = ("alice", "bob", "carol")

name_of_a_user = st.sampled_from(NAMES)
name_of_a_picture = st.sampled_from(sorted(PICTURES))


class Model:
    """What a service should hold: each account's picture, as a checksum, and who is logged in."""

    def __init__(self) -> None:
        self.pictures: dict[str, str | None] = {}
        self.active: set[str] = set()

    def live(self) -> list[str]:
        return sorted(sha256 for sha256 in self.pictures.values() if sha256)


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

    @rule(name=name_of_a_user)
    def delete_the_account(self, name: str) -> None:
        self.arrive(name)
        assert self.delete(name).status_code == 204
        del self.model.pictures[name]
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
            "SELECT u.id, f.sha256, f.state, f.owner_id"
            " FROM users u FULL JOIN stored_files f ON f.id = u.picture_id"
        )
        assert {row["id"]: row["sha256"] for row in rows} == {
            self.ids[name]: sha256 for name, sha256 in self.model.pictures.items()
        }
        assert all(
            (row["state"], row["owner_id"]) == ("live", row["id"]) for row in rows if row["sha256"]
        )

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
            del self.model.pictures[name]
        self.rows_and_objects_are_the_model()

    def wipe(self) -> None:
        """Remove what a failure left, so that the same calls fail again and can be shown."""
        self.service.sql("TRUNCATE users, stored_files")
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
        {"DATABASE_URL": make_database(postgres, template), "DATA_DIR": str(data_dir), **store}
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
