"""What is kept for a while goes by itself."""

import uuid
from datetime import timedelta

import pytest

from files.idempotency import MEMORY
from tests.support import rows
from tests.support.stock import Stock

pytestmark = pytest.mark.backends

ADD_KEY = (
    "INSERT INTO idempotency_keys (owner_id, key, claim, claimed_until, created_at)"
    " VALUES ($1, $2, $3, now(), now() - $4::interval)"
)


def test_the_reaper_forgets_requests_that_nobody_repeats_any_more(stock: Stock) -> None:
    assert timedelta(hours=24) == MEMORY
    owner_id = rows.account().run(stock.service)
    minute = timedelta(minutes=1)
    for key, age in (("old", MEMORY + minute), ("young", MEMORY - minute)):
        stock.service.sql(ADD_KEY, owner_id, key, uuid.uuid4(), age)
    stock.reap()
    assert [row["key"] for row in stock.service.sql("SELECT key FROM idempotency_keys")] == [
        "young"
    ]
