"""Serving: uvicorn around the application, and the embedded database around both."""

import os
import signal
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from config import STARTUP_FAILURE_STATUS, Settings
from errors import StartupError
from ops import embedded_postgres

# How long accepted requests may go on after SIGTERM; then they are answered 503. Most
# orchestrators kill after 30, and the last call to a store may hold its thread for 8 more.
GRACE_SECONDS = 15
# uvicorn ends a worker that does not answer for so long,
# also while it still imports: its 5 are too few when busy.
WORKER_START_SECONDS = 60


class _Workers(Multiprocess):
    """uvicorn's process manager, but while its workers finish it refuses new connections."""

    def terminate_all(self) -> None:
        super().terminate_all()
        for listening in self.sockets:
            listening.close()


def serve(app: FastAPI) -> None:
    """Run the application until SIGTERM or Ctrl-C; several workers load `main:app` themselves."""
    settings: Settings = app.state.settings
    # After uvicorn's own handling: leave through the context.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    given_url = settings.database_url
    try:
        with embedded_postgres.running_unless(given_url, settings.data_dir) as url:
            _print_where(settings, is_embedded=given_url is None)
            options: dict[str, Any] = {
                "host": settings.host,
                "port": settings.port,
                "log_config": None,
                "server_header": False,
                "timeout_graceful_shutdown": GRACE_SECONDS,
            }
            if settings.workers > 1:
                os.environ["DATABASE_URL"] = url
                config = uvicorn.Config(
                    "main:app",
                    workers=settings.workers,
                    timeout_worker_healthcheck=WORKER_START_SECONDS,
                    **options,
                )
                _Workers(config, [config.bind_socket()]).run()
            else:
                app.state.settings = settings.model_copy(update={"database_url": url})
                uvicorn.run(app, **options)
    except StartupError as err:
        print(f"Darkroom cannot start. {err}", file=sys.stderr)
        sys.exit(STARTUP_FAILURE_STATUS)


def _print_where(settings: Settings, *, is_embedded: bool) -> None:
    current = settings.stores()[settings.store_name]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    if current.storage == "s3":
        store = f"bucket {current.bucket_name}"
    else:
        store = f"folder {current.directory}"
    print(
        f"Darkroom listens on http://{host}:{settings.port} (try it: /docs)\n"
        f"  data      {settings.data_dir}\n"
        f"  database  {'embedded PostgreSQL' if is_embedded else 'DATABASE_URL'}\n"
        f"  store     {settings.store_name}: {store}",
        flush=True,
    )
