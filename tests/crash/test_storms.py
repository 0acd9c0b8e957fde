"""Proves on short runs what tests/crash/storm.py and store_faults.py prove on long ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.store_faults import Clients, store_settings
from tests.crash.storm import Storm
from tests.support.s3 import FakeS3
from tests.support.services import Bucket, Service


@pytest.mark.backends
def test_storms_on_one_account_leave_one_winner_and_nothing_else(
    start_service: Callable[..., Service],
) -> None:
    service = start_service(reaper_interval_seconds=0.2)
    outcome = Storm(service, parallel=24, seed=1).run(
        rounds=5
    )  # one with each of the deletions among them
    assert outcome.violations == []
    assert (
        outcome.rounds,
        outcome.answers["DELETE account 204"],
        outcome.answers["DELETE /picture 200"],
    ) == (5, 1, 1)
    patched = {what: count for what, count in outcome.answers.items() if what.startswith("PATCH")}
    assert sum(patched.values()) == 5 * 24 and set(patched) <= {
        "PATCH 200",
        "PATCH 401",
        "PATCH 404",
        "PATCH 503",
    }
    assert outcome.uploads >= 4 * 24 and len(outcome.seconds) >= 0.95 * outcome.uploads


@pytest.fixture
def bucket(moto: str) -> Bucket:
    return Bucket.make(moto)


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[FakeS3]:
    with FakeS3(bucket.endpoint, rate=0.2, seed=1) as running:
        yield running


@pytest.fixture
def behind_proxy(
    new_database: Callable[[], str], bucket: Bucket, proxy: FakeS3, tmp_path: Path
) -> Iterator[Service]:
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(tmp_path),
        "REAPER_INTERVAL_SECONDS": "0.2",
    }
    service = Service({**settings, **store_settings(proxy, bucket)})
    service.start()
    yield service
    service.stop()


def test_what_a_failing_store_accepts_is_right_and_nothing_else_is_left(
    behind_proxy: Service, bucket: Bucket, proxy: FakeS3
) -> None:
    outcome = Clients(behind_proxy, proxy, bucket, seed=1).run(uploads=60, parallel=8)
    assert outcome.violations == []
    assert outcome.accepted >= 0.99 * 60
    assert outcome.faults.total() >= 10 and outcome.tombstones >= 1, (
        "hardly a fault was met: nothing is proven"
    )
