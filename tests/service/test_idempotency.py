"""A photo that is sent again under its Idempotency-Key is there once, whatever happened between."""

import socket
import threading
import uuid
from collections.abc import Callable

import httpx

from tests.support.pictures import jpeg
from tests.support.services import (
    FORM,
    Account,
    Service,
    assert_problem,
    form,
    part,
    wait_until,
)

CONTENT = jpeg(400, 300)


def send(
    service: Service, account: Account, key: str, content: bytes = CONTENT, **fields: str
) -> httpx.Response:
    with service.client(account) as client:
        return client.post(
            "/photos",
            files={"file": ("a.jpg", content)},
            data=fields,
            headers={"Idempotency-Key": key},
        )


def count_photos(service: Service, account: Account) -> int:
    ((count,),) = service.sql("SELECT count(*) FROM photos WHERE owner_id = $1", account.id)
    assert isinstance(count, int)
    return count


def test_the_same_request_is_answered_alike_and_another_is_refused(
    shared_service: Service, account: Account
) -> None:
    key = uuid.uuid4().hex
    first = send(shared_service, account, key, caption="one")
    again = send(shared_service, account, key, caption="one")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["url"] == again.json()["url"]
    for other in (
        send(shared_service, account, key, caption="two"),
        send(shared_service, account, key, jpeg(300, 400), caption="one"),
    ):
        assert_problem(other, 422, "idempotency_key_reused")
    assert count_photos(shared_service, account) == 1
    assert send(shared_service, account, uuid.uuid4().hex, caption="one").status_code == 201
    assert count_photos(shared_service, account) == 2


def test_a_key_is_its_owners_and_ends_with_the_photo(
    shared_service: Service, account: Account
) -> None:
    other = shared_service.register(f"other-{account.id}")
    photo = send(shared_service, account, "the-key").json()
    assert send(shared_service, other, "the-key").json()["id"] != photo["id"]
    with shared_service.client(account) as client:
        assert client.delete(f"/photos/{photo['id']}").status_code == 204
    assert_problem(send(shared_service, account, "the-key"), 404, "photo_not_found")
    answer = send(shared_service, account, "no key")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_refused_request_lets_go_of_its_key(shared_service: Service, account: Account) -> None:
    assert_problem(send(shared_service, account, "again", b"no picture"), 400, "not_a_picture")
    wait_until(
        lambda: send(shared_service, account, "again").status_code == 201, "the key is free again"
    )
    assert count_photos(shared_service, account) == 1


def test_of_many_at_once_one_adds_the_photo(shared_service: Service, account: Account) -> None:
    answers: list[httpx.Response] = []

    def add() -> None:
        answers.append(send(shared_service, account, "at-once"))

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    added = [answer for answer in answers if answer.status_code == 201]
    assert added and len({answer.json()["id"] for answer in added}) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert_problem(answer, 409, "still_in_progress")
            assert int(answer.headers["retry-after"]) >= 1
    assert count_photos(shared_service, account) == 1


def test_a_killed_service_leaves_a_key_that_is_free_once_its_lease_is_over(
    start_service: Callable[..., Service],
) -> None:
    service = start_service()
    account = service.register("killed")
    body = form(part(CONTENT))
    head = (
        "POST /photos HTTP/1.1\r\nHost: x\r\nIdempotency-Key: killed\r\n"
        f"Authorization: {account.headers['Authorization']}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(head.encode() + body[:1000])
        wait_until(lambda: service.sql("SELECT 1 FROM idempotency_keys"), "the key is claimed")
        assert_problem(send(service, account, "killed"), 409, "still_in_progress")
        assert service.process is not None
        service.process.kill()
        service.process.wait(30)
    service.start()
    assert_problem(send(service, account, "killed"), 409, "still_in_progress")
    service.sql("UPDATE idempotency_keys SET claimed_until = now() - interval '1 second'")
    added = send(service, account, "killed")
    assert added.status_code == 201
    service.stop()
    service.start()
    assert send(service, account, "killed").json()["id"] == added.json()["id"]


def test_a_claim_that_was_taken_over_adds_nothing(
    shared_service: Service, account: Account
) -> None:
    """Stopped for longer than the lease, a process finds the key another's at its commit."""
    body = form(part(CONTENT))
    head = (
        "POST /photos HTTP/1.1\r\nHost: x\r\nIdempotency-Key: lost\r\nConnection: close\r\n"
        f"Authorization: {account.headers['Authorization']}\r\n"
        f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", shared_service.port), timeout=30) as connection:
        connection.sendall(head.encode() + body[:1000])
        wait_until(
            lambda: shared_service.sql(
                "SELECT 1 FROM idempotency_keys WHERE owner_id = $1", account.id
            ),
            "the key is claimed",
        )
        shared_service.sql(
            "UPDATE idempotency_keys SET claim = gen_random_uuid() WHERE owner_id = $1", account.id
        )
        connection.sendall(body[1000:])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 409"), answer
    assert count_photos(shared_service, account) == 0
    wait_until(
        lambda: (
            not shared_service.sql("SELECT 1 FROM stored_files WHERE owner_id = $1", account.id)
        ),
        "nothing is left",
    )
