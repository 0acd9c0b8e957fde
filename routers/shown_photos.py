"""How photos are shown: with addresses that load, those of their thumbnails among them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Depends, Request

from config import Settings
from files.urls import find_url
from models import Photo, User, Visibility
from photos import VERSION, ThumbnailLinks, ThumbnailOptions, WantedFormat, list_presets
from photos.options import write_rendition
from pictures import Rendition
from schemas import PhotoOwner, PhotoPrivate, PhotoPublic, SourceSets, ThumbnailShown


class ShownPhotos:
    """Describes photos of one application."""

    def __init__(self, settings: Settings, links: ThumbnailLinks) -> None:
        self._widths = settings.thumbnail_widths
        self._links = links

    async def show(self, photo: Photo) -> PhotoPublic:
        """Describe a photo to someone who may see it."""
        master = photo.master
        assert master.width_px and master.height_px  # the table demands them of what is live
        thumbnails = await self._show_thumbnails(photo)
        return PhotoPublic(
            id=photo.id,
            owner=PhotoOwner.model_validate(photo.owner),
            url=await find_url(master),
            width=master.width_px,
            height=master.height_px,
            aspect_ratio=master.width_px / master.height_px,
            placeholder=master.placeholder,
            caption=photo.caption,
            alt=photo.alt,
            visibility=photo.visibility,
            filename=photo.filename,
            content_type=photo.content_type,
            size_bytes=photo.size_bytes,
            removed_metadata=photo.removed_metadata,
            notes=photo.notes,
            created_at=photo.created_at,
            thumbnails=thumbnails,
            srcset=_write_srcset(thumbnails),
        )

    async def show_to_owner(self, photo: Photo) -> PhotoPrivate:
        """Describe a photo to its owner, with a link to the original."""
        original = photo.original
        original_url = None if original is None else await find_url(original)
        return PhotoPrivate(**dict(await self.show(photo)), original_url=original_url)

    async def show_changed(self, photo: Photo, changer: User) -> PhotoPrivate:
        """Describe a photo to whoever changed it; nobody but its owner is shown the original."""
        if photo.owner_id == changer.id:
            return await self.show_to_owner(photo)
        return PhotoPrivate(**dict(await self.show(photo)), original_url=None)

    def write_sizes(self, photo: Photo, wanted: Mapping[str, ThumbnailOptions]) -> dict[str, str]:
        """Write the signed address of each size that was asked for, by how it was asked for."""
        return {size: self._links.write_address(photo, options) for size, options in wanted.items()}

    async def _show_thumbnails(self, photo: Photo) -> list[ThumbnailShown]:
        files = {
            thumbnail.rendition: thumbnail.file
            for thumbnail in photo.thumbnails
            if thumbnail.version == VERSION
        }
        thumbnails = []
        for width_px, rendition in list_presets(photo, self._widths):
            file = files.get(write_rendition(rendition))
            url = None if file is None else await find_url(file)
            thumbnails.append(
                ThumbnailShown(
                    width=rendition.width_px,
                    height=rendition.height_px,
                    format=rendition.format,
                    url=url or self._write_address(photo, width_px, rendition),
                )
            )
        return thumbnails

    def _write_address(self, photo: Photo, width_px: int, rendition: Rendition) -> str:
        """Write the address that has it made."""
        if photo.visibility == Visibility.PUBLIC:
            return self._links.write_preset_address(photo, width_px, rendition.format)
        options = ThumbnailOptions(width_px, None, format=WantedFormat(rendition.format))
        return self._links.write_address(photo, options)


def _write_srcset(thumbnails: Sequence[ThumbnailShown]) -> SourceSets:
    sources: defaultdict[str, list[str]] = defaultdict(list)
    for thumbnail in thumbnails:
        sources[thumbnail.format].append(f"{thumbnail.url} {thumbnail.width}w")
    return SourceSets(webp=", ".join(sources["webp"]), jpeg=", ".join(sources["jpeg"]))


def _get_shown_photos(request: Request) -> ShownPhotos:
    return ShownPhotos(request.app.state.settings, request.app.state.thumbnail_links)


# A FastAPI dependency.
RequestShownPhotos = Annotated[ShownPhotos, Depends(_get_shown_photos)]
