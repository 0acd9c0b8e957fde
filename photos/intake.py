"""A photo's file on its way in: judged, hashed and streamed to the store while it arrives."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from files import Backends
from files.hashing import Hashes
from files.kinds import PHOTO_ORIGINAL
from files.streams import Stream
from pictures.arriving import ArrivedPicture, HeaderWatch
from pictures.slots import Owners


@dataclass(frozen=True)
class Sent:
    """A file that has arrived to its last byte, and what its sender calls it."""

    stream: Stream
    arrived: ArrivedPicture
    hashes: Hashes  # of the file, and of the picture at its beginning
    filename: str
    owners: Owners  # whom decoding it is charged to


class Intake:
    """Takes one file in. As a context it ends what is not finished, as its Stream does."""

    def __init__(self, backends: Backends, owner_id: int, owners: Owners) -> None:
        self._owners = owners
        settings = backends.settings
        self._watch = HeaderWatch(settings.max_image_pixels, settings.max_whole_image_pixels)
        self._stream = Stream(backends, owner_id, PHOTO_ORIGINAL)

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stream.__aexit__(kind, err, traceback)

    async def write(self, piece: bytes) -> None:
        """Take the next bytes; wait while the store has enough to do.

        Raises BadPicture or TooLarge as soon as the bytes tell, and what Stream.write raises.
        """
        self._watch.feed(piece)
        await self._stream.write(piece, self._watch.content_type, self._watch.picture_bytes)

    async def finish(self, filename: str) -> Sent:
        """Say that the last byte is here. Raises BadPicture or TooLarge."""
        arrived = self._watch.finish()
        return Sent(self._stream, arrived, await self._stream.hash(), filename, self._owners)
