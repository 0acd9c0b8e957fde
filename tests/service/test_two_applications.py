"""Proves that two applications live side by side in one process, each with what is its own."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from fastapi import FastAPI

import main
from config import Settings
from tests.support.pictures import jpeg
from tests.support.services import Bucket

PASSWORD = "correct horse battery"


async def enter(stack: AsyncExitStack, settings: Settings) -> tuple[FastAPI, httpx.AsyncClient]:
    """Start an application and a client of it, for as long as the stack lasts."""
    app = main.create_app(settings)
    await stack.enter_async_context(app.router.lifespan_context(app))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    return app, await stack.enter_async_context(client)


async def send_picture(client: httpx.AsyncClient, prefix: str, name: str) -> httpx.Response:
    """Register, log in, and send a picture."""
    account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    registered = await client.post(f"{prefix}/users", json=account)
    login = {"username": account["email"], "password": PASSWORD}
    token = (await client.post(f"{prefix}/users/token", data=login)).json()["access_token"]
    return await client.patch(
        f"{prefix}/users/{registered.json()['id']}/picture",
        headers={"Authorization": f"Bearer {token}"},
        files={"file": ("photo.jpg", jpeg())},
    )


def test_each_has_its_settings_its_database_its_store_and_its_secret(
    new_database: Callable[[], str], moto: str, tmp_path: Path
) -> None:
    bucket = Bucket.make(moto)
    on_disk = Settings(database_url=new_database(), data_dir=tmp_path / "disk", storage="local")
    in_s3 = Settings.model_validate(
        {
            "database_url": new_database(),
            "data_dir": tmp_path / "s3",
            "api_prefix": "/api",
            "max_upload_size_bytes": 1000,
            **{name.lower(): value for name, value in bucket.settings().items()},
        }
    )

    async def run() -> None:
        async with AsyncExitStack() as stack:
            disk_app, disk = await enter(stack, on_disk)
            _, s3 = await enter(stack, in_s3)
            alice = await send_picture(disk, "", "alice")
            assert alice.status_code == 200
            path = alice.json()["image_path"]
            assert path.startswith("/media/profile_pics/")
            assert (await disk.get(path)).status_code == 200
            assert (await s3.get(path)).status_code == 404
            too_large = await send_picture(s3, "/api", "bob")
            assert too_large.json()["code"] == "file_too_large"

            in_s3.max_upload_size_bytes = 1_000_000
            bob = await send_picture(s3, "/api", "carol")
            assert bob.status_code == 200
            assert bob.json()["image_path"].startswith(f"{bucket.endpoint}/{bucket.name}/")
            assert set(bucket.objects()) == {f"profile_pics/{bob.json()['image_file']}"}

            assert (await disk.get("/users/1")).json()["username"] == "alice"
            assert (await s3.get("/api/users/1")).json()["username"] == "bob"
            assert (await s3.get("/users/1")).status_code == 404
            token = disk_app.state.tokens.issue(1, datetime.now(UTC) + timedelta(seconds=1))
            headers = {"Authorization": f"Bearer {token}"}
            assert (await disk.get("/users/me", headers=headers)).status_code == 200
            refused = await s3.get("/api/users/me", headers=headers)
            assert refused.json()["code"] == "invalid_token"
            for client, prefix in ((disk, ""), (s3, "/api")):
                document = (await client.get("/openapi.json")).json()
                (scheme,) = document["components"]["securitySchemes"].values()
                assert scheme["flows"]["password"]["tokenUrl"] == f"{prefix}/users/token"

    asyncio.run(run())


def test_one_ends_and_the_other_goes_on(new_database: Callable[[], str], tmp_path: Path) -> None:
    first = Settings(database_url=new_database(), data_dir=tmp_path / "first", storage="local")
    second = Settings(database_url=new_database(), data_dir=tmp_path / "second", storage="local")

    async def run() -> None:
        async with AsyncExitStack() as stack:
            _, goes_on = await enter(stack, second)
            async with AsyncExitStack() as other:
                _, ends = await enter(other, first)
                assert (await send_picture(ends, "", "alice")).status_code == 200
            assert (await send_picture(goes_on, "", "bob")).status_code == 200

    asyncio.run(run())
