"""The life of a stored file: announced, put, swapped in, let go, deleted.

Only this room and ops/sweep.py set its state. HTTP is not known here, save that routes get their
`backends` from it: a refusal is an error of the tree.
"""

from files.backends import Backends, RequestBackends
from files.profile_pictures import delete_account, remove_picture, replace_picture

__all__ = ["Backends", "RequestBackends", "delete_account", "remove_picture", "replace_picture"]
