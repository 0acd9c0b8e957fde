"""A file judged while it arrives: what it is, whether it is taken, where its picture ends.

It is refused as soon as its bytes tell, in the same words as a whole file (costs.examine), however
it is cut into pieces. Little of it is kept: what its header still needs, and its end.
"""

from dataclasses import dataclass

from pictures.costs import Cost, check_size, price_master
from pictures.formats import CutShort, Extent, make_truncated, measure_extent, read_start
from pictures.reading import FedReading, Reading
from pictures.values import CONTENT_TYPES, Content, Header


@dataclass(frozen=True)
class ArrivedPicture:
    """A file that arrived whole, and what making a master of it costs.

    The picture may end before the file does: behind a JPEG may stand whatever its camera, or
    somebody, put there.
    """

    header: Header
    content_type: str  # of what it is, whatever the client called it
    size_bytes: int
    picture_bytes: int
    cost: Cost


class HeaderWatch:
    """Watches one file arrive. Whoever got a refusal from it feeds it no more."""

    def __init__(self, max_pixels: int, max_whole_pixels: int) -> None:
        """Take the limits, which are those of costs.examine."""
        self._limits = (max_pixels, max_whole_pixels)
        self._header: Header | None = None
        self._reading = FedReading(self._read())

    @property
    def content_type(self) -> str | None:
        """What the file is, once that was read and is within the limits; before, None."""
        return None if self._header is None else CONTENT_TYPES[self._header.format]

    @property
    def picture_bytes(self) -> int | None:
        """Where the picture ends, known with its last byte; None where the file may end there."""
        extent = self._reading.result
        return None if extent is None else extent.picture_bytes

    def _read(self) -> Reading[Extent]:
        header = yield from read_start()
        check_size(header, (header.width_px, header.height_px), None, *self._limits)
        self._header = header
        return (yield from measure_extent(header))

    def feed(self, piece: Content) -> None:
        """Take the next bytes, of any number.

        Raises NotAPicture, UnsupportedFormat, BrokenPicture, TooManyPixels or SideTooLong.
        """
        self._reading.feed(piece)

    def finish(self) -> ArrivedPicture:
        """Say that the file has ended, and tell all about it.

        Raises the same, EmptyFile and TruncatedPicture.
        """
        size_bytes = self._reading.size_bytes
        try:
            extent = self._reading.finish()
        except CutShort as err:
            raise make_truncated(size_bytes) from err
        assert self._header is not None  # or the reading would have raised
        header = extent.complete(self._header, size_bytes)
        picture_bytes = size_bytes if extent.picture_bytes is None else extent.picture_bytes
        return ArrivedPicture(
            header=header,
            content_type=CONTENT_TYPES[header.format],
            size_bytes=size_bytes,
            picture_bytes=picture_bytes,
            cost=price_master(header, picture_bytes),
        )
