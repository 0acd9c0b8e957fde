"""One bucket under examination: its settings, the service's own store of it, and what is known.

The doctor asks by the same client as the service does, so with its trust store, its proxies, its
keys and its deadlines; so do the reads of a stranger, which nobody signs.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.awsrequest import AWSRequest

from buckets import BucketPlan
from buckets.applying import open_client
from config import Settings
from doctor.findings import Cure, Finding, Paste
from doctor.signals import Interrupted, Signals
from doctor.traces import Traces
from files.kinds import INCOMING_PREFIX
from locations import StoreSettings
from storage.s3 import S3Store
from storage.s3_deadlines import limit_call

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PICTURE = Path(__file__).parents[1] / "static" / "profile_pics" / "default.jpg"
CONTENT_TYPE = "image/jpeg"
# Of an answer; pages that stand in the place of a picture are told by their beginning.
MOST_BYTES = 4 * 1024 * 1024
# Of a key whose secret is told to nobody: enough to recognise it by.
_SHOWN_OF_KEY = 4
# The length of an access key's name on AWS; what is longer may be a secret in the wrong place.
_LONGEST_KEY_NAME = 32

Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Answer:
    """What a stranger was answered; the names of its headers are in small letters."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Case:
    """What the steps share."""

    settings: Settings
    current: StoreSettings
    plan: BucketPlan
    store: S3Store
    signals: Signals
    traces: Traces
    ends_at: float  # on the monotonic clock
    say: Callable[[str], None]  # what is being done now, to who watches
    # With other credentials, for looks that ours may not take.
    admin: "S3Client | None" = None
    content: bytes = field(default_factory=PICTURE.read_bytes)
    may_list: bool = False
    takes_create_only: bool = False
    # Prefixes below which an object of ours could not be deleted: no more is put there.
    undeletable: set[str] = field(default_factory=set)
    unputtable: set[str] = field(default_factory=set)
    is_readable: bool = False  # whether a stranger could read what is public
    requests: int = 0  # that were sent until now

    def __post_init__(self) -> None:
        self.client.meta.events.register("before-send.s3", cast(Any, self._count_request))

    def _count_request(self, **_: object) -> None:
        self.requests += 1

    @property
    def client(self) -> "S3Client":
        """The service's own client, for what none of its verbs asks."""
        return self.store.client

    @property
    def lookers(self) -> "list[S3Client]":
        """Those who look at the bucket's configuration, which the service never does.

        Its own client believes what a store says of objects only.
        """
        own = self._own_looker
        return [own, self.admin] if self.admin is not None else [own]

    @cached_property
    def _own_looker(self) -> "S3Client":
        return open_client(self.current)

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.store.bucket

    @property
    def bucket_url(self) -> str:
        """The bucket's own address, whatever stands in front of it for browsers."""
        return self.store.direct_url("").rstrip("/")

    @property
    def left_seconds(self) -> float:
        """How long the examination may still take."""
        return self.ends_at - time.monotonic()

    def arn(self, path: str = "") -> str:
        """The ARN of the bucket, or of objects in it."""
        return f"{self.plan.arn}/{path}" if path else self.plan.arn

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Ask as a stranger does. Follows no redirect; raises BotoCoreError."""
        request = AWSRequest(method, url, dict(headers or {}), body or None)
        request.stream_output = True
        self._count_request()
        session = cast(Any, self.client)._endpoint.http_session
        with limit_call():
            answer = session.send(request.prepare())
            try:
                content = answer.raw.read(MOST_BYTES, decode_content=True)
            finally:
                answer.raw.close()
        told = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(url, answer.status_code, told, content)

    def put_held(self, call: Callable[[], Answered]) -> Answered:
        """Put something; whoever interrupts waits for the end of it, a second time for nothing."""
        with self.signals.held():
            try:
                return call()
            except Interrupted:
                self.traces.cut_off()
                raise

    def hide(self, text: str) -> str:
        """Take out of a text what must not be shown, if a service repeats it."""
        for secret in (self.current.secret_access_key, self.current.access_key_id):
            value = secret.get_secret_value() if secret else ""
            is_name = secret is self.current.access_key_id and len(value) <= _LONGEST_KEY_NAME
            if value and not is_name and len(value) > _SHOWN_OF_KEY:
                text = text.replace(value, "...")
        return text

    def hide_in(self, finding: Finding) -> Finding:
        """Take out of a finding what must not be shown."""
        cure = finding.cure
        if cure is not None:
            pastes = tuple(Paste(each.kind, self.hide(each.text)) for each in cure.pastes)
            cure = Cure(self.hide(cure.sentence), pastes)
        return Finding(
            finding.step, finding.outcome, self.hide(finding.what), cure, finding.milliseconds
        )

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Every prefix below which the doctor puts something."""
        return (*self.plan.public_prefixes, *self.plan.private_prefixes)

    @property
    def incoming(self) -> str:
        """Where browsers will put files by themselves."""
        return INCOMING_PREFIX


def mask_key(key_id: str) -> str:
    """Show enough of a key's name to recognise it, and nothing of what may be a secret."""
    if len(key_id) > _LONGEST_KEY_NAME or len(key_id) <= 2 * _SHOWN_OF_KEY:
        return "..."
    return f"{key_id[:_SHOWN_OF_KEY]}...{key_id[-_SHOWN_OF_KEY:]}"
