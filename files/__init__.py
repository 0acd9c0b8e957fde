"""The life of a stored file: announced, put, swapped in, let go, deleted.

Nobody else sets its state. HTTP is not known here: a refusal is an error of the tree.
"""

from files.backends import Backends, RequestBackends
from files.change import Change, lock_user

__all__ = ["Backends", "Change", "RequestBackends", "lock_user"]
