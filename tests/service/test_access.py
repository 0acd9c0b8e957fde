"""Who may do what: every route of the application against everyone who may ask, over HTTP."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.routing import iter_route_contexts
from fastapi.staticfiles import StaticFiles
from starlette.routing import Route

from main import app
from tests.support.photos import MASTER_SIDES_PX, store_photo
from tests.support.pictures import jpeg
from tests.support.services import ROOT, Account, Service

WHO = ("anonymous", "owner", "other", "admin", "deleted")
Expected = tuple[int, int, int, int, int]
OPEN: Expected = (200, 200, 200, 200, 200)
OPTIONAL_LOGIN: Expected = (200, 200, 200, 200, 401)
LOGGED_IN: Expected = (401, 200, 200, 200, 401)
OWNER_OR_ADMIN: Expected = (401, 200, 403, 200, 401)
PICTURE = jpeg(320, 320)
MASTER = jpeg(*MASTER_SIDES_PX)
PASSWORD = "correct horse battery"

# (method, route) -> the status that each of WHO is answered;
# a mount answers under any path, and is called MOUNT here.
TABLE: dict[tuple[str, str], Expected] = {
    ("POST", "/users"): (201, 201, 201, 201, 201),
    ("POST", "/users/token"): OPEN,
    ("DELETE", "/users/token"): (401, 204, 204, 204, 401),  # one's own tokens
    ("GET", "/users/me"): LOGGED_IN,
    ("GET", "/users/{user_id}"): OPEN,
    ("PATCH", "/users/{user_id}"): OWNER_OR_ADMIN,
    ("DELETE", "/users/{user_id}"): (401, 204, 403, 204, 401),
    ("PATCH", "/users/{user_id}/picture"): OWNER_OR_ADMIN,
    ("DELETE", "/users/{user_id}/picture"): OWNER_OR_ADMIN,
    ("GET", "/photos"): OPTIONAL_LOGIN,
    ("POST", "/photos"): (401, 201, 201, 201, 401),
    # A private one, of which others are not told; an admin who changes it is.
    ("GET", "/photos/{photo_id}"): (404, 200, 404, 404, 401),
    ("GET", "/photos/{photo_id}/thumbnail"): (404, 302, 404, 404, 401),
    ("PATCH", "/photos/{photo_id}"): (401, 200, 404, 200, 401),
    ("DELETE", "/photos/{photo_id}"): (401, 204, 404, 204, 401),
    ("GET", "/users/{user_id}/photos"): OPTIONAL_LOGIN,
    ("POST", "/photos/thumbnail"): (401, 201, 201, 201, 401),
    ("GET", "/thumbnails"): LOGGED_IN,  # one's own
    ("DELETE", "/thumbnails/{thumbnail_id}"): (401, 204, 404, 204, 401),
    ("GET", "/media/{key}"): OPEN,
    ("HEAD", "/media/{key}"): OPEN,
    ("GET", "/health/live"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("HEAD", "/health/live"): OPEN,
    ("HEAD", "/health/ready"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("HEAD", "/openapi.json"): OPEN,
    ("GET", "/"): (307, 307, 307, 307, 307),
    ("GET", "/docs"): OPEN,
    ("MOUNT", "/static"): OPEN,
}


def every_route(of: FastAPI) -> set[tuple[str, str]]:
    """All that the application answers: plain routes, mounts, and included routers.

    FastAPI unfolds included routers late.
    """
    assert not of.router._low_priority_routes, (
        "FastAPI's frontends are not in `routes`: teach this function to see them"
    )
    found = set()
    for context in iter_route_contexts(of.routes):
        path = context.path_format if context.path_format is not None else context.path
        assert path is not None, context.route
        if context.methods is None:
            path = path.removesuffix("/{path}")  # how a mount is written
        found |= {(method, path) for method in context.methods or {"MOUNT"}}
    return found


def test_the_table_names_every_route_and_nothing_else() -> None:
    documented = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    assert documented <= every_route(app)
    assert every_route(app) == set(TABLE)


def test_a_new_route_is_noticed_wherever_it_is_added() -> None:
    async def answer() -> PlainTextResponse:
        return PlainTextResponse("new")

    throwaway = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    outer = APIRouter()
    inner = APIRouter()
    outer.include_router(inner, prefix="/inner")
    throwaway.include_router(outer, prefix="/outer")
    assert every_route(throwaway) == set()
    outer.add_api_route("/late", answer, methods=["GET"])  # after its router was included
    inner.add_api_route("/{late}", answer, methods=["PUT", "POST"], include_in_schema=False)
    throwaway.add_api_route("/hidden", answer, methods=["DELETE"], include_in_schema=False)
    throwaway.router.routes.append(Route("/plain/{rest:path}", answer, methods=["PUT"]))
    throwaway.mount("/files", StaticFiles(directory=ROOT / "static"))
    assert every_route(throwaway) == {
        *(("GET", "/outer/late"), ("PUT", "/outer/inner/{late}"), ("POST", "/outer/inner/{late}")),
        *(("DELETE", "/hidden"), ("PUT", "/plain/{rest}"), ("MOUNT", "/files")),
    }


@dataclass
class Cast:
    """The people of the table.

    `other`, `admin` and `deleted` are the same throughout, `owner` is new where changed.
    """

    service: Service
    other: Account
    admin: Account
    deleted: Account
    owner: Account
    image_path: str
    client: httpx.Client

    def owner_for(self, method: str) -> Account:
        if method not in ("PATCH", "DELETE"):
            return self.owner
        account = self.service.register(f"owner-{uuid.uuid4().hex[:12]}")
        self.service.patch_picture(account, PICTURE).raise_for_status()
        return account


@pytest.fixture(scope="module")
def people(shared_service: Service) -> Iterator[Cast]:
    def register(role: str, *, is_admin: bool = False) -> Account:
        return shared_service.register(f"{role}-{uuid.uuid4().hex[:12]}", is_admin=is_admin)

    other = register("other")
    admin = register("admin", is_admin=True)
    deleted = register("gone")
    owner = register("own")
    with shared_service.client(deleted) as client:
        assert client.delete(f"/users/{deleted.id}").status_code == 204
    image_path = shared_service.patch_picture(owner, PICTURE).json()["image_path"]
    with shared_service.client() as client:
        yield Cast(shared_service, other, admin, deleted, owner, image_path, client)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("method, path", TABLE, ids=lambda part: str(part))
def test_each_route_answers_each_caller_as_the_table_says(
    people: Cast, method: str, path: str, who: str, request: pytest.FixtureRequest
) -> None:
    owner = people.owner_for(method)
    caller = {"anonymous": None, "owner": owner, "other": people.other, "admin": people.admin}.get(
        who, people.deleted
    )
    if (method, path) == ("DELETE", "/users/token") and who in ("other", "admin"):
        caller = people.service.register(f"spent-{uuid.uuid4().hex[:12]}", is_admin=who == "admin")
    expected = TABLE[method, path][WHO.index(who)]
    if path == "/media/{key}" and request.config.getoption("--store") == "s3":
        expected = 404  # the pictures are the bucket's, and nothing of the local disk is served
    before = people.client.get(f"/users/{owner.id}").json()

    answer = call(people, method, path, owner, caller)

    assert answer.status_code == expected, answer.text
    if expected in (401, 403):
        codes = {"anonymous": "not_authenticated", "other": "not_yours", "deleted": "invalid_token"}
        assert answer.json()["code"] == codes[who]
        assert people.client.get(f"/users/{owner.id}").json() == before
    if method == "GET" and path == "/users/me" and caller and expected == 200:
        assert answer.json()["id"] == caller.id


def fill_in(people: Cast, path: str, owner: Account) -> str:
    """The address of something of the owner's, which is made for it."""
    key = (
        people.image_path.partition("/media/")[2]
        or f"profile_pics/{people.image_path.rpartition('/')[2]}"
    )
    photo_id = 0
    if "photo_id" in path:
        photo_id = store_photo(people.service, owner.id, "private", master=MASTER)
    thumbnail_id = 0
    if "thumbnail_id" in path:
        files = {"file": ("a.jpg", PICTURE)}
        made = people.client.post("/photos/thumbnail", files=files, headers=owner.headers)
        thumbnail_id = made.json()["id"]
    return path.format(user_id=owner.id, key=key, photo_id=photo_id, thumbnail_id=thumbnail_id)


def call(
    people: Cast, method: str, path: str, owner: Account, caller: Account | None
) -> httpx.Response:
    """A request that is good in all but, perhaps, who makes it."""
    url = fill_in(people, path, owner)
    headers = caller.headers if caller else {}
    name = f"new-{uuid.uuid4().hex[:12]}"
    match method, path:
        case "MOUNT", _:
            return people.client.get("/static/profile_pics/default.jpg", headers=headers)
        case "POST", "/users":
            body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
            return people.client.post(url, json=body, headers=headers)
        case "POST", "/users/token":
            form = {"username": owner.email, "password": owner.password}
            return people.client.post(url, data=form, headers=headers)
        case "PATCH", "/users/{user_id}" | "/users/me":
            return people.client.patch(url, json={"username": name}, headers=headers)
        case "POST", "/photos" | "/photos/thumbnail":
            return people.client.post(url, files={"file": ("a.jpg", PICTURE)}, headers=headers)
        case "PATCH", "/photos/{photo_id}":
            return people.client.patch(url, json={"caption": name}, headers=headers)
        case "PATCH", "/users/{user_id}/picture" | "/users/me/picture":
            return people.client.patch(url, files={"file": ("photo.jpg", PICTURE)}, headers=headers)
        case "GET", "/photos/{photo_id}/thumbnail":
            return people.client.get(url, params={"preset": 160}, headers=headers)
        case _:
            return people.client.request(method, url, headers=headers)


@pytest.mark.parametrize("method, path", [named for named in TABLE if "_id}" in named[1]], ids=str)
def test_an_id_in_an_address_is_spelt_in_one_way(people: Cast, method: str, path: str) -> None:
    owner = people.owner_for(method)
    _, noun, number, *rest = fill_in(people, path, owner).split("/")
    before = people.client.get(f"/users/{owner.id}").json()
    code = f"{noun.removesuffix('s')}_not_found"
    for spelt in ("+{}", "-{}", "0{}", "{}.0", "{}e0", "%20{}", "{}%20", "{}%0a", "{}_0", "x"):
        other = "/".join(["", noun, spelt.format(number), *rest])
        answer = people.client.request(method, other, headers=owner.headers)
        assert answer.status_code == 404, (other, answer.text)
        assert answer.json()["code"] in (code, "not_found")
    assert people.client.get(f"/users/{owner.id}").json() == before


@pytest.mark.parametrize(
    "method, tail", [("PATCH", ""), ("DELETE", ""), ("PATCH", "/picture"), ("DELETE", "/picture")]
)
def test_an_unknown_account_is_unknown_to_an_admin_and_not_ones_own_to_others(
    people: Cast, method: str, tail: str
) -> None:
    for who, expected in (
        (people.admin, (404, "user_not_found")),
        (people.other, (403, "not_yours")),
    ):
        for unknown in (people.deleted.id, 2**62):
            path = f"/users/{unknown}{tail}"
            with people.service.client(who) as client:
                if method == "DELETE":
                    answer = client.delete(path)
                elif tail:
                    answer = client.patch(path, files={"file": ("photo.jpg", PICTURE)})
                else:
                    answer = client.patch(path, json={"username": "nobody"})
            assert (answer.status_code, answer.json()["code"]) == expected


@pytest.mark.parametrize(
    "method, tail",
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("PATCH", "/picture"), ("DELETE", "/picture")],
)
def test_me_stands_for_the_callers_own_id_whoever_it_is(
    people: Cast, method: str, tail: str
) -> None:
    path = f"/users/me{tail}"
    assert call(people, method, path, people.owner, None).status_code == 401
    assert call(people, method, path, people.owner, people.deleted).status_code == 401
    for role in ("own", "admin"):
        caller = people.service.register(
            f"{role}-{uuid.uuid4().hex[:12]}", is_admin=role == "admin"
        )
        people.service.patch_picture(caller, PICTURE).raise_for_status()
        answer = call(people, method, path, people.owner, caller)
        assert answer.status_code == (204 if (method, tail) == ("DELETE", "") else 200), answer.text
        assert not answer.content or answer.json()["id"] == caller.id
        is_left = people.client.get(f"/users/{caller.id}").status_code == 200
        assert is_left == bool(answer.content)
