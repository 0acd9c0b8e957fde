"""Proves that a thousand who ask first for a thumbnail, of two processes, make one render."""

import contextlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from PIL import Image

from tests.support.launched import hold_decoding, launched, sending
from tests.support.photos import MASTER_SIDES_PX, store_photo
from tests.support.pictures import jpeg
from tests.support.services import Account, Service, get, read_answer, wait_until

pytestmark = pytest.mark.backends

ASKING = 1000
# Their own limits are those of requests; here a slow machine has to come to the end of a thousand.
CONSTANTS = {"photos.thumbnails.PATIENCE_SECONDS": 60, "connections.pool.POOL_TIMEOUT_SECONDS": 60}
# How many files the database has had, those among them that are forgotten.
FILES_EVER = (
    "SELECT pg_sequence_last_value(pg_get_serial_sequence('stored_files', 'id')::regclass) AS count"
)


@pytest.fixture
def two_processes(shared_service: Service) -> Iterator[list[Service]]:
    """Two more of one database and one store, whose decoders can be held."""
    services = [launched(shared_service.settings, CONSTANTS) for _ in range(2)]
    for number, service in enumerate(services):
        service.log_name = f"service-{number}.log"
    with ThreadPoolExecutor() as threads:
        list(threads.map(Service.start, services))
        yield services
        list(threads.map(Service.stop, services))


def test_a_thousand_first_requests_to_two_processes_make_one_render(
    shared_service: Service, two_processes: list[Service], account: Account
) -> None:
    wait_until(
        lambda: not shared_service.sql("SELECT FROM pgqueuer"), "what tests before began is over"
    )
    photo_id = store_photo(shared_service, account.id, master=jpeg(*MASTER_SIDES_PX))
    before = set(shared_service.objects())
    ((files_before,),) = shared_service.sql(FILES_EVER)
    path = f"/photos/{photo_id}/thumbnail?preset=160&format=jpeg"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    gate = hold_decoding(two_processes[0])
    with contextlib.ExitStack() as stack:
        asking = [
            stack.enter_context(sending(two_processes[number % 2], request))
            for number in range(ASKING)
        ]
        for service in two_processes:  # it waits for a connection behind all who have asked
            wait_until(partial(is_ready, service), "all have asked")
        wait_until(lambda: count_renders(two_processes) > 0, "somebody renders")
        gate.unlink()
        answers = [read_answer(connection) for connection in asking]
    assert {answer.status_code for answer in answers} == {302}
    (target,) = {answer.headers["location"] for answer in answers}
    picture = Image.open(io.BytesIO(shared_service.get_picture(target).content))
    assert (picture.format, picture.size) == ("JPEG", MASTER_SIDES_PX)
    assert count_renders(two_processes) == 1
    assert shared_service.sql(FILES_EVER)[0]["count"] == files_before + 1
    (made,) = set(shared_service.objects()) - before
    assert target.endswith(made)
    (row,) = shared_service.sql("SELECT * FROM thumbnails WHERE photo_id = $1", photo_id)
    assert (row["claim"], row["failures"]) == (None, 0)


def is_ready(service: Service) -> bool:
    return get(f"{service.url}/health/ready", timeout=60).status_code == 200


def count_renders(services: list[Service]) -> int:
    pages = [get(f"{service.url}/test/renders", timeout=60) for service in services]
    return sum(page.json() for page in pages)
