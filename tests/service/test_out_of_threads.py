"""Proves that where the system gives no further thread a request is refused, and none is lost.

The system refuses indeed: a thread whose stack is larger than all memory that can be named.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
from anyio import to_thread

import main
from config import Settings
from tests.support.pictures import jpeg

STACK_BYTES = 1 << 46
PASSWORD = "correct horse battery"


@contextlib.asynccontextmanager
async def without_threads() -> AsyncIterator[None]:
    """Let no thread be started, and keep those busy that there are."""
    release = threading.Event()
    busy: list[asyncio.Future[object]] = []
    threading.stack_size(STACK_BYTES)
    try:
        while not any(each.done() for each in busy):
            busy.append(asyncio.ensure_future(to_thread.run_sync(release.wait)))
            await asyncio.sleep(0.01)
        yield
    finally:
        threading.stack_size(0)
        release.set()
        refused = await asyncio.gather(*busy, return_exceptions=True)
        assert isinstance(refused[-1], RuntimeError)


def test_whatever_needs_a_thread_is_refused_until_there_is_one(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    settings = Settings(database_url=new_database(), data_dir=tmp_path, storage="local")

    async def use(client: httpx.AsyncClient) -> None:
        account = {"username": "bob", "email": "bob@example.com", "password": PASSWORD}
        bob = (await client.post("/users", json=account)).raise_for_status().json()
        login = {"username": account["email"], "password": PASSWORD}
        token = (await client.post("/users/token", data=login)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        path = f"/users/{bob['id']}/picture"
        sent = {"file": ("photo.jpg", jpeg())}
        shown = (await client.patch(path, headers=headers, files=sent)).raise_for_status().json()

        async def ask() -> list[httpx.Response]:
            return [
                await client.get("/static/profile_pics/default.jpg"),
                await client.get(shown["image_path"]),
                await client.get("/users/me", headers=headers),
                await client.patch(path, headers=headers, files=sent),
                await client.post("/users/token", data=login),
                await client.get("/health/ready"),
            ]

        async with without_threads():
            refused = await ask()
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded"), answer.text
            assert int(answer.headers["retry-after"]) >= 1
        assert {answer.status_code for answer in await ask()} == {200}

    async def run() -> None:
        app = main.create_app(settings)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            await use(client)

    asyncio.run(run())
