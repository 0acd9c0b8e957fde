"""The decoders of one application: warm processes, one picture at a time each.

A file that hangs, balloons or kills its decoder costs its own upload and no other. Neither this
module nor what it imports loads a decoding library: the service does not.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import RLock, Thread

from errors import DarkroomError, DecoderUnavailable, ShuttingDown, StartupError, UndecodablePicture
from logs import Event
from pictures.confinement import EVERY_LAYER, NO_LAYER
from pictures.costs import MIB, Cost
from pictures.messages import Job
from pictures.process import DecoderEnded, DecoderProcess, Ending
from pictures.renditions import Rendition
from pictures.values import (
    MASTER_SIDE_PX,
    THUMBNAIL_SIDE_PX,
    WHITE,
    Background,
    Clear,
    Crop,
    DeclaredSides,
    Header,
    ProcessedImage,
)

logger = logging.getLogger(__name__)

PROGRAM = ("-m", "pictures.decoder")
FORBIDDEN_CALL = (
    "a decoder asked the system for what no picture needs and was ended (SIGSYS): a file may have"
    " taken it over"
)
WORKED_UNASKED = (
    "a decoder used the processor or kept threads while it had no picture, and was ended: a file"
    " may have taken it over"
)


@dataclass(frozen=True)
class DecoderLimits:
    """What a decoder may take for a picture, and how many pictures it makes."""

    # Time on the processor: ten times the estimate, for machines that are slower than ours, and
    # never less than this.
    least_cpu_seconds: float = 2.0
    times_the_estimate: float = 10
    # Time on the clock, as a multiple of it: the machine may be busy with other things.
    times_the_cpu_seconds: float = 4
    # Above the cost that was set aside: the address space is counted in whole arenas, and libraries
    # round up.
    spare_bytes: int = 64 * MIB
    # Starting anew now and then bounds what a leak in a library can take, and how many others'
    # pictures pass through a decoder that a file took over.
    most_pictures: int = 300
    most_seconds: float = 15 * 60
    # How often those that have nothing to do are looked at; a look takes a tenth of a millisecond.
    look_seconds: float = 5.0


class DecoderPool:
    """The decoders of one application. For any number of threads."""

    def __init__(
        self,
        program: tuple[str, ...] | None = None,
        limits: DecoderLimits | None = None,
        *,
        requires_confinement: bool = False,
        niceness: int = 0,
    ) -> None:
        """Make a pool, yet without decoders. `program` is what Python runs as one.

        Where whole confinement is required, no decoder is used that lacks a layer of it. The
        niceness (nice(1)) is added to that of every decoder: those of another pool go before.
        """
        self._niceness = niceness
        self._program = program or PROGRAM
        self._required_layers = EVERY_LAYER if requires_confinement else NO_LAYER
        self._limits = limits or DecoderLimits()
        # Of these two, each change is atomic.
        self._alive: set[DecoderProcess] = set()
        self._idle: list[DecoderProcess] = []  # most recently used last
        self._is_closed = False
        # Worn decoders, which are ended and replaced behind their last answer; None is the end.
        self._worn: SimpleQueue[DecoderProcess | None] = SimpleQueue()
        self._keeper: Thread | None = None
        # Held while a decoder starts, and when the number of successors still to start changes.
        self._starting = RLock()
        self._owed = 0

    def warm(self) -> None:
        """Start one decoder, so that the first picture need not wait for it.

        Others start when they are needed. Raises DecoderUnavailable.
        """
        self._idle.append(self._start())

    def wait_until_warm(self) -> None:
        """Wait for the one that was started, and log what its confinement lacks here.

        Raises StartupError when it did not get ready.
        """
        try:
            ready = self._idle[-1].wait_until_ready()
        except DecoderEnded as err:
            if err.ending is Ending.NOT_CONFINED:
                raise StartupError(
                    "DECODER_SANDBOX=required, and this system cannot confine decoders wholly"
                    " (docs/security.md): run it on a kernel with Landlock and seccomp, or leave"
                    " the setting out."
                ) from err
            raise StartupError(
                "The process that decodes pictures does not start; what it said stands above."
            ) from err
        # A later one that lacks what this one has, perhaps for want of memory, is not used.
        self._required_layers = ready.layers
        missing = EVERY_LAYER & ~ready.layers
        if missing:
            logger.warning(
                "decoders are confined without %s, which this system lacks (docs/security.md)",
                missing.name_each(),
            )

    def require_what_is_required_of(self, other: "DecoderPool") -> None:
        """Use no decoder that lacks a layer of confinement which the other's first one had."""
        self._required_layers = other._required_layers

    def process_profile_image(
        self,
        content: bytes,
        cost: Cost,
        crop: Crop | None,
        max_pixels: int,
        max_whole_pixels: int,
        background: Background | Clear = WHITE,
    ) -> ProcessedImage:
        """Do what image_utils.process_profile_image does, but in a decoder; block until it answers.

        Raises what that function raises, UndecodablePicture when no decoder survives it,
        DecoderUnavailable and ShuttingDown.
        """
        job = self._write_job(content, cost, crop, max_pixels, max_whole_pixels)
        (picture,) = self._make(content, replace(job, background=background))
        return picture

    def make_master(
        self, content: bytes, cost: Cost, header: Header, max_pixels: int, max_whole_pixels: int
    ) -> ProcessedImage:
        """Do what image_utils.make_master does, likewise, of a file with this header."""
        job = self._write_job(content, cost, None, max_pixels, max_whole_pixels)
        whole = DeclaredSides.of(header, MASTER_SIDE_PX)
        (master,) = self._make(content, replace(job, whole=whole))
        return master

    def make_thumbnail(
        self, content: bytes, cost: Cost, header: Header, max_pixels: int, max_whole_pixels: int
    ) -> ProcessedImage:
        """Do what image_utils.make_thumbnail does, likewise."""
        job = self._write_job(content, cost, None, max_pixels, max_whole_pixels)
        whole = DeclaredSides.of(header, THUMBNAIL_SIDE_PX)
        (thumbnail,) = self._make(content, replace(job, whole=whole))
        return thumbnail

    def make_renditions(
        self, master: bytes, cost: Cost, renditions: Sequence[Rendition]
    ) -> list[ProcessedImage]:
        """Do what image_utils.make_renditions does, likewise, of renditions that were checked."""
        job = self._write_job(master, cost, None, 0, 0)
        return self._make(master, replace(job, renditions=tuple(renditions)))

    def _write_job(
        self, content: bytes, cost: Cost, crop: Crop | None, max_pixels: int, max_whole_pixels: int
    ) -> Job:
        limits = self._limits
        return Job(
            content_bytes=len(content),
            memory_bytes=cost.memory_bytes + limits.spare_bytes,
            cpu_seconds=limits.least_cpu_seconds + limits.times_the_estimate * cost.cpu_seconds,
            crop=crop,
            max_pixels=max_pixels,
            max_whole_pixels=max_whole_pixels,
        )

    def _make(self, content: bytes, job: Job) -> list[ProcessedImage]:
        """Have the job done.

        What a decoder dies of may be an earlier file's doing, so the picture is tried once more, in
        a new one.
        """
        for is_second_try in (False, True):
            decoder = self._start() if is_second_try else self._take()
            try:
                answer = self._ask(decoder, job, content)
            except DecoderEnded as err:
                if self._is_closed:
                    raise ShuttingDown from err
                logger.warning(
                    "a decoder ended: %s, over %d bytes",
                    err.ending.name,
                    len(content),
                    extra={"event": Event.DECODER_KILLED},
                )
                if err.ending.condemns_file(is_decoder_new=is_second_try):
                    raise UndecodablePicture from err
                continue
            if isinstance(answer, DarkroomError):
                raise answer
            return answer
        raise DecoderUnavailable

    def close(self) -> None:
        """End all decoders for good, also busy ones, whose uploads are told ShuttingDown."""
        with self._starting:
            self._is_closed = True
        self._end_idle()
        for decoder in list(self._alive):
            decoder.kill()
        if self._keeper is not None:
            self._worn.put(None)
            self._keeper.join()

    def _take(self) -> DecoderProcess:
        """Take the one that was used last and has only waited since, or a new one."""
        while decoder := self._pop_idle():
            if decoder.is_alive and not decoder.worked_unasked:
                return decoder
            self._dismiss(decoder)
        with self._starting:
            # The successor of a worn one may have come meanwhile; if it has not, this one is it: so
            # there are never more than were at work at once.
            successor = self._pop_idle()
            if successor is not None:
                return successor
            self._owed = max(0, self._owed - 1)
            return self._start()

    def _pop_idle(self) -> DecoderProcess | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _start(self) -> DecoderProcess:
        with self._starting:
            if self._is_closed:
                raise ShuttingDown
            if self._keeper is None:
                keeper = Thread(target=self._keep, name="decoders", daemon=True)
                keeper.start()
                self._keeper = keeper
            decoder = DecoderProcess(self._program, self._required_layers, self._niceness)
            self._alive.add(decoder)
            return decoder

    def _ask(
        self, decoder: DecoderProcess, job: Job, content: bytes
    ) -> list[ProcessedImage] | DarkroomError:
        """Ask the decoder, and put it back or have it replaced. Raises DecoderEnded."""
        patience_seconds = self._limits.times_the_cpu_seconds * job.cpu_seconds
        try:
            answer = decoder.ask(job, content, patience_seconds)
        except BaseException:
            self._end(decoder)
            raise
        with self._starting:
            is_replaced = self._is_worn(decoder) and not self._is_closed
            if is_replaced:
                self._owed += 1
                self._worn.put(decoder)
        if not is_replaced:
            self._put_back(decoder)
        return answer

    def _is_worn(self, decoder: DecoderProcess) -> bool:
        age_seconds = time.monotonic() - decoder.started_at
        return (
            decoder.pictures >= self._limits.most_pictures
            or age_seconds >= self._limits.most_seconds
        )

    def _put_back(self, decoder: DecoderProcess) -> None:
        self._idle.append(decoder)
        if self._is_closed:
            self._end_idle()

    def _keep(self) -> None:
        """Replace worn decoders behind their last answer, and look at idle ones, until the end."""
        next_look_at = time.monotonic() + self._limits.look_seconds
        while True:
            with suppress(Empty):
                worn = self._worn.get(timeout=max(0, next_look_at - time.monotonic()))
                if worn is None:
                    return
                self._replace(worn)
            if time.monotonic() >= next_look_at:
                self._look_at_idle()
                next_look_at = time.monotonic() + self._limits.look_seconds

    def _replace(self, decoder: DecoderProcess) -> None:
        """Start its successor, unless a picture that could not wait has, and end it."""
        with self._starting:
            if self._owed > 0:
                self._owed -= 1
                with suppress(DecoderUnavailable, ShuttingDown):
                    self._put_back(self._start())
        self._dismiss(decoder)

    def _look_at_idle(self) -> None:
        """End those that are worn, or did more than wait; see that one is left for a picture."""
        for decoder in list(self._idle):
            if self._may_stay(decoder):
                continue
            try:
                self._idle.remove(decoder)
            except ValueError:  # a picture has taken it
                continue
            # Looked at again, now that none can.
            if self._may_stay(decoder):
                self._put_back(decoder)
                continue
            with self._starting:
                self._owed += 0 if self._idle else 1
            self._replace(decoder)

    def _may_stay(self, decoder: DecoderProcess) -> bool:
        if decoder.pictures == 0:  # without a file nothing has taken it over
            return True
        is_waiting = not decoder.worked_unasked and not decoder.has_hidden_threads
        return decoder.is_alive and is_waiting and not self._is_worn(decoder)

    def _dismiss(self, decoder: DecoderProcess) -> None:
        """End one that has no picture, and tell whether it did more than wait."""
        if decoder.is_alive and (decoder.worked_unasked or decoder.has_hidden_threads):
            logger.error(WORKED_UNASKED, extra={"event": Event.DECODER_KILLED})
            decoder.kill()
        self._end(decoder)

    def _end_idle(self) -> None:
        while decoder := self._pop_idle():
            self._end(decoder)

    def _end(self, decoder: DecoderProcess) -> None:
        ending = decoder.end()
        if decoder in self._alive and ending is Ending.FORBIDDEN_CALL:
            logger.error(FORBIDDEN_CALL, extra={"event": Event.DECODER_KILLED})
        self._alive.discard(decoder)
