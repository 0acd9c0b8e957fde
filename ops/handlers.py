"""What jobs there are: each by its name, with the function that does it.

The service and `cli.py worker` take them from here, so whatever one can do the other can.
"""

from jobs import Handlers
from photos import RENDER_PRESETS, RENDER_THUMBNAIL, Thumbnails


def make_handlers(thumbnails: Thumbnails) -> Handlers:
    """Make the handler of every job.

    A handler may be called twice with the same arguments, at once or later, and must not mind.
    """
    return {
        RENDER_PRESETS: thumbnails.make_presets,
        RENDER_THUMBNAIL: thumbnails.make_ordered,
    }
