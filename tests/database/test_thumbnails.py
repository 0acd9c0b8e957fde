"""Proves that a thumbnail is made once, whoever asks, and that a failure is not asked for again.

It runs in the process of the tests, so that claims and renders can be held; what decodes is a
stand-in, which the tests hold and count.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from errors import PhotoChanged, PhotoNotFound, StoreUnavailable, ThumbnailNotReady
from files import Backends, delete_account
from models import Photo, StoredFile
from photos import (
    RENDER_THUMBNAIL,
    VERSION,
    Thumbnails,
    delete_photo,
    gallery,
    thumbnail_statements,
    thumbnails,
)
from photos.options import write_rendition
from pictures import Fit, ProcessedImage, Rendition, RenditionFormat
from pictures.costs import Cost
from pictures.decoding import Decoding
from pictures.slots import Fetch
from tests.support import rows
from tests.support.backends import open_backends
from tests.support.photos import store_photo
from tests.support.services import SOMEONE_WAITS, START_SECONDS
from tests.support.stock import Stock

pytestmark = pytest.mark.backends

SMALL = Rendition(80, 60, Fit.INSIDE, RenditionFormat.JPEG)
SQUARE = Rendition(50, 50, Fit.COVER, RenditionFormat.WEBP)
SHORT_SECONDS = 0.05
FAILED = "SELECT failures, claim, file_id, retry_at > now() AS is_resting FROM thumbnails"


class HeldDecoding(Decoding):
    """Reads the master, notes what it is asked for, and answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Rendition]] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def render(
        self, cost: Cost, fetch: Fetch, renditions: Sequence[Rendition]
    ) -> list[ProcessedImage]:
        self.asked.append(renditions)
        await fetch()
        self.begun.set()
        await self.gate.wait()
        return [rendition.name_file(uuid.uuid4().bytes) for rendition in renditions]


@dataclass
class Studio:
    """The thumbnails of one photo, and all that they are made with."""

    stock: Stock
    backends: Backends
    photo: Photo
    decoding: HeldDecoding = field(default_factory=HeldDecoding)

    def __post_init__(self) -> None:
        self.thumbnails = self.open_another(self.decoding)

    def open_another(self, decoding: Decoding) -> Thumbnails:
        """Open what another process would have."""
        return Thumbnails(self.backends, decoding)

    async def sql(self, statement: str, *arguments: object) -> list[Any]:
        return await asyncio.to_thread(self.stock.service.sql, statement, *arguments)

    async def until(self, statement: str, wanted: object) -> None:
        """Wait until the first value that this finds is so."""
        async with asyncio.timeout(START_SECONDS):
            while (await self.sql(statement))[0][0] != wanted:
                await asyncio.sleep(0.01)

    async def claim(self, rendition: Rendition, seconds: int) -> None:
        """Insert the claim of another process, which holds for so long."""
        await self.sql(
            "INSERT INTO thumbnails (photo_id, master_id, rendition, version, claim, claimed_until)"
            " VALUES ($1, $2, $3, $4, gen_random_uuid(), now() + make_interval(secs => $5))",
            *(self.photo.id, self.photo.master_id, write_rendition(rendition), VERSION, seconds),
        )

    async def find_files(self) -> list[tuple[str, bool]]:
        """The state of each thumbnail's file, and whether a row of a thumbnail names it."""
        found = await self.sql(
            "SELECT state, EXISTS (SELECT FROM thumbnails WHERE file_id = f.id)"
            " FROM stored_files f WHERE purpose LIKE '%rendition' AND id <> $1 ORDER BY id",
            self.photo.master_id,
        )
        return [tuple(row) for row in found]


Story = Callable[[Studio], Awaitable[None]]


@pytest.fixture
def tell(stock: Stock) -> Callable[[Story], None]:
    """Runs a story about a new photo, of a new account."""
    owner_id = rows.account().run(stock.service)
    photo_id = store_photo(stock.service, owner_id, master=b"a master")

    async def told(story: Story) -> None:
        async with open_studio(stock, photo_id) as studio:
            async with asyncio.timeout(2 * START_SECONDS):
                await story(studio)
            await studio.backends.tasks.wait_for_all(START_SECONDS)
            assert len(studio.backends.tasks) == 0, "somebody still looks"

    return lambda story: asyncio.run(told(story))


@contextlib.asynccontextmanager
async def open_studio(stock: Stock, photo_id: int) -> AsyncIterator[Studio]:
    async with open_backends(stock.parsed_settings, stock.stores) as backends:
        yield Studio(stock, backends, await read_photo(backends, photo_id))


async def read_photo(backends: Backends, photo_id: int) -> Photo:
    async with backends.database.reader() as db:
        photo = await db.get(Photo, photo_id)
    assert photo is not None
    return photo


def test_all_who_ask_at_once_are_given_the_one_that_is_made(
    tell: Callable[[Story], None],
) -> None:
    async def story(studio: Studio) -> None:
        others = [studio.thumbnails, studio.open_another(studio.decoding)]
        asking = [
            asyncio.create_task(others[number % 2].find_or_make(studio.photo, SMALL))
            for number in range(40)
        ]
        await studio.decoding.begun.wait()
        studio.decoding.gate.set()
        found = await asyncio.gather(*asking)
        assert len({file.id for file in found}) == 1
        assert (studio.decoding.asked, await studio.find_files()) == ([[SMALL]], [("live", True)])
        again = await studio.open_another(HeldDecoding()).find_or_make(studio.photo, SMALL)
        assert again.key == found[0].key
        assert again.key in studio.stock.objects()

    tell(story)


def test_in_one_process_all_wait_for_one_claim_and_whoever_gives_up_stops_nobody_else(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(studio: Studio) -> None:
        make = studio.thumbnails.make
        made: list[Sequence[Rendition]] = []

        async def count(photo: Photo, renditions: Sequence[Rendition]) -> bool:
            made.append(renditions)
            return await make(photo, renditions)

        monkeypatch.setattr(studio.thumbnails, "make", count)
        first = asyncio.create_task(studio.thumbnails.find_or_make(studio.photo, SMALL))
        await studio.decoding.begun.wait()
        second = asyncio.create_task(studio.thumbnails.find_or_make(studio.photo, SMALL))
        await asyncio.sleep(3 * SHORT_SECONDS)  # in which it would have looked by itself
        first.cancel()
        studio.decoding.gate.set()
        assert isinstance(await second, StoredFile)
        assert made == studio.decoding.asked == [[SMALL]]

    tell(story)


def test_the_claim_of_a_dead_process_is_taken_over(tell: Callable[[Story], None]) -> None:
    async def story(studio: Studio) -> None:
        await studio.claim(SMALL, -1)
        studio.decoding.gate.set()
        await studio.thumbnails.find_or_make(studio.photo, SMALL)
        assert await studio.find_files() == [("live", True)]

    tell(story)


def test_what_another_process_makes_is_waited_for_with_patience(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(studio: Studio) -> None:
        maker = studio.open_another(studio.decoding)
        making = asyncio.create_task(maker.make(studio.photo, [SMALL]))
        await studio.decoding.begun.wait()
        idle = HeldDecoding()
        with monkeypatch.context() as patch:
            patch.setattr(thumbnails, "PATIENCE_SECONDS", SHORT_SECONDS)
            with pytest.raises(ThumbnailNotReady):
                await studio.open_another(idle).find_or_make(studio.photo, SMALL)
            await studio.claim(SQUARE, 3600)  # which nobody publishes
            with pytest.raises(ThumbnailNotReady):
                await studio.open_another(idle).find_or_make(studio.photo, SQUARE)
        patient = asyncio.create_task(studio.open_another(idle).find_or_make(studio.photo, SMALL))
        studio.decoding.gate.set()
        assert await making
        assert isinstance(await patient, StoredFile)
        assert (idle.asked, await studio.find_files()) == ([], [("live", True)])

    tell(story)


def test_whoever_comes_later_has_the_same_patience(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(studio: Studio) -> None:
        maker = studio.open_another(studio.decoding)
        making = asyncio.create_task(maker.make(studio.photo, [SMALL]))
        await studio.decoding.begun.wait()
        idle = studio.open_another(HeldDecoding())
        with monkeypatch.context() as patch:
            patch.setattr(thumbnails, "PATIENCE_SECONDS", SHORT_SECONDS)
            first = asyncio.create_task(idle.find_or_make(studio.photo, SMALL))
            await asyncio.sleep(0)
        later = asyncio.create_task(idle.find_or_make(studio.photo, SMALL))
        with pytest.raises(ThumbnailNotReady):
            await first
        await asyncio.sleep(3 * thumbnails.LOOK_SECONDS)  # for the first one it would be over
        studio.decoding.gate.set()
        assert await making
        assert isinstance(await later, StoredFile)

    tell(story)


def test_whoever_does_not_wait_orders_it_and_it_is_ordered_once(
    tell: Callable[[Story], None],
) -> None:
    async def story(studio: Studio) -> None:
        others = [studio.thumbnails, studio.open_another(studio.decoding)]
        asking = [others[number % 2].find_or_order(studio.photo, SMALL) for number in range(20)]
        assert await asyncio.gather(*asking) == [None] * 20
        ordered = await studio.sql("SELECT entrypoint, payload FROM pgqueuer")
        assert [row["entrypoint"] for row in ordered] == [RENDER_THUMBNAIL]
        assert await studio.thumbnails.find_or_order(studio.photo, SQUARE) is None
        assert len(await studio.sql("SELECT FROM pgqueuer")) == 2

        order = json.loads(ordered[0]["payload"])
        studio.decoding.gate.set()
        await studio.thumbnails.make_ordered(**{**order, "photo_id": 2**60})  # gone by then
        await studio.thumbnails.make_ordered(**{**order, "master_id": 0})  # it shows another one
        assert studio.decoding.asked == []
        for _ in range(2):  # a job may be done twice
            await studio.thumbnails.make_ordered(**order)
        assert (studio.decoding.asked, await studio.find_files()) == ([[SMALL]], [("live", True)])
        assert isinstance(await others[1].find_or_order(studio.photo, SMALL), StoredFile)
        assert len(await studio.sql("SELECT FROM pgqueuer")) == 2

    tell(story)


def test_what_was_ordered_and_fails_is_left_to_its_job(tell: Callable[[Story], None]) -> None:
    async def story(studio: Studio) -> None:
        studio.decoding.gate.set()
        studio.stock.lose(studio.photo.master.key)
        order = {"photo_id": studio.photo.id, "master_id": studio.photo.master_id}
        for refusal in (StoreUnavailable, ThumbnailNotReady):  # tried, and then left alone
            with pytest.raises(refusal):
                await studio.thumbnails.make_ordered(**order, rendition=write_rendition(SMALL))
            await studio.until("SELECT count(claim) FROM thumbnails", 0)
            await studio.sql("UPDATE thumbnails SET retry_at = now() + interval '1 hour'")
        assert len(studio.decoding.asked) == 1

    tell(story)


def test_a_render_that_takes_long_is_waited_for_no_longer_and_goes_on(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "PATIENCE_SECONDS", SHORT_SECONDS)

    async def story(studio: Studio) -> None:
        with pytest.raises(ThumbnailNotReady):
            await studio.thumbnails.find_or_make(studio.photo, SMALL)
        studio.decoding.gate.set()
        await studio.until("SELECT count(file_id) FROM thumbnails", 1)
        await studio.thumbnails.find_or_make(studio.photo, SMALL)
        assert len(studio.decoding.asked) == 1

    tell(story)


def test_of_two_who_made_it_after_all_one_is_published_and_the_other_goes(
    tell: Callable[[Story], None],
) -> None:
    async def story(studio: Studio) -> None:
        slow = asyncio.create_task(studio.thumbnails.find_or_make(studio.photo, SMALL))
        await studio.decoding.begun.wait()
        await studio.sql("UPDATE thumbnails SET claimed_until = now() - interval '1 second'")
        quick = HeldDecoding()
        quick.gate.set()
        published = await studio.open_another(quick).find_or_make(studio.photo, SMALL)
        studio.decoding.gate.set()
        assert (await slow).id == published.id
        assert await studio.find_files() == [("live", True)]
        assert published.key in studio.stock.objects()
        assert len(studio.stock.objects()) == 3  # with the master and the original

    tell(story)


def test_what_has_failed_is_left_alone_for_a_while_and_made_later(
    tell: Callable[[Story], None],
) -> None:
    async def story(studio: Studio) -> None:
        key = studio.photo.master.key
        studio.decoding.gate.set()
        studio.stock.lose(key)
        with pytest.raises(StoreUnavailable):
            await studio.thumbnails.find_or_make(studio.photo, SMALL)
        await studio.until("SELECT count(claim) FROM thumbnails", 0)
        assert [tuple(row)[:3] for row in await studio.sql(FAILED)] == [(1, None, None)]
        await studio.sql("UPDATE thumbnails SET retry_at = now() + interval '1 hour'")
        studio.stock.put(key, b"a master")
        for one in (studio.thumbnails, studio.open_another(studio.decoding)):
            with pytest.raises(ThumbnailNotReady):
                await one.find_or_make(studio.photo, SMALL)
            assert not await one.make(studio.photo, [SMALL])
        assert (len(studio.decoding.asked), await studio.find_files()) == (1, [])
        await studio.thumbnails.find_or_make(studio.photo, SQUARE)  # which has not failed
        await studio.sql("UPDATE thumbnails SET retry_at = now()")
        await studio.thumbnails.find_or_make(studio.photo, SMALL)
        assert [tuple(row) for row in await studio.sql(f"{FAILED} WHERE failures > 0")] == []
        assert await studio.find_files() == [("live", True)] * 2

    tell(story)


def test_what_was_made_in_an_earlier_way_is_made_anew_and_goes_with_the_photo(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(studio: Studio) -> None:
        studio.decoding.gate.set()
        earlier = await studio.thumbnails.find_or_make(studio.photo, SMALL)
        await studio.claim(SQUARE, 3600)
        monkeypatch.setattr(thumbnails, "VERSION", VERSION + 1)
        later = await studio.thumbnails.find_or_make(studio.photo, SMALL)
        assert later.id != earlier.id
        await studio.thumbnails.find_or_make(studio.photo, SQUARE)
        assert studio.decoding.asked == [[SMALL], [SMALL], [SQUARE]]
        # Whoever still makes it in the earlier way goes on.
        claims = await studio.sql("SELECT version FROM thumbnails WHERE claim IS NOT NULL")
        assert [row["version"] for row in claims] == [VERSION]
        # Where some processes still make them in the earlier way, each is given its own.
        assert (await studio.thumbnails.find_or_make(studio.photo, SMALL)).id == later.id
        monkeypatch.setattr(thumbnails, "VERSION", VERSION)
        assert (await studio.thumbnails.find_or_make(studio.photo, SMALL)).id == earlier.id
        assert len(studio.decoding.asked) == 3
        await delete_photo(studio.backends, studio.photo)
        await studio.backends.tasks.wait_for_all(START_SECONDS)
        assert await studio.find_files() == []

    tell(story)


def test_it_is_left_alone_for_longer_each_time(tell: Callable[[Story], None]) -> None:
    async def story(studio: Studio) -> None:
        values = {
            "photo_id": studio.photo.id,
            "master_id": studio.photo.master_id,
            "version": VERSION,
            "claim": uuid.uuid4(),
        }
        names = [write_rendition(SMALL)]
        fetch = studio.backends.database.fetch
        for pause_seconds in (1, 2, 4, 8, 16, 32, 60, 60):
            assert await fetch(thumbnail_statements.CLAIM, **values, renditions=names)
            ((before,),) = await studio.sql("SELECT now()")
            assert await fetch(thumbnail_statements.GIVE_UP, **values)
            (row,) = await studio.sql("SELECT now() AS after, retry_at FROM thumbnails")
            pause = row["retry_at"] - before
            assert pause.total_seconds() >= pause_seconds
            assert (row["retry_at"] - row["after"]).total_seconds() <= pause_seconds
            assert not await fetch(thumbnail_statements.CLAIM, **values, renditions=names)
            await studio.sql("UPDATE thumbnails SET retry_at = now()")

    tell(story)


def test_the_thumbnail_of_what_was_replaced_meanwhile_leaves_nothing(
    tell: Callable[[Story], None],
) -> None:
    async def story(studio: Studio) -> None:
        asking = asyncio.create_task(studio.thumbnails.find_or_make(studio.photo, SMALL))
        await studio.decoding.begun.wait()
        await studio.sql("UPDATE photos SET original_id = NULL, master_id = original_id")
        await studio.sql("DELETE FROM thumbnails")
        studio.decoding.gate.set()
        with pytest.raises(PhotoChanged):
            await asking
        await studio.backends.tasks.wait_for_all(START_SECONDS)
        assert await studio.find_files() == []
        assert await studio.sql("SELECT FROM thumbnails") == []
        assert len(studio.stock.objects()) == 2
        # Who still has the photo as it was is told so at once.
        with pytest.raises(PhotoChanged):
            await studio.thumbnails.find_or_make(studio.photo, SMALL)

    tell(story)


def test_the_thumbnail_of_what_was_deleted_meanwhile_leaves_nothing(
    tell: Callable[[Story], None],
) -> None:
    async def story(studio: Studio) -> None:
        asking = asyncio.create_task(studio.thumbnails.find_or_make(studio.photo, SMALL))
        await studio.decoding.begun.wait()
        await delete_photo(studio.backends, studio.photo)
        studio.decoding.gate.set()
        with pytest.raises(PhotoNotFound):
            await asking
        await studio.backends.tasks.wait_for_all(START_SECONDS)
        assert (await studio.find_files(), studio.stock.objects()) == ([], set())

    tell(story)


def test_presets_of_an_account_that_goes_meanwhile_are_no_failure(
    tell: Callable[[Story], None],
) -> None:
    async def story(studio: Studio) -> None:
        making = asyncio.create_task(studio.thumbnails.make_presets(studio.photo.id))
        await studio.decoding.begun.wait()
        await delete_account(studio.backends, studio.photo.owner_id)
        studio.decoding.gate.set()
        await making
        assert (await studio.find_files(), studio.stock.objects()) == ([], set())

    tell(story)


def test_a_deletion_and_a_claim_that_meet_do_not_wait_for_each_other(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = gallery._drop_thumbnails

    async def story(studio: Studio) -> None:
        await studio.claim(SMALL, -1)
        claiming: list[asyncio.Task[bool]] = []

        async def drop_and_meet(*arguments: Any) -> list[int]:
            dropped_ids = await drop(*arguments)
            making = studio.thumbnails.make(studio.photo, [SMALL])
            claiming.append(asyncio.create_task(making))
            await studio.until(SOMEONE_WAITS, 1)
            return dropped_ids

        monkeypatch.setattr(gallery, "_drop_thumbnails", drop_and_meet)
        await delete_photo(studio.backends, studio.photo)
        assert not await claiming[0]
        assert await studio.sql("SELECT FROM thumbnails") == []

    tell(story)


def test_the_presets_are_made_in_one_decode_but_for_those_that_are_there_or_being_made(
    tell: Callable[[Story], None], stock: Stock
) -> None:
    stock.change_settings(THUMBNAIL_WIDTHS="80,160")

    async def story(studio: Studio) -> None:
        presets = [rendition for _, rendition in thumbnails.list_presets(studio.photo, [80, 160])]
        assert [rendition.size for rendition in presets] == [(80, 60)] * 2 + [(160, 120)] * 2
        assert {rendition.format.value for rendition in presets} == {"jpeg", "webp"}
        studio.decoding.gate.set()
        await studio.thumbnails.find_or_make(studio.photo, SMALL)
        webp = Rendition(80, 60, Fit.INSIDE, RenditionFormat.WEBP)
        await studio.claim(webp, 60)
        for _ in range(2):  # a job that fails is done again
            with pytest.raises(ThumbnailNotReady):
                await studio.thumbnails.make_presets(studio.photo.id)
        assert studio.decoding.asked == [[SMALL], presets[2:]]
        photo = await read_photo(studio.backends, studio.photo.id)
        shown = {thumbnail.rendition for thumbnail in photo.thumbnails}
        assert shown == {write_rendition(one) for one in (SMALL, *presets[2:])}
        # Whoever was at it has died.
        await studio.sql("UPDATE thumbnails SET claimed_until = now() WHERE file_id IS NULL")
        for _ in range(2):
            await studio.thumbnails.make_presets(studio.photo.id)
        assert studio.decoding.asked == [[SMALL], presets[2:], [webp]]
        assert await studio.find_files() == [("live", True)] * 4
        await studio.thumbnails.make_presets(2**60)  # gone by then

    tell(story)
