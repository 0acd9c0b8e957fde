"""The application: its lifespan, middleware, routes and mounts. `scripts/serve` serves it.

With a DATABASE_URL any ASGI server may run `main:app`. Without one, `scripts/serve` keeps the
embedded database for as many workers as are set, and a single process that is started in another
way keeps it for itself.
"""

from ops import launch  # isort: split (before all that an old Python cannot read)

if __name__ == "__main__":
    launch.end_quietly_at_ctrl_c()
    words = launch.parse_serving_words()
elif __name__ == "__mp_main__":  # a worker
    launch.leave_signals_to_parent()

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse

import config
import database
import logs
from accounts import Limits, Passwords, Tokens
from config import Settings
from database import Database
from files import Backends
from files.reaper import Reaper
from files.streams import STREAM_BYTES
from jobs import Worker
from ops import embedded_postgres, process, serving
from ops.database_risks import warn_of_risks
from ops.handlers import make_handlers
from photos import ThumbnailLinks, Thumbnails
from pictures.decoding import Decoding
from pictures.pool import DecoderPool
from routers import health, media, photos, single_thumbnails, thumbnails, users
from storage import Stores
from web import document
from web.admission import Admission
from web.cross_origin import CrossOrigin
from web.middleware import CatchAll, OneErrorShape, PoliteEnd, RequestContext, StrictHead
from web.problems import HANDLERS
from web.static_files import CachedStaticFiles, add_hashes

STATIC = Path(__file__).parent / "static"
DOCS_PAGE = (STATIC / "docs.html").read_text()
# The reaper stops between two of its statements, and a store may answer late; what it leaves
# comes due again.
REAPER_STOP_SECONDS = 2.0
# A tenth of the processor, where others want it too.
GALLERY_NICENESS = 10
# For uploads that were whole when their time was up, for deletions behind answers, and for jobs.
SHUTDOWN_FINISH_SECONDS = 4.0


def create_app(settings: Settings, *, owns_process: bool = False) -> FastAPI:
    """Make an application; what it owns is made by its lifespan and hangs on its `state`.

    Several may live in one process, each with settings of its own. The one that `owns_process`
    also sets what a process has only one of: logging, signals, the allocator.
    """
    app = FastAPI(
        title="Darkroom",
        summary="Takes people's pictures in, and never loses one.",
        version="0.1.0",
        lifespan=partial(_run, owns_process),
        # To whom a proxy hides our scheme and host a redirect would name others.
        redirect_slashes=False,
        servers=[{"url": settings.public_url}] if settings.public_url else None,
        openapi_url="/openapi.json" if settings.api_docs else None,
        docs_url=None,
        redoc_url=None,
        exception_handlers=HANDLERS,
        generate_unique_id_function=document.name_operation,
        responses=document.refuse_with_any(),
    )
    app.state.settings = settings
    # The last one added is the outermost.
    app.add_middleware(StrictHead)
    app.add_middleware(CatchAll)
    app.add_middleware(CrossOrigin, settings=settings)
    app.add_middleware(OneErrorShape)
    app.add_middleware(PoliteEnd)
    app.add_middleware(RequestContext)
    app.include_router(users.router, prefix=settings.api_prefix)
    app.include_router(users.upload_router, prefix=settings.api_prefix)
    # Before photos, whose {photo_id} fits "thumbnail": a 405 names the methods of the first.
    app.include_router(single_thumbnails.router, prefix=settings.api_prefix)
    app.include_router(single_thumbnails.upload_router, prefix=settings.api_prefix)
    app.include_router(photos.router, prefix=settings.api_prefix)
    app.include_router(photos.upload_router, prefix=settings.api_prefix)
    app.include_router(thumbnails.router, prefix=settings.api_prefix)
    app.include_router(media.router)
    app.include_router(health.router)
    if settings.api_docs:
        app.add_api_route("/", _read_root, include_in_schema=False)
        app.add_api_route("/docs", _read_docs, include_in_schema=False)
    app.mount("/static", CachedStaticFiles(directory=STATIC), name="static")
    document.complete_document(app, f"{settings.public_url or ''}{settings.api_prefix}/users/token")
    return app


@asynccontextmanager
async def _run(owns_process: bool, app: FastAPI) -> AsyncIterator[None]:
    """Start in the order of need: secrets, stores, decoders, the database, the reaper, the worker.

    Stops in the reverse order.
    """
    settings: Settings = app.state.settings
    with ExitStack() as stack:
        if owns_process:
            process.prepare(settings.log_format)
        app.state.tokens = Tokens(settings.signing_secret(), settings.access_token_expire_minutes)
        stores = Stores(settings)
        to_thread.current_default_thread_limiter().total_tokens += stores.threads
        decoders = DecoderPool(requires_confinement=settings.decoder_sandbox == "required")
        decoders.warm()
        stack.callback(decoders.close)
        # Whoever waits for a profile picture goes before photos and their thumbnails.
        gallery_decoders = DecoderPool(
            requires_confinement=settings.decoder_sandbox == "required", niceness=GALLERY_NICENESS
        )
        stack.callback(gallery_decoders.close)
        app.state.decoding = Decoding(decoders, settings, gallery_decoders)
        app.state.passwords = Passwords(cores=app.state.decoding.cores)
        app.state.thumbnail_links = ThumbnailLinks(settings)
        app.state.admission = Admission.from_settings(
            settings, STREAM_BYTES, app.state.decoding.cores
        )
        keeper = embedded_postgres.running_unless(settings.database_url, settings.data_dir)
        url = stack.enter_context(keeper)
        await database.migrate(url)
        decoders.wait_until_warm()
        gallery_decoders.require_what_is_required_of(decoders)
        app.state.database = Database(url, settings.database_pool_size, {"stores": stores})
        app.state.probe = Database(url, pool_size=1)
        backends = Backends(settings, app.state.database, stores)
        app.state.backends = backends
        await backends.identities.open()
        app.state.limits = Limits(app.state.database, backends.tasks, settings)
        app.state.thumbnails = Thumbnails(backends, app.state.decoding)
        worker = Worker(app.state.database, make_handlers(app.state.thumbnails))
        await warn_of_risks(app.state.database)

        def turn_away() -> None:
            app.state.admission.close()
            worker.close()

        try:
            reaping = None
            if settings.embedded_reaper:
                reaping = asyncio.create_task(
                    Reaper(backends, app.state.admission.has_uploads).reap_forever()
                )
            if settings.embedded_jobs:
                worker.start()
            with process.at_its_end(turn_away) if owns_process else nullcontext():
                yield
            if reaping is not None:
                reaping.cancel()
                await asyncio.wait({reaping}, timeout=REAPER_STOP_SECONDS)
            await asyncio.gather(
                backends.tasks.wait_for_all(SHUTDOWN_FINISH_SECONDS),
                worker.stop(SHUTDOWN_FINISH_SECONDS),
            )
        except asyncio.CancelledError:
            # A second Ctrl-C: the server waits for nothing any more, and would log this as our
            # failure.
            if not owns_process:
                raise
        finally:
            await app.state.database.dispose()
            await app.state.probe.dispose()


async def _read_root() -> RedirectResponse:
    """Whoever opens the address in a browser wants to try it."""
    return RedirectResponse("docs")  # relative, for we may be below a path of a proxy


async def _read_docs() -> HTMLResponse:
    """The try-it-out page; all that it loads is our own."""
    return HTMLResponse(add_hashes(DOCS_PAGE, STATIC))


# Here, so that all that a server and its manager say of their start is in our form, too.
logs.configure(config.settings.log_format)
app = create_app(config.settings, owns_process=True)


if __name__ == "__main__":
    serving.serve(app, **vars(words))
