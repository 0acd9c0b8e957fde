"""Serving: uvicorn around the application, and the embedded database around both.

Whatever would keep the service from starting is found out before anything listens, and said in one
sentence; what is printed of the address is printed once it listens.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from socket import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import ChangeReload, Multiprocess

import config
import database
from config import STARTUP_FAILURE_STATUS, Settings
from errors import StartupError
from files import Backends
from locations import ROOT
from ops import embedded_postgres, process
from ops.launch import INTERRUPTED_STATUS
from ops.listening import bind, call_when_open, describe_where, explain_taken
from storage import Stores
from web.connections import Connection

logger = logging.getLogger(__name__)

# How long accepted requests may go on after SIGTERM; then they are answered 503. Most
# orchestrators kill after 30, and the last call to a store may hold its thread for 8 more.
GRACE_SECONDS = 15
# uvicorn ends a worker that does not answer for so long,
# also while it still imports: its 5 are too few when busy.
WORKER_START_SECONDS = 60
# For whether a worker serves yet; one that does answers in a moment.
WORKER_ANSWER_SECONDS = 5
# Those that clients do not have: of the database, the stores, decoders, files.
DESCRIPTORS_BESIDE = 256


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as err:  # another has begun to listen since the address was bound
            await self.lifespan.shutdown()
            raise StartupError(explain_taken(self.config.host, self.config.port)) from err
        if not self.should_exit:
            self._announce()


class _Reloader(ChangeReload):  # type: ignore[misc, valid-type]  # one of two classes
    """Knows with which status the process ends."""

    status = 0

    def signal_handler(self, sig: int, frame: FrameType | None) -> None:
        super().signal_handler(sig, frame)
        if sig == signal.SIGINT:
            self.status = INTERRUPTED_STATUS


class _Workers(Multiprocess):
    """uvicorn's process manager, which says when the first worker listens.

    While its workers finish it refuses new connections.
    """

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket], announce: Callable[[], None]
    ) -> None:
        ignores_hang_up = process.ignores_hang_up()
        super().__init__(config, sockets)
        if ignores_hang_up:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._announce = announce
        self._is_announced = False
        self._status = 0

    def run(self) -> None:
        super().run()
        process.leave_at_signals()  # again, for while the database ends
        if any(worker.exitcode == STARTUP_FAILURE_STATUS for worker in self.processes):
            sys.exit(STARTUP_FAILURE_STATUS)
        sys.exit(self._status)

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        if self._is_announced or self.should_exit.is_set():
            return
        if any(worker.is_ready(WORKER_ANSWER_SECONDS) for worker in self.processes):
            self._announce()
            self._is_announced = True

    def handle_int(self) -> None:
        super().handle_int()
        self._status = INTERRUPTED_STATUS

    def handle_hup(self) -> None:
        """End, as one process does; uvicorn would start the workers anew."""
        self.handle_term()

    def terminate_all(self) -> None:
        super().terminate_all()
        for listening in self.sockets:
            listening.close()


def serve(
    app: FastAPI, host: str | None = None, port: str | None = None, reload: bool = False
) -> None:
    """Run the application until a signal ends it; several workers load `main:app` themselves.

    `host` and `port` count before the settings.
    """
    settings: Settings = app.state.settings
    if host or port:
        settings = config.load(host=host, port=port)
    process.hide_memory()  # the manager's of several workers, too; each of them does so for itself
    # After uvicorn's own handling, too: leave through the contexts.
    process.leave_at_signals()
    given_url = settings.database_url
    try:
        sockets = bind(settings.host, settings.port)
        with embedded_postgres.running_unless(given_url, settings.data_dir) as url:
            _find_obstacles(settings, url)
            settings = settings.model_copy(update={"database_url": url})
            where = describe_where(settings, is_embedded=given_url is None)
            announce = partial(print, where, flush=True)
            if reload:
                _run_and_reload(settings, sockets, announce)
            elif settings.workers > 1:
                _run_workers(settings, sockets, announce)
            else:
                app.state.settings = settings
                server = _Server(_make_config(app, settings), announce)
                server.run(sockets)
    except StartupError as err:
        print(f"Darkroom cannot start. {err}", file=sys.stderr)
        sys.exit(STARTUP_FAILURE_STATUS)


def _find_obstacles(settings: Settings, url: str) -> None:
    """Do once what each process will do when it starts. Raises StartupError."""
    settings.signing_secret()
    asyncio.run(_open_stores(settings, url))


async def _open_stores(settings: Settings, url: str) -> None:
    await database.migrate(url)
    stores = Stores(settings)
    asking = database.Database(url, pool_size=1, session_info={"stores": stores})
    try:
        await Backends(settings, asking, stores).identities.open()
    finally:
        await asking.dispose()


def _bound_connections(settings: Settings) -> Settings:
    """Take no more connections than there are descriptors for."""
    most = max(1, process.raise_descriptors() - DESCRIPTORS_BESIDE)
    if settings.max_connections <= most:
        return settings
    logger.warning("MAX_CONNECTIONS is %d here: the system allows no more open files", most)
    return settings.model_copy(update={"max_connections": most})


def _make_config(app: FastAPI | str, settings: Settings, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # Given, or uvicorn takes it from WEB_CONCURRENCY.
        workers=settings.workers,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        log_config=None,
        # It is called with what uvicorn's own is made of.
        http=partial(Connection, settings=_bound_connections(settings)),  # type: ignore[arg-type]
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=settings.keep_alive_seconds,
        **more,
    )


def _run_workers(settings: Settings, sockets: list[socket], announce: Callable[[], None]) -> None:
    _tell_children(settings)
    options = _make_config("main:app", settings, timeout_worker_healthcheck=WORKER_START_SECONDS)
    _Workers(options, sockets, announce).run()


def _run_and_reload(
    settings: Settings, sockets: list[socket], announce: Callable[[], None]
) -> None:
    _tell_children(settings)
    alone = settings.model_copy(update={"workers": 1})
    options = _make_config("main:app", alone, reload=True, reload_dirs=[str(ROOT)])
    # The reloader tells nobody when its process listens.
    call = partial(call_when_open, sockets[0], announce)
    threading.Thread(target=call, daemon=True).start()
    reloader = _Reloader(options, target=uvicorn.Server(options).run, sockets=sockets)
    reloader.run()
    sys.exit(reloader.status)


def _tell_children(settings: Settings) -> None:
    assert settings.database_url is not None
    os.environ["DATABASE_URL"] = settings.database_url
