"""The marker of a store: a small JSON that says which store this is, and which database reaps it.

It lies beside the objects and is none: no verb for objects reaches it, no listing shows it. An
empty folder, another bucket or a disk that is not mounted has none, or another's.
"""

import json
from dataclasses import asdict, dataclass, fields

# On disk beside the prefixes of all kinds, so that /media never serves it.
LOCAL_KEY = "darkroom/store.json"
# In a bucket below a prefix that everyone may read: so may we, without a permission of its own.
BUCKET_KEY = "profile_pics/darkroom-store.json"
KEYS = frozenset((LOCAL_KEY, BUCKET_KEY))
# Ten times what one takes; what is longer is none.
MOST_BYTES = 4096


@dataclass(frozen=True)
class Marker:
    """What a marker says; what cannot be read says nothing, and so names no store of ours."""

    store: str = ""  # the store's own id
    reaper: str = ""  # the identity of the one database that deletes there
    token: str = ""  # known to the reaper alone, and new with each renewal
    renewed_at: str = ""  # by the reaper's clock, for people

    def encode(self) -> bytes:
        """Write it as it is stored."""
        return json.dumps(asdict(self), indent=2).encode()

    @classmethod
    def decode(cls, content: bytes) -> "Marker":
        """Read one as it was stored."""
        try:
            said = json.loads(content)
        except ValueError:
            return cls()
        if not isinstance(said, dict):
            return cls()
        return cls(**{field.name: str(said.get(field.name, "")) for field in fields(cls)})
