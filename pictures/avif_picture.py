"""An AVIF, without what libavif refuses although it is beside the picture and browsers show it."""

from PIL.AvifImagePlugin import AvifImageFile

from pictures.box_colours import read_tile_profile
from pictures.file_view import open_view
from pictures.formats import Header
from pictures.item_properties import hide_groups, merge_associations
from pictures.lost import WHOLE
from pictures.metadata import EXIF_ITEM
from pictures.values import Content


class AvifPicture(AvifImageFile):
    """An AVIF. A broken EXIF block is hidden from libavif, as are groups that it does not
    know, and a list in two boxes is made one.

    Where only its tiles have a profile, that one counts.
    """

    arrival = WHOLE

    def __init__(self, content: Content, _: Header) -> None:
        self._content = content
        super().__init__(open_view(content))

    def _open(self) -> None:
        try:
            super()._open()
        except Exception:
            sound = hide_groups(merge_associations(self._content))
            mended, count = EXIF_ITEM.subn(rb"\1none", sound)
            if not count and mended == self._content:
                raise
            self.fp = open_view(mended)
            super()._open()
        profile = read_tile_profile(self._content)
        if profile is not None:
            self.info.setdefault("icc_profile", profile)
