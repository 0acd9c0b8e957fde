"""The application: its lifespan, middleware, routes and mounts. `uv run main.py` serves it.

With a DATABASE_URL any ASGI server may run `main:app`. Without one, `uv
run main.py` keeps the embedded database for as many workers as are set,
and a single process that is started in another way keeps it for itself.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from anyio import to_thread
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from uvicorn.supervisors import Multiprocess

import database
import logs
from accounts import auth
from config import MIB, STARTUP_FAILURE_STATUS, settings
from errors import StartupError
from files import reaper, unit_of_work
from ops import embedded_postgres
from pictures import decoder
from routers import health, media, users
from schemas import Problem
from storage import stores
from web.admission import admission
from web.middleware import CatchAll, OneErrorShape, PoliteEnd, RequestContext
from web.problems import HANDLERS, PROBLEM_MEDIA_TYPE

STATIC = Path(__file__).parent / "static"
# How long accepted requests may go on after SIGTERM; then they are answered 503. Most
# orchestrators kill after 30, and the last call to a store may hold its thread for 8 more.
GRACE_SECONDS = 15
SHUTDOWN_RELEASE_SECONDS = 2.0
M_MMAP_THRESHOLD = -3  # its number in malloc.h
# uvicorn ends a worker that does not answer for so long,
# also while it still imports: its 5 are too few when busy.
WORKER_START_SECONDS = 60
# For uploads that were whole when their time was up, and for deletions behind answers.
SHUTDOWN_FINISH_SECONDS = 4.0


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Start in the order of need: secrets, stores, the database, its schema, the reaper.

    Stop in the reverse order.
    """
    logs.configure()
    _return_large_blocks()
    auth.prepare()
    to_thread.current_default_thread_limiter().total_tokens += stores().threads
    _end_with_parent()
    with ExitStack() as stack:
        decoder.warm()
        stack.callback(decoder.close)
        url = settings.database_url or stack.enter_context(
            embedded_postgres.running(settings.data_dir)
        )
        await database.migrate(url)
        decoder.wait_until_warm()
        engine = database.connect(url, settings.database_pool_size)
        try:
            reaping = (
                asyncio.create_task(reaper.reap_forever()) if settings.embedded_reaper else None
            )
            with _turning_away_at_the_end():
                yield
            if reaping is not None:
                reaping.cancel()
                await asyncio.wait({reaping}, timeout=SHUTDOWN_RELEASE_SECONDS)
            await unit_of_work.finish_all(SHUTDOWN_FINISH_SECONDS)
        finally:
            await engine.dispose()


def _return_large_blocks() -> None:
    """Let the memory of a body go back to the system with it.

    The malloc of glibc keeps blocks of up to 32 MiB otherwise, once one of that
    size was freed (mallopt(3)). Where there is another, nothing is to be done.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MIB)


@contextmanager
def _turning_away_at_the_end() -> Iterator[None]:
    """From the signal to end on, uploads that still wait for
    their turn are refused at once, not when the grace ends.

    The server tells the application of its end only after
    the last request, so its handlers are listened in on.
    """
    loop = asyncio.get_running_loop()
    replaced: dict[signal.Signals, tuple[Any, Any]] = {}  # the handler that was there, and ours
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if threading.current_thread() is threading.main_thread() and callable(handler):

            def end(
                number: int, frame: FrameType | None, handle: Callable[..., Any] = handler
            ) -> None:
                loop.call_soon_threadsafe(admission.close)
                handle(number, frame)

            replaced[number] = (handler, end)
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, (handler, ours) in replaced.items():
            if (
                signal.getsignal(number) is ours
            ):  # the server may have restored what was there before it
                signal.signal(number, handler)


def _end_with_parent() -> None:
    """Let a worker end when uvicorn's process manager was
    killed; else it would hold the port without a database.
    """
    if (parent := multiprocessing.parent_process()) is not None:
        loop = asyncio.get_running_loop()
        sentinel = parent.sentinel

        def end() -> None:
            loop.remove_reader(sentinel)  # it stays readable: once is enough
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(sentinel, end)


app = FastAPI(
    title="Darkroom",
    summary="Takes people's pictures in, and never loses one.",
    version="0.1.0",
    lifespan=lifespan,
    docs_url=None,
    redoc_url=None,
    exception_handlers=HANDLERS,
    responses={
        "4XX": {
            "description": "Refused",
            "content": {PROBLEM_MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
        },
        "5XX": {
            "description": "Failed",
            "content": {PROBLEM_MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
        },
    },
)
# The last one added is the outermost.
app.add_middleware(CatchAll)
app.add_middleware(
    CORSMiddleware,
    allow_origins=settings.cors_origins,
    allow_methods=["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"],
    allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
    expose_headers=["X-Request-ID", "Retry-After"],
)
app.add_middleware(OneErrorShape)
app.add_middleware(PoliteEnd)
app.add_middleware(RequestContext)

app.include_router(users.router, prefix=settings.api_prefix)
app.include_router(users.upload_router, prefix=settings.api_prefix)
app.include_router(media.router)
app.include_router(health.router)


@app.get("/", include_in_schema=False)
async def read_root() -> RedirectResponse:
    """Whoever opens the address in a browser wants to try it."""
    return RedirectResponse("/docs")


@app.get("/docs", include_in_schema=False)
async def read_docs() -> FileResponse:
    """The try-it-out page; all that it loads is our own."""
    return FileResponse(STATIC / "docs.html")


app.mount("/static", StaticFiles(directory=STATIC), name="static")


class _Workers(Multiprocess):
    """uvicorn's process manager, but while its workers finish
    it lets go of the port: new connections are refused.
    """

    def terminate_all(self) -> None:
        super().terminate_all()
        for listening in self.sockets:
            listening.close()


def serve() -> None:
    """Run the service until SIGTERM or Ctrl-C, with
    the embedded database around it if no other is set.
    """
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # after uvicorn's own handling: leave through the context
    given = settings.database_url
    try:
        with nullcontext(given) if given else embedded_postgres.running(settings.data_dir) as url:
            settings.database_url = os.environ["DATABASE_URL"] = (
                url  # for this process and for its workers
            )
            _print_where(is_embedded=given is None)
            options: dict[str, Any] = {
                "host": settings.host,
                "port": settings.port,
                "log_config": None,
                "server_header": False,
                "timeout_graceful_shutdown": GRACE_SECONDS,
            }
            if settings.workers > 1:
                config = uvicorn.Config(
                    "main:app",
                    workers=settings.workers,
                    timeout_worker_healthcheck=WORKER_START_SECONDS,
                    **options,
                )
                _Workers(config, [config.bind_socket()]).run()
            else:
                uvicorn.run(app, **options)
    except StartupError as err:
        print(f"Darkroom cannot start. {err}", file=sys.stderr)
        sys.exit(STARTUP_FAILURE_STATUS)


def _print_where(is_embedded: bool) -> None:
    known = settings.stores()[settings.store_name]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    place = f"bucket {known.bucket_name}" if known.storage == "s3" else f"folder {known.directory}"
    print(
        f"Darkroom listens on http://{host}:{settings.port} (try it: /docs)\n"
        f"  data      {settings.data_dir}\n"
        f"  database  {'embedded PostgreSQL' if is_embedded else 'DATABASE_URL'}\n"
        f"  store     {settings.store_name}: {place}",
        flush=True,
    )


if __name__ == "__main__":
    serve()
