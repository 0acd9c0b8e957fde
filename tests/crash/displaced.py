"""A lane's store that is not where it was, or has lost its marker; all is put back at the end."""

import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from storage.markers import BUCKET_KEY, LOCAL_KEY
from tests.support.s3 import FakeS3
from tests.support.services import Bucket


class Displaced:
    """What happens to the folder or the bucket of a lane; `choices` is the lane's randomness."""

    def __init__(
        self, folder: Path, bucket: Bucket | None, proxy: FakeS3 | None, choices: random.Random
    ) -> None:
        self._media = folder / "media"
        self._away = folder / "media-away"
        self._bucket = bucket
        self._proxy = proxy
        self._choices = choices

    @contextlib.contextmanager
    def without_marker(self) -> Iterator[None]:
        """Take the marker away until the context ends."""
        if self._bucket is None:
            marker = self._media / LOCAL_KEY
            kept = marker.read_bytes()
            marker.unlink()
            try:
                yield
            finally:
                marker.write_bytes(kept)
            return
        client = self._bucket.client()
        name = self._bucket.name
        kept = client.get_object(Bucket=name, Key=BUCKET_KEY)["Body"].read()
        client.delete_object(Bucket=name, Key=BUCKET_KEY)
        try:
            yield
        finally:
            client.put_object(Bucket=name, Key=BUCKET_KEY, Body=kept)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[list[str]]:
        """Have an empty folder, none at all, or an empty bucket in the place of the store.

        Once the context has ended, the list has the names of all that was put there.
        """
        strays: list[str] = []
        if self._bucket is None or self._proxy is None:
            self._media.rename(self._away)
            if self._choices.random() < 0.5:
                self._media.mkdir()
            try:
                yield strays
            finally:
                strays += [path.name for path in self._media.rglob("*") if path.is_file()]
                shutil.rmtree(self._media, ignore_errors=True)
                self._away.rename(self._media)
            return
        name = self._bucket.name
        other = Bucket.make(self._bucket.endpoint)
        self._proxy.detour = lambda path: path.replace(f"/{name}", f"/{other.name}", 1)
        try:
            yield strays
        finally:
            self._proxy.detour = lambda path: path
            strays += other.objects()
