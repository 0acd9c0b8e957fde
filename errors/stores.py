"""Objects and the stores that hold them, and the links that lead to them."""

from errors.base import Forbidden, NotFound, Unavailable
from errors.outages import Overloaded


class ObjectNotFound(NotFound):
    code = "object_not_found"
    title = "No such object"
    sentence = "There is no picture at this address."


class LinkExpired(Forbidden):
    code = "link_expired"
    title = "Link expired"
    sentence = "This link has expired. Please load the page again that it stands on."


class BadSignature(Forbidden):
    code = "bad_signature"
    title = "Link not valid"
    sentence = "This link is not complete, or was changed. Please copy the whole of it."


class StoreError(Unavailable):
    code = "store_error"
    sentence = "Pictures cannot be stored right now. Please try again in a moment."


class StoreUnavailable(StoreError):
    """The store cannot be reached, or fails; whether the call took effect is unknown."""

    code = "store_unavailable"
    title = "Store unavailable"


class OutOfDescriptors(StoreUnavailable):
    """We had no descriptor left with which to ask the store, which is not at fault."""

    code = Overloaded.code
    title = Overloaded.title
    sentence = Overloaded.sentence


class StoreRefused(StoreError):
    """The store answered that we may not, or that there is no bucket: an operator has to act."""

    code = "store_refused"
    title = "Store unavailable"


class WrongStore(StoreError):
    """What is there now is not the store that the database knows: an operator has to act."""

    code = "wrong_store"
    title = "Store unavailable"


class ReapedByAnother(StoreError):
    """Another database deletes in this store: until `cli.py adopt-store` we do not."""

    code = "reaped_by_another"
    title = "Store unavailable"


class ObjectExists(StoreError):
    """A create-only put met an object under its key."""

    code = "object_exists"
    title = "Store unavailable"
