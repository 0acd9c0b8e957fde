"""What the service behind one endpoint can do, as its refusals tell: one `Powers` for each store.

A wish that may be what a service refuses is left out in the same call. It stays left out only if
the call then succeeds, for then it was that wish and nothing else in the request.
"""

import itertools
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from botocore.exceptions import ClientError

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Power(Enum):
    """What not every service can do, with what it means where it cannot."""

    CREATE_ONLY_PUT = (
        "knows no put that overwrites nothing (If-None-Match), so random keys alone prevent it"
    )
    CREATE_ONLY_UPLOAD = (
        "knows no completion of an upload in parts that overwrites nothing (If-None-Match), so"
        " random keys alone prevent it"
    )
    CHECKSUMS = (
        "takes no checksums (x-amz-checksum-*), so what it stores is covered on its way by the"
        " signature alone"
    )
    DELETE_MANY = "deletes no objects together, so each is deleted by itself"


@dataclass(frozen=True)
class Lack:
    """A power that a service was found not to have, and what it answered to the wish."""

    power: Power
    cause: str

    @property
    def sentence(self) -> str:
        return self.power.value


_CREATE_ONLY = (Power.CREATE_ONLY_PUT, Power.CREATE_ONLY_UPLOAD)
# What a service says that does not know a header or a field, in one way or another; and, of a
# header that was lost between us and it, that the signature covers more than arrived.
_SUSPECT_CODES = {
    "NotImplemented",
    "InvalidArgument",
    "InvalidRequest",
    "BadRequest",
    "MalformedXML",
    "MethodNotAllowed",
    "SignatureDoesNotMatch",
}
_SUSPECT_STATUSES = (405, 501)
# Of bytes that were changed on their way, which is what checksums are for.
_OF_CHANGED_BYTES = re.compile("Mismatch|Digest")
# The fields of an error in which a service names what it refuses; in others of them, as of
# SignatureDoesNotMatch, every header stands.
_NAMING_FIELDS = ("Message", "Header", "ArgumentName")
_NAMES = {
    Power.CREATE_ONLY_PUT: re.compile("if-?none-?match", re.IGNORECASE),
    Power.CREATE_ONLY_UPLOAD: re.compile("if-?none-?match", re.IGNORECASE),
    Power.CHECKSUMS: re.compile("checksum", re.IGNORECASE),
}


class Powers:
    """What one store can do; every bucket of it, and every thread, asks and tells this object."""

    def __init__(self, place: str, *, sends_checksums: bool) -> None:
        self._place = place
        self._left_out: set[Power] = set() if sends_checksums else {Power.CHECKSUMS}
        self._lacks: list[Lack] = []
        self._lock = threading.Lock()
        self._trial = threading.local()
        self._doubted_key: str | None = None

    @property
    def lacks(self) -> list[Lack]:
        """What the service was found not to have since this process made its client."""
        return list(self._lacks)

    def has(self, power: Power) -> bool:
        """Whether a call of this thread is to make use of it."""
        trial: frozenset[Power] = getattr(self._trial, "without", frozenset())
        return power not in self._left_out and power not in trial

    def note_lack(self, power: Power, cause: Exception | None) -> None:
        """Do without it from now on; say so once."""
        with self._lock:
            if power in self._left_out:
                return
            self._left_out.add(power)
            self._lacks.append(Lack(power, str(cause)))
        logger.warning("the store %s %s: %r", self._place, power.value, cause)

    def ask(
        self,
        call: Callable[[], Answer],
        *wishes: Power,
        key: str = "",
        is_taken: Callable[[], bool | None] | None = None,
    ) -> Answer:
        """Make a call that asks `has` about each of these wishes, at once without what is refused.

        `is_taken` tells whether something lies under the key, None where we may not look: some
        services answer every create-only put as if something did. Raises what botocore does.
        """
        sent = [wish for wish in wishes if self.has(wish)]
        try:
            answer = call()
        except ClientError as err:
            if not self._is_about(err, sent, key, is_taken):
                raise
            refusal = err
        else:
            if set(sent) & set(_CREATE_ONLY):
                self._doubted_key = None
            return answer
        named = _find_named(refusal, sent)
        causes = dict.fromkeys(sent, refusal)
        for without in _subsets(sent):
            if not named <= without:
                continue
            try:
                with self._leaving_out(without):
                    answer = call()
            except ClientError as err:
                left = [wish for wish in sent if wish not in without]
                if not _is_suspect(err, left or sent):
                    raise
                told = _find_named(err, left)
                causes |= dict.fromkeys(told, err)
                named |= told
                continue
            for wish in without:
                self.note_lack(wish, causes[wish])
            return answer
        raise refusal

    def _is_about(
        self,
        err: ClientError,
        sent: list[Power],
        key: str,
        is_taken: Callable[[], bool | None] | None,
    ) -> bool:
        """Whether a refusal may be one of a wish that was sent."""
        if _read_status(err) != 412:
            return bool(sent) and _is_suspect(err, sent)
        if not set(sent) & set(_CREATE_ONLY) or is_taken is None:
            return False
        answer = is_taken()
        if answer is None:
            # Nothing lies under a random key that was never used, but a proxy may have
            # sent our put twice. It does not do so twice in a row, with two keys.
            doubted_before = self._doubted_key
            self._doubted_key = key
            return doubted_before not in (None, key)
        return not answer

    @contextmanager
    def _leaving_out(self, wishes: frozenset[Power]) -> Iterator[None]:
        self._trial.without = wishes
        try:
            yield
        finally:
            del self._trial.without


def _is_suspect(err: ClientError, sent: list[Power]) -> bool:
    code = err.response.get("Error", {}).get("Code", "")
    status = _read_status(err)
    if _OF_CHANGED_BYTES.search(code) or not (400 <= status < 500 or status == 501):
        return False
    if code in _SUSPECT_CODES or status in _SUSPECT_STATUSES:
        return True
    return status not in (404, 409, 412) and bool(_find_named(err, sent))


def _find_named(err: ClientError, sent: list[Power]) -> frozenset[Power]:
    """Find the wishes that a refusal names."""
    error = err.response.get("Error", {})
    text = " ".join(str(error.get(field, "")) for field in _NAMING_FIELDS)
    return frozenset(wish for wish in sent if wish in _NAMES and _NAMES[wish].search(text))


def _subsets(wishes: list[Power]) -> Iterator[frozenset[Power]]:
    """Give what may be left out: each wish by itself, in their order, before several together."""
    for size in range(1, len(wishes) + 1):
        for chosen in itertools.combinations(wishes, size):
            yield frozenset(chosen)


def _read_status(err: ClientError) -> int:
    return err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
