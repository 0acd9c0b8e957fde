"""An answer that comes before the body was read reaches every client, and never as a reset."""

import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.services import FORM, Account, Service, assert_problem, form, part, read_answer

# How a client sends: the service, the path, the account
# or nobody, a file of the form. It returns what it read.
Client = Callable[[Service, str, Account | None, Path], httpx.Response]

MB = 1_000_000


@pytest.fixture
def sparse(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a file of so many bytes, which takes no room."""

    def make(size_bytes: int) -> Path:
        path = tmp_path / "photo.jpg"
        with path.open("wb") as file:
            file.truncate(size_bytes)
        return path

    return make


def by_httpx(service: Service, path: str, account: Account | None, photo: Path) -> httpx.Response:
    with service.client(account) as client, photo.open("rb") as file:
        return client.patch(path, files={"file": file})


def by_httpx_in_chunks(
    service: Service, path: str, account: Account | None, photo: Path
) -> httpx.Response:
    with service.client(account) as client:
        answer = client.patch(path, content=body_of(photo), headers=FORM)
    assert answer.request.headers["transfer-encoding"] == "chunked"
    return answer


def by_http_client(
    service: Service, path: str, account: Account | None, photo: Path
) -> httpx.Response:
    connection = http.client.HTTPConnection(service.host, service.port, timeout=60)
    length = sum(len(piece) for piece in body_of(photo))
    headers = {**FORM, "Content-Length": str(length), **(account.headers if account else {})}
    try:
        connection.request("PATCH", path, body_of(photo), headers)
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()


def by_curl(*options: str) -> Client:
    def send(service: Service, path: str, account: Account | None, photo: Path) -> httpx.Response:
        command = [
            "curl",
            "-q",
            "-sS",
            "--noproxy",
            "*",
            "-X",
            "PATCH",
            "-F",
            f"file=@{photo}",
            *options,
        ]
        if account:
            command += ["-H", f"Authorization: Bearer {account.token}"]
        head = photo.with_name("head")
        body = photo.with_name("body")
        command += ["-D", str(head), "-o", str(body), "-w", "%{http_code}", service.url + path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        last = head.read_text().strip().split("\n\n")[-1]  # after a 100 Continue, if there was one
        lines = [line.partition(": ") for line in last.splitlines()[1:]]
        headers = [(name, value) for name, _, value in lines]
        return httpx.Response(int(done.stdout), headers=headers, content=body.read_bytes())

    return send


def body_of(photo: Path) -> Iterator[bytes]:
    """The form with this file, in pieces."""
    yield part(b"")[:-2]
    with photo.open("rb") as file:
        yield from iter(lambda: file.read(256 * 1024), b"")
    yield b"\r\n" + form()


CLIENTS: dict[str, Client] = {
    "httpx": by_httpx,
    "httpx in chunks": by_httpx_in_chunks,
    "http.client": by_http_client,
    "curl": by_curl(),
    "curl that does not ask first": by_curl("-H", "Expect:"),
    "curl that asks but does not wait": by_curl("--expect100-timeout", "0.001"),
    "curl in chunks": by_curl("-H", "Transfer-Encoding: chunked"),
    "curl with HTTP 1.0": by_curl("--http1.0"),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("sender", "size_bytes", "status", "code"),
    [
        pytest.param("nobody", 100 * MB, 401, "not_authenticated", id="100 MB from nobody"),
        pytest.param("owner", 6 * MB, 413, "file_too_large", id="6 MB"),
        pytest.param("owner", 64 * MB, 413, "file_too_large", id="64 MB"),
        pytest.param("other", 6 * MB, 403, "not_yours", id="6 MB for another's account"),
    ],
)
def test_every_client_reads_the_early_answer(
    name: str,
    sender: str,
    size_bytes: int,
    status: int,
    code: str,
    shared_service: Service,
    account: Account,
    sparse: Callable[[int], Path],
) -> None:
    if name.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    user_id = account.id if sender != "other" else shared_service.register(f"other-{account.id}").id
    path = f"/users/{user_id}/picture"
    answer = CLIENTS[name](
        shared_service, path, account if sender != "nobody" else None, sparse(size_bytes)
    )
    assert_problem(answer, status, code)
    assert (
        shared_service.sql(
            "SELECT id FROM stored_files WHERE owner_id IN ($1, $2)", account.id, user_id
        )
        == []
    )


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection((service.host, service.port), timeout=30) as connection:
        yield connection


def head_of(account: Account | None, user_id: int, *headers: str) -> bytes:
    """The head of a request to change a picture."""
    lines = [
        f"PATCH /users/{user_id}/picture HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {FORM['Content-Type']}",
    ]
    if account:
        lines.append(f"Authorization: Bearer {account.token}")
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def sent_whole(account: Account | None, user_id: int, body: bytes) -> bytes:
    return head_of(account, user_id, f"Content-Length: {len(body)}") + body


def test_a_refused_picture_leaves_its_connection_usable(
    shared_service: Service, account: Account
) -> None:
    with connected(shared_service) as connection:
        for _ in range(3):
            connection.sendall(sent_whole(account, account.id, form(part(b"This is no picture."))))
            answer = read_answer(connection)
            assert_problem(answer, 400, "not_a_picture")
            assert answer.headers.get("connection") != "close"
        connection.sendall(sent_whole(account, account.id, form(part(jpeg()))))
        assert read_answer(connection).status_code == 200


def test_a_small_body_that_nobody_reads_ends_its_connection_without_a_reset(
    shared_service: Service, account: Account
) -> None:
    body = form(part(jpeg()))
    with connected(shared_service) as connection:
        connection.sendall(sent_whole(None, account.id, body))
        answer = read_answer(connection)
        assert_problem(answer, 401, "not_authenticated")
        if answer.headers.get("connection") == "close":
            assert connection.recv(1) == b""
        else:
            connection.sendall(sent_whole(account, account.id, body))
            assert read_answer(connection).status_code == 200


def test_a_client_that_keeps_connections_goes_on_after_refusals(
    shared_service: Service, account: Account
) -> None:
    with shared_service.client() as client:
        for _ in range(5):
            refused = client.patch(f"/users/{account.id}/picture", files={"file": jpeg()})
            assert_problem(refused, 401, "not_authenticated")
            taken = client.patch(
                f"/users/{account.id}/picture", files={"file": jpeg()}, headers=account.headers
            )
            assert taken.status_code == 200


def test_the_answer_to_a_chunked_upload_comes_before_its_end(
    shared_service: Service, account: Account
) -> None:
    piece = bytes(50_000)
    chunk = b"%x\r\n" % len(piece) + piece + b"\r\n"
    with connected(shared_service) as connection:
        connection.sendall(head_of(None, account.id, "Transfer-Encoding: chunked") + chunk)
        answer = read_answer(connection)
        assert_problem(answer, 401, "not_authenticated")
        assert answer.headers["connection"] == "close"
        for _ in range(100):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(1) == b""


def test_a_client_that_asks_first_need_not_send(shared_service: Service, account: Account) -> None:
    with connected(shared_service) as connection:
        connection.sendall(
            head_of(account, account.id, f"Content-Length: {6 * MB}", "Expect: 100-continue")
        )
        assert_problem(read_answer(connection), 413, "file_too_large")
    body = form(part(jpeg()))
    with connected(shared_service) as connection:
        connection.sendall(
            head_of(account, account.id, f"Content-Length: {len(body)}", "Expect: 100-continue")
        )
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_answer(connection).status_code == 200


@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "in chunks"])
@pytest.mark.parametrize("size_bytes", [70_000, 6 * MB, 64 * MB])
@pytest.mark.parametrize("route", ["POST /users", "POST /users/token", "PATCH /users/ID"])
def test_a_json_body_beyond_its_limit_is_refused_in_the_one_shape(
    route: str, size_bytes: int, is_announced: bool, shared_service: Service, account: Account
) -> None:
    method, path = route.replace("ID", str(account.id)).split()
    is_form = path.endswith("token")
    start, end = (b"username=", b"") if is_form else (b'{"username": "', b'"}')
    kind = "application/x-www-form-urlencoded" if is_form else "application/json"
    body = start + b"a" * (size_bytes - len(start) - len(end)) + end
    pieces = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    with shared_service.client(account) as client:
        answer = client.request(
            method, path, content=body if is_announced else pieces, headers={"Content-Type": kind}
        )
    assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        ("POST /nowhere", 404, "not_found"),
        ("POST /users/1/picture", 405, "method_not_allowed"),
        ("PUT /docs", 405, "method_not_allowed"),
        ("GET /users/1", 413, "body_too_large"),
    ],
)
def test_a_large_body_for_an_address_that_takes_none_is_refused_in_the_one_shape(
    request_line: str, status: int, code: str, shared_service: Service
) -> None:
    method, path = request_line.split()
    with shared_service.client() as client:
        answer = client.request(method, path, content=bytes(6 * MB))
    assert_problem(answer, status, code)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_large_body_does_not_run_the_handler_that_ignores_it(
    shared_service: Service, account: Account
) -> None:
    with shared_service.client(account) as client:
        for path in (f"/users/{account.id}", "/users/token"):
            answer = client.request("DELETE", path, content=bytes(70_000))
            assert_problem(answer, 413, "body_too_large")
        assert client.get("/users/me").status_code == 200


def test_a_json_body_below_the_limit_is_judged_by_what_it_says(shared_service: Service) -> None:
    body = {"username": "a" * 60_000, "email": "a@example.com", "password": "a-password"}
    with shared_service.client() as client:
        answer = client.post("/users", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_stalled_upload_is_cut_off(start_service: Callable[..., Service]) -> None:
    service = start_service(upload_stall_seconds=0.5)
    account = service.register()
    assert service.patch_picture(account, jpeg()).status_code == 200
    body = form(part(jpeg().ljust(20_000, b"\0")))
    announced = f"Content-Length: {len(body)}"

    for sent in (b"", body[:200], body[:-1]):
        with connected(service) as connection:
            connection.sendall(head_of(account, account.id, announced) + sent)
            assert_problem(read_answer(connection), 408, "upload_stalled")

    with connected(service) as connection:  # in chunks, of which the last never comes
        chunk = b"%x\r\n" % len(body) + body + b"\r\n"
        connection.sendall(head_of(account, account.id, "Transfer-Encoding: chunked") + chunk)
        assert_problem(read_answer(connection), 408, "upload_stalled")
        assert connection.recv(1) == b""

    rows = service.sql("SELECT state FROM stored_files")
    assert [row["state"] for row in rows] == ["live"] and len(service.objects()) == 1
    assert service.patch_picture(account, jpeg()).status_code == 200


def test_a_slow_upload_that_is_never_silent_for_long_is_taken_while_nobody_waits_for_memory(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(upload_stall_seconds=0.5)
    account = service.register()
    body = form(part(jpeg().ljust(4000, b"\0")))
    with connected(service) as connection:
        connection.sendall(head_of(account, account.id, f"Content-Length: {len(body)}"))
        for start in range(0, len(body), 200):
            time.sleep(0.05)
            connection.sendall(body[start : start + 200])
        assert read_answer(connection).status_code == 200


def test_a_stalled_body_of_another_route_is_cut_off_too(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(upload_stall_seconds=0.5)
    head = (
        f"POST /users HTTP/1.1\r\nHost: {service.host}\r\n"
        "Content-Type: application/json\r\nContent-Length: 60\r\n\r\n"
    )
    with connected(service) as connection:
        connection.sendall(head.encode() + b"{")
        assert_problem(read_answer(connection), 408, "upload_stalled")


def test_a_stalled_upload_gives_back_its_share_of_the_budget(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(
        upload_stall_seconds=0.5,
        max_upload_size_bytes=MB,
        upload_budget_bytes=2 * 1024 * 1024 + MB,
        upload_wait_seconds=20,
    )
    account = service.register()
    stalled = [socket.create_connection((service.host, service.port), timeout=30) for _ in range(5)]
    for connection in stalled:  # three hold the whole budget, the others wait for it
        connection.sendall(head_of(account, account.id, f"Content-Length: {MB}"))
    assert service.patch_picture(account, jpeg()).status_code == 200
    for connection in stalled:
        assert_problem(read_answer(connection), 408, "upload_stalled")
        connection.close()


def test_a_client_that_goes_away_leaves_nothing(service: Service) -> None:
    account = service.register()
    body = form(part(jpeg()))
    for sent in (b"", body[:200], body[:-1]):
        with connected(service) as connection:
            connection.sendall(head_of(account, account.id, f"Content-Length: {len(body)}") + sent)
    deadline = time.monotonic() + 30
    while service.log().count("the client went away before its last byte") < 3:
        assert time.monotonic() < deadline, service.log()
        time.sleep(0.05)
    assert service.sql("SELECT id FROM stored_files") == [] and service.objects() == {}
    assert " 500" not in service.log() and "Traceback" not in service.log()


def test_a_client_that_asks_but_does_not_wait_reads_the_answer(
    shared_service: Service, account: Account
) -> None:
    with connected(shared_service) as connection:
        connection.sendall(
            head_of(account, account.id, f"Content-Length: {6 * MB}", "Expect: 100-continue")
        )
        assert connection.recv(4, socket.MSG_PEEK) == b"HTTP"
        connection.sendall(bytes(6 * MB))
        assert_problem(read_answer(connection), 413, "file_too_large")
        assert connection.recv(1) == b""
