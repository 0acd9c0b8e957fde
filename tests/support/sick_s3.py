"""A server in front of moto that is sick in one way or another, as a test tells it.

It refuses by policies of IAM and by signatures, which moto does not, sets its clock wrong, speaks
TLS, and answers whatever a test has it answer in the place of the store.
"""

import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.support.certificates import Certificate
from tests.support.policed_s3 import PolicedS3
from tests.support.s3 import FakeS3
from tests.support.s3_messages import HEADERS, Answer, Request, render_error
from tests.support.services import Bucket

_AUTHORIZATION = re.compile(
    r"Credential=([^/]+)/\d+/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)"
)
_DATE = re.compile(rb"^Date: [^\r]*", re.MULTILINE | re.IGNORECASE)

# Answers in the place of the store, or not.
Ill = Callable[[Request], Answer | None]


class SickS3(PolicedS3):
    """It passes on to moto what none of its ills answers; it begins without any."""

    def __init__(self, endpoint: str, certificate: Certificate | None = None) -> None:
        super().__init__(endpoint)
        self.get_well()
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.file, certificate.key_file)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")

    def get_well(self) -> None:
        """Answer as moto does."""
        self.ills: list[Ill] = []
        self.clock = timedelta()
        self.secrets: dict[str, str] | None = None  # by the names of their keys; else all are taken
        self.region: str | None = None  # else every region is this one
        self.policies = None
        self.hides_list = True
        self.rewrite: Callable[[Request], Request] = lambda request: request  # for moto

    def pass_on(self, request: Request) -> bytes:
        for ill in (*self.ills, self._refuse, self._hide_list, self._tell_pages):
            answer = ill(request)
            if answer is not None:
                return self._set_clock(answer.render(request.method))
        request = self.rewrite(request)
        if is_anonymous(request):  # whom no policy of a user concerns
            return self._set_clock(FakeS3.pass_on(self, request))
        return self._set_clock(super().pass_on(request))

    def _set_clock(self, answer: bytes) -> bytes:
        now = format_datetime(datetime.now(UTC) + self.clock, usegmt=True)
        if not _DATE.search(answer.partition(b"\r\n\r\n")[0]):
            return answer.replace(b"\r\n", f"\r\nDate: {now}\r\n".encode(), 1)
        return _DATE.sub(f"Date: {now}".encode(), answer, count=1)

    def _refuse(self, request: Request) -> Answer | None:
        """Refuse who is not known, or comes from another time or to another region."""
        signed = _AUTHORIZATION.search(request.headers.get("authorization", ""))
        if signed is None:
            return None
        key_id = signed[1]
        region = signed[2]
        if abs(self.clock) > timedelta(minutes=15):
            return error(403, "RequestTimeTooSkewed")
        if self.region is not None and region != self.region:
            told = f"the region '{region}' is wrong; expecting '{self.region}'"
            return error(
                400, "AuthorizationHeaderMalformed", told, f"<Region>{self.region}</Region>"
            )
        if self.secrets is None:
            return None
        if key_id not in self.secrets:
            return error(403, "InvalidAccessKeyId")
        if signed[4] != _sign(request, key_id, self.secrets[key_id], region, signed[3]):
            return error(403, "SignatureDoesNotMatch")
        return None

    def _hide_list(self, request: Request) -> Answer | None:
        """Let nobody list the bucket who has not signed that; moto lets everyone."""
        is_list = request.method == "GET" and not request.key and is_anonymous(request)
        return error(403, "AccessDenied") if is_list and self.hides_list else None

    def _tell_pages(self, request: Request) -> Answer | None:
        """Answer what browsers ask before a page may, by the bucket's rules; moto allows all."""
        if request.method != "OPTIONS" or self.endpoint is None:
            return None
        origin = request.headers["origin"]
        method = request.headers["access-control-request-method"]
        client = Bucket(self.endpoint, "").client()
        try:
            bucket = request.path.split("/")[1]
            rules = client.get_bucket_cors(Bucket=bucket)["CORSRules"]
        except ClientError:
            rules = []
        for rule in rules:
            if {origin, "*"} & set(rule["AllowedOrigins"]) and method in rule["AllowedMethods"]:
                told = {
                    "x-amz-request-id": "planned",
                    "Access-Control-Allow-Origin": origin,
                    "Access-Control-Allow-Methods": ", ".join(rule["AllowedMethods"]),
                    "Access-Control-Allow-Headers": ", ".join(rule.get("AllowedHeaders", [])),
                }
                return Answer(200, headers=told)
        return error(403, "AccessForbidden", "CORSResponse: This CORS request is not allowed.")


def error(status: int, code: str, message: str = "planned", more: str = "") -> Answer:
    """The answer of a store with this error; `more` are further elements of it."""
    content = render_error(code).replace(b"planned", message.encode())
    content = content.replace(b"</Error>", f"{more}</Error>".encode())
    headers = {name: value for name, value in HEADERS.items() if name != "ETag"}
    return Answer(status, body=content, headers=headers)


def is_anonymous(request: Request) -> bool:
    """Whether nobody has signed it."""
    return "authorization" not in request.headers and "X-Amz-Signature" not in request.path


def _sign(request: Request, key_id: str, secret: str, region: str, names: str) -> str:
    """Sign a request once more, as its client did."""
    headers = {name: request.headers.get(name, "") for name in names.split(";")}
    url = f"http://{request.headers['host']}{request.path}"
    again = AWSRequest(request.method, url, headers)
    again.context["timestamp"] = request.headers["x-amz-date"]
    auth = S3SigV4Auth(Credentials(key_id, secret), "s3", region)
    text = auth.string_to_sign(again, auth.canonical_request(again))
    return str(auth.signature(text, again))
