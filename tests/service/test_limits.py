"""How often strangers and accounts may try, over HTTP, and that each is counted by itself."""

import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.accounts import make_account
from tests.support.databases import make_database
from tests.support.services import Account, Service, assert_problem

LOGINS_OF_ACCOUNT = 2
LOGINS_OF_ADDRESS = 5
REGISTRATIONS = 3
# Of this machine too, but not among those that are nobody's in these tests.
STRANGER = "127.0.0.2"


@pytest.fixture(scope="module")
def limited(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {
        "DATABASE_URL": make_database(postgres, template),
        "DATA_DIR": str(tmp_path_factory.mktemp("limited")),
        "STORAGE": "local",
        "SHARED_ADDRESSES": "127.0.0.1,::1",
        "LOGINS_PER_ACCOUNT_PER_MINUTE": str(LOGINS_OF_ACCOUNT),
        "LOGINS_PER_ADDRESS_PER_MINUTE": str(LOGINS_OF_ADDRESS),
        "REGISTRATIONS_PER_ADDRESS_PER_HOUR": str(REGISTRATIONS),
    }
    service = Service(settings)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def someone(limited: Service) -> Account:
    return make_account(limited, f"user-{uuid.uuid4().hex[:12]}")


def connect_from(service: Service, address: str) -> httpx.Client:
    transport = httpx.HTTPTransport(local_address=address, verify=False, trust_env=False)
    return httpx.Client(base_url=service.url, transport=transport, timeout=60)


def register(client: httpx.Client, **headers: str) -> httpx.Response:
    name = uuid.uuid4().hex
    new = {"username": name, "email": f"{name}@example.com", "password": f"{name}!"}
    return client.post("/users", json=new, headers=headers)


def log_in(client: httpx.Client, name: str, password: str, **headers: str) -> httpx.Response:
    form = {"username": name, "password": password}
    return client.post("/users/token", data=form, headers=headers)


def assert_limited(answer: httpx.Response, policy: str, quota: int, window_seconds: int) -> None:
    assert_problem(answer, 429, "too_many_attempts")
    wait_seconds = int(answer.headers["retry-after"])
    assert 0 < wait_seconds <= window_seconds / quota
    assert answer.headers["ratelimit-policy"] == f'"{policy}";q={quota};w={window_seconds}'
    assert answer.headers["ratelimit"] == f'"{policy}";r=0;t={wait_seconds}'


def test_an_address_registers_so_often_and_this_machine_as_often_as_it_likes(
    limited: Service,
) -> None:
    with connect_from(limited, STRANGER) as stranger, limited.client() as proxy:
        # What is refused anyway is not counted.
        for _ in range(2 * REGISTRATIONS):
            assert stranger.post("/users", json={"username": ""}).status_code == 422
        for _ in range(REGISTRATIONS):
            assert register(stranger).status_code == 201
        # Whoever is no proxy cannot be somebody else.
        for headers in ({}, {"X-Forwarded-For": "203.0.113.1"}):
            refused = register(stranger, **headers)
            assert_limited(refused, "registration-address", REGISTRATIONS, 3600)
        for _ in range(REGISTRATIONS + 1):
            assert register(proxy).status_code == 201
        # Those who come through a proxy are counted by their own addresses.
        for _ in range(REGISTRATIONS):
            assert register(proxy, **{"X-Forwarded-For": "203.0.113.1"}).status_code == 201
        headers = {"X-Forwarded-For": "203.0.113.1"}
        assert_limited(register(proxy, **headers), "registration-address", REGISTRATIONS, 3600)
        assert register(proxy, **{"X-Forwarded-For": "203.0.113.2"}).status_code == 201


@pytest.mark.parametrize("is_right", [True, False])
def test_an_account_is_logged_in_to_so_often_by_its_name_and_its_address_together(
    limited: Service, someone: Account, is_right: bool
) -> None:
    password = someone.password if is_right else "another password"
    name = someone.email.split("@")[0]
    with limited.client() as client:
        for known_as in (someone.email, name.upper()):
            expected = 200 if is_right else 401
            assert log_in(client, known_as, password).status_code == expected
        for known_as in (someone.email, f" {someone.email}", name):
            # The right password is not even compared.
            refused = log_in(client, known_as, someone.password)
            assert_limited(refused, "login-account", LOGINS_OF_ACCOUNT, 60)


def test_an_unknown_account_is_counted_like_any_other(limited: Service) -> None:
    unknown = f"{uuid.uuid4().hex}@example.com"
    with limited.client() as client:
        for _ in range(LOGINS_OF_ACCOUNT):
            assert log_in(client, unknown, "a password").status_code == 401
        refused = log_in(client, unknown.upper(), "a password")
        assert_limited(refused, "login-account", LOGINS_OF_ACCOUNT, 60)


def test_an_address_logs_in_so_often_whoever_it_says_it_is(
    limited: Service, someone: Account
) -> None:
    headers = {"X-Forwarded-For": "2001:db8::1"}
    neighbours = {"X-Forwarded-For": "2001:db8::ffff:2"}
    with limited.client() as client:
        for _ in range(LOGINS_OF_ADDRESS):
            assert log_in(client, uuid.uuid4().hex, "a password", **headers).status_code == 401
        refused = log_in(client, someone.email, someone.password, **neighbours)
        assert_limited(refused, "login-address", LOGINS_OF_ADDRESS, 60)
        assert log_in(client, someone.email, someone.password).status_code == 200


@pytest.mark.parametrize("change", [{"password": "a new password"}, {"email": "{}@example.com"}])
def test_the_current_password_is_tried_so_often_and_logins_do_not_count(
    limited: Service, someone: Account, change: dict[str, str]
) -> None:
    change = {name: value.format(uuid.uuid4().hex) for name, value in change.items()}
    path = f"/users/{someone.id}"
    with limited.client(someone) as client:
        for _ in range(LOGINS_OF_ACCOUNT + 1):
            log_in(client, someone.email, "another password")
        # Without one nothing is compared, and nothing counted.
        for _ in range(LOGINS_OF_ACCOUNT + 1):
            assert_problem(client.patch(path, json=change), 403, "wrong_password")
        wrong = {**change, "current_password": "another password"}
        for _ in range(LOGINS_OF_ACCOUNT):
            assert_problem(client.patch(path, json=wrong), 403, "wrong_password")
        refused = client.patch(path, json={**change, "current_password": someone.password})
        assert_limited(refused, "password-account", LOGINS_OF_ACCOUNT, 60)
        assert client.patch(path, json={"username": uuid.uuid4().hex}).status_code == 200


def test_a_page_of_another_origin_may_read_how_long_to_wait(
    start_service: Callable[..., Service],
) -> None:
    origin = "https://app.example.com"
    service = start_service(cors_origins=origin)
    with service.client() as client:
        answer = client.get("/health/live", headers={"Origin": origin})
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= exposed
