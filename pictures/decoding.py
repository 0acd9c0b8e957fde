"""Makes pictures of what was sent: within the limits, in a slot, by a decoder."""

import os
from collections.abc import Sequence
from functools import partial

from concurrency import FairQueue
from config import Settings
from pictures.budget import choose_budget_bytes, find_memory_bytes
from pictures.costs import Cost, count_dearest_bytes, examine
from pictures.formats import read_header
from pictures.pool import DecoderPool
from pictures.renditions import Rendition, check_renditions
from pictures.slots import Fetch, Owners, PictureSlots
from pictures.values import CLEAR, WHITE, Background, Clear, Crop, ProcessedImage


class Decoding:
    """The picture step of one application, which opens and closes the pools."""

    def __init__(
        self, pool: DecoderPool, settings: Settings, gallery_pool: DecoderPool | None = None
    ) -> None:
        """Decode in `pool`, and what is stored for the gallery in the other, if there is one."""
        self._pool = pool
        self._gallery_pool = gallery_pool or pool
        cores = os.cpu_count() or 1
        budget_bytes = settings.decode_budget_bytes or _choose_budget_bytes(settings, cores)
        self._slots = PictureSlots(cores, budget_bytes, settings.upload_wait_seconds)
        self._max_pixels = settings.max_image_pixels
        self._max_whole_pixels = settings.max_whole_image_pixels
        keeps_transparency = settings.avatar_transparency == "keep"
        self._usual_background: Background | Clear = CLEAR if keeps_transparency else WHITE

    @property
    def cores(self) -> FairQueue:
        """The turns at the cores, for what else works as hard."""
        return self._slots.cores

    async def process_profile_image(
        self,
        content: bytes,
        crop: Crop | None,
        owners: Owners,
        background: Background | None = None,
    ) -> ProcessedImage:
        """Do what image_utils.process_profile_image does, without holding up the event loop.

        Without a background it is as the settings say. Its cost is charged to the owners. Raises
        what that function raises, Busy, ShuttingDown, UndecodablePicture, and DecoderUnavailable.
        """
        limits = (self._max_pixels, self._max_whole_pixels)
        _, cost = examine(content, crop, *limits)
        shown = self._usual_background if background is None else background
        work = partial(self._pool.process_profile_image, content, cost, crop, *limits, shown)
        answer = self._slots.run(cost, work, owners)
        del content, work  # so that a refusal on its way through here does not hold it
        return await answer

    async def make_thumbnail(self, content: bytes, owners: Owners) -> ProcessedImage:
        """Do what image_utils.make_thumbnail does, likewise, and with its refusals."""
        limits = (self._max_pixels, self._max_whole_pixels)
        header, cost = examine(content, None, *limits)
        work = partial(self._gallery_pool.make_thumbnail, content, cost, header, *limits)
        answer = self._slots.run(cost, work, owners)
        del content, work  # as above
        return await answer

    async def make_master(self, cost: Cost, fetch: Fetch, owners: Owners) -> ProcessedImage:
        """Make the master of a stored picture, which `fetch` reads once there is a slot for it.

        The cost is what was told when it arrived; it is charged to the owners. Raises what
        image_utils.make_master raises, what `fetch` raises, Busy, ShuttingDown, UndecodablePicture
        and DecoderUnavailable.
        """
        return await self._slots.run_stored(cost, fetch, partial(self._make_master, cost), owners)

    async def render(
        self, cost: Cost, fetch: Fetch, renditions: Sequence[Rendition]
    ) -> list[ProcessedImage]:
        """Make these of a stored master, which `fetch` reads once there is a slot for it.

        The cost is what costs.price_renditions told. Raises what image_utils.make_renditions
        raises, what `fetch` raises, Busy, ShuttingDown, UndecodablePicture and DecoderUnavailable;
        ForeignRendition where the master has other sides than those it was resolved against.
        """
        return await self._slots.run_stored(cost, fetch, partial(self._render, cost, renditions))

    def _render(
        self, cost: Cost, renditions: Sequence[Rendition], master: bytes
    ) -> list[ProcessedImage]:
        header = read_header(master)
        check_renditions(renditions, (header.width_px, header.height_px))
        return self._gallery_pool.make_renditions(master, cost, renditions)

    def _make_master(self, cost: Cost, content: bytes) -> ProcessedImage:
        header = read_header(content)
        limits = (self._max_pixels, self._max_whole_pixels)
        return self._gallery_pool.make_master(content, cost, header, *limits)


def _choose_budget_bytes(settings: Settings, cores: int) -> int:
    dearest_picture_bytes = count_dearest_bytes(
        settings.max_whole_image_pixels, settings.max_upload_size_bytes
    )
    return choose_budget_bytes(find_memory_bytes(), cores, settings.workers, dearest_picture_bytes)
