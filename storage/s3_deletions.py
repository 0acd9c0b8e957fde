"""Deletions in an S3 bucket: of one object, of many in one call, and of all versions of an object.

A key counts as gone only if the service names it as gone. What a bucket with versions keeps of it
is seen by the service's answer, and deleted too where it is to be erased.
"""

import base64
import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from errors import DarkroomError, ObjectNotFound, StoreError, StoreRefused, StoreUnavailable
from storage.contract import DELETED_AT_ONCE, check_key
from storage.s3_answers import find_code, make_error, read_code, translate_errors
from storage.s3_deadlines import limit_call
from storage.s3_powers import Power, Powers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

# One by one: at 200 milliseconds each they take a fourth of STORE_DEADLINE_SECONDS.
DELETED_SINGLY_AT_ONCE = 25


class S3Deletions:
    """The deletions of one bucket; the methods are those of the store.

    Needs DeleteObject, for one object and for many; to erase what a bucket keeps of an object also
    ListBucketVersions and DeleteObjectVersion.
    """

    def __init__(self, client: "S3Client", bucket: str, powers: Powers) -> None:
        self._client = client
        self._bucket = bucket
        self._powers = powers
        self.keeps_versions = False
        self._may_erase = True

    def batch_size(self, erases: bool) -> int:
        asks_for_each = erases and self.keeps_versions
        if self._powers.has(Power.DELETE_MANY) and not asks_for_each:
            return DELETED_AT_ONCE
        return DELETED_SINGLY_AT_ONCE

    def delete(self, key: str, erases: bool) -> None:
        check_key(key)
        try:
            with translate_errors():
                answer = self._client.delete_object(Bucket=self._bucket, Key=key)
            self._note_versions(answer.get("DeleteMarker"))
        except ObjectNotFound as err:
            # AWS says nothing when the key is not there; some
            # services say so. Any other 404 is another web server's.
            if find_code(err) != "NoSuchKey":
                raise StoreRefused from err.__cause__
        if erases and self.keeps_versions:
            self._erase(key)

    def delete_many(self, keys: Sequence[str], erases: bool) -> dict[str, DarkroomError]:
        errors: dict[str, DarkroomError] = {}
        wanted: list[str] = []
        for key in dict.fromkeys(keys):
            try:
                wanted.append(check_key(key))
            except ObjectNotFound as err:
                errors[key] = err
        if wanted:
            with limit_call():
                errors |= self._delete_wanted(wanted, erases)
        return errors

    def _delete_wanted(self, wanted: Sequence[str], erases: bool) -> dict[str, DarkroomError]:
        errors: dict[str, DarkroomError] = {}
        if self._powers.has(Power.DELETE_MANY):
            try:
                errors = self._ask_for_many(wanted)
            except (StoreError, ObjectNotFound) as err:
                self._prove_lack(err, wanted[0])
            else:
                self._doubt_denial(wanted, errors)
        if not self._powers.has(Power.DELETE_MANY):
            return self._do_singly(partial(self.delete, erases=erases), wanted)
        if erases and self.keeps_versions:
            errors |= self._do_singly(self._erase, [key for key in wanted if key not in errors])
        return errors

    def _ask_for_many(self, keys: Sequence[str]) -> dict[str, DarkroomError]:
        with translate_errors():
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys]}
            )
        gone: set[str] = set()
        for found in answer.get("Deleted", []):
            gone.add(found["Key"])
            self._note_versions(found.get("DeleteMarker"))
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
        self._powers.note_lack(Power.DELETE_MANY, cast(Exception, err.__cause__))

    def _doubt_denial(self, keys: Sequence[str], errors: dict[str, DarkroomError]) -> None:
        """Note a lack where every key is denied and one by itself is not.

        Some services ask for another right then, one that concerns the bucket.
        """
        if any(find_code(errors.get(key, StoreUnavailable())) != "AccessDenied" for key in keys):
            return
        with suppress(StoreError):
            self._prove_lack(errors[keys[0]], keys[0])

    def _note_versions(self, is_marker: bool | None) -> None:
        """Remember that the bucket has put a marker over the object, which it keeps.

        A version's id alone says nothing: some services give one to every object.
        """
        if is_marker and not self.keeps_versions:
            self.keeps_versions = True
            logger.warning(
                "the bucket %s keeps versions: what is deleted stays in it until a lifecycle rule"
                " removes it (docs/maintenance.md)",
                self._bucket,
            )

    def _erase(self, key: str) -> None:
        """Delete every version and every marker of this very key, where we may."""
        try:
            with translate_errors():
                for version_id in self._find_versions(key):
                    self._erase_version(key, version_id)
        except StoreRefused as err:
            if find_code(err) not in ("AccessDenied", "403"):
                raise
            if self._may_erase:
                logger.warning(
                    "the versions that the bucket %s keeps of deleted objects cannot be erased:"
                    " allow the application s3:ListBucketVersions and s3:DeleteObjectVersion: %r",
                    self._bucket,
                    err.__cause__,
                )
            self._may_erase = False

    def _find_versions(self, key: str) -> list[str]:
        # The service can only be asked for a beginning of keys.
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=key
        )
        return [
            found["VersionId"]
            for page in pages
            for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if found["Key"] == key
        ]

    def _erase_version(self, key: str, version_id: str) -> None:
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version_id)
        except ClientError as err:
            if read_code(err) not in ("NoSuchVersion", "NoSuchKey"):  # somebody was faster
                raise

    def _do_singly(
        self, delete: Callable[[str], None], keys: Sequence[str]
    ) -> dict[str, DarkroomError]:
        errors: dict[str, DarkroomError] = {}
        for key in keys[:DELETED_SINGLY_AT_ONCE]:
            try:
                delete(key)
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
