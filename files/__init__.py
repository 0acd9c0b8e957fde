"""The life of a stored file: announced, put, swapped in, let go, deleted.

Nobody else sets its state. HTTP is not known here: a refusal is an error of the tree.
"""

from files.backends import Backends, RequestBackends
from files.profile_pictures import delete_account, remove_picture, replace_picture

__all__ = ["Backends", "RequestBackends", "delete_account", "remove_picture", "replace_picture"]
