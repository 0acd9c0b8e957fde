"""Deletions in an S3 bucket: of one object, of many in one call, and of all versions of an object.

A key counts as gone only if the service names it as gone. What a bucket with versions keeps of it
is seen by the service's answer, and deleted too where it is to be erased.
"""

import base64
import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from errors import DarkroomError, ObjectNotFound, StoreError, StoreRefused, StoreUnavailable
from storage.contract import DELETED_AT_ONCE, check_key
from storage.s3_answers import find_code, make_error, translate_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

# One by one: at 200 milliseconds each they take a fourth of STORE_DEADLINE_SECONDS.
DELETED_SINGLY_AT_ONCE = 25


class S3Deletions:
    """The deletions of one bucket; the methods are those of the store.

    Needs DeleteObject, for one object and for many.
    """

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._takes_many = True
        self.keeps_versions = False

    def in_bucket(self, bucket: str) -> "S3Deletions":
        return S3Deletions(self._client, bucket)

    def batch_size(self, erases: bool) -> int:
        return DELETED_AT_ONCE if self._takes_many else DELETED_SINGLY_AT_ONCE

    def delete(self, key: str, erases: bool) -> None:
        check_key(key)
        try:
            with translate_errors():
                self._client.delete_object(Bucket=self._bucket, Key=key)
        except ObjectNotFound as err:
            # AWS says nothing when the key is not there; some
            # services say so. Any other 404 is another web server's.
            if find_code(err) != "NoSuchKey":
                raise StoreRefused from err.__cause__

    def delete_many(self, keys: Sequence[str], erases: bool) -> dict[str, DarkroomError]:
        errors: dict[str, DarkroomError] = {}
        wanted: list[str] = []
        for key in dict.fromkeys(keys):
            try:
                wanted.append(check_key(key))
            except ObjectNotFound as err:
                errors[key] = err
        if not wanted:
            return errors
        if self._takes_many:
            try:
                return errors | self._ask_for_many(wanted)
            except (StoreError, ObjectNotFound) as err:
                self._prove_lack(err, wanted[0])
        return errors | self._delete_singly(wanted, erases)

    def _ask_for_many(self, keys: Sequence[str]) -> dict[str, DarkroomError]:
        with translate_errors():
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys]}
            )
        gone = {found["Key"] for found in answer.get("Deleted", [])}
        errors: dict[str, DarkroomError] = {
            key: StoreUnavailable() for key in keys if key not in gone
        }
        for refusal in answer.get("Errors", []):
            key = refusal.get("Key", "")
            if refusal.get("Code") == "NoSuchKey":
                errors.pop(key, None)
            elif key in errors:
                errors[key] = make_error(refusal.get("Code", ""), refusal.get("Message", ""))
        return errors

    def _prove_lack(self, err: DarkroomError, key: str) -> None:
        """Return if the service lacks the call for many: it deletes this one key by itself.

        Raises why it did not do it. Services without the call say so in many ways: NotImplemented,
        MethodNotAllowed, InvalidArgument, MissingContentMD5.
        """
        may_lack = isinstance(err, StoreRefused | ObjectNotFound)
        if not may_lack and find_code(err) != "NotImplemented":
            raise err
        self.delete(key, erases=False)
        self._takes_many = False
        logger.warning(
            "the store of bucket %s deletes no objects together, so each is deleted by itself: %r",
            self._bucket,
            err.__cause__,
        )

    def _delete_singly(self, keys: Sequence[str], erases: bool) -> dict[str, DarkroomError]:
        errors: dict[str, DarkroomError] = {}
        for key in keys[:DELETED_SINGLY_AT_ONCE]:
            try:
                self.delete(key, erases)
            except StoreError as err:
                errors[key] = err
        # There was no telling before, and these would not fit into the deadline.
        return errors | {key: StoreUnavailable() for key in keys[DELETED_SINGLY_AT_ONCE:]}


def send_content_md5(client: "S3Client") -> None:
    """Let a deletion of many carry the MD5 of its list, which is what every service knows.

    The newer checksum that botocore would send instead is refused by many of them.
    """

    def add(params: dict[str, Any], **_: Any) -> None:
        body = params["body"]
        content = body if isinstance(body, bytes) else body.encode()
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
        params["context"].pop("checksum", None)

    client.meta.events.register_last("before-call.s3.DeleteObjects", cast(Any, add))
