"""What jobs there are: each by its name, with the function that does it.

The service and `cli.py worker` take them from here, so whatever one can do the other can.
"""

from files import Backends
from jobs import Handlers


def make_handlers(backends: Backends) -> Handlers:
    """Make the handler of every job.

    A handler may be called twice with the same arguments, at once or later, and must not mind.
    """
    return {}
