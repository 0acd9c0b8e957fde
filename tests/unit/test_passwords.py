"""Proves that hashing leaves the loop alone, is bounded, and says so when it is too much."""

import asyncio
import os
import threading

import pytest

import errors
from accounts import Passwords
from tests.support.hashing import CountingHasher


def test_hashing_leaves_the_loop_alone_and_takes_a_thread_for_two_cores() -> None:
    threads = max(1, (os.cpu_count() or 1) // 2)
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    hasher.forget(at_once=threads)

    async def story() -> None:
        half = [passwords.hash("x") for _ in range(2 * threads)]
        other = [passwords.match("x", "hash of x") for _ in range(2 * threads)]
        await asyncio.gather(*half, *other)

    asyncio.run(story())
    assert len(hasher.calls) == 4 * threads
    assert hasher.most == threads
    assert threading.get_ident() not in hasher.threads


def test_whoever_waits_too_long_for_a_hash_is_told_to_come_back() -> None:
    hasher = CountingHasher()
    passwords = Passwords(hasher, slots=1, wait_seconds=0.05)
    hasher.forget()
    hasher.stop.clear()

    async def story() -> None:
        first = asyncio.create_task(passwords.hash("first"))
        while not hasher.calls:
            await asyncio.sleep(0.01)
        with pytest.raises(errors.Busy) as refusal:
            await passwords.hash("second")
        assert (refusal.value.status_code, refusal.value.headers) == (503, {"Retry-After": "2"})
        hasher.stop.set()
        assert await first == "hash of first"
        assert await passwords.hash("third") == "hash of third"

    asyncio.run(story())
    assert hasher.calls == ["hash", "hash"]
