"""Why nothing answers at an address: its name, its port, its certificate, a proxy, or time.

What can be tried is tried: the other scheme, and the certificates that this machine trusts itself.
"""

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import NameResolutionError

from doctor import cures
from doctor.findings import Cure

if TYPE_CHECKING:
    from doctor.case import Case

# How OpenSSL calls what comes from a port that does not speak TLS.
_NO_TLS = (
    *("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "record layer failure"),
    *("PACKET_LENGTH_TOO_LONG", "UNEXPECTED_EOF"),
)


@dataclass(frozen=True)
class Outage:
    """Why nothing answers, and what to do."""

    what: str
    cure: Cure
    is_certain: bool = False  # whether the cure was tried


def explain_outage(case: "Case", err: BaseException, url: str, setting: str = "") -> Outage:
    """Explain why nothing was answered at this URL, which comes from this setting."""
    host = urlsplit(url).netloc
    setting = setting or "S3_ENDPOINT_URL"
    reason = getattr(err, "kwargs", {}).get("error", err)
    bundle = find_missing_bundle()
    if bundle is not None and url.startswith("https:"):
        return bundle
    if isinstance(err, SSLError):
        return _explain_tls(case, reason, url, setting)
    if isinstance(reason, NameResolutionError):
        return _explain_name(case, url, setting)
    if isinstance(err, ProxyConnectionError):
        name = urlsplit(url).hostname or ""
        names = ",".join(filter(None, (os.environ.get("NO_PROXY"), name)))
        return Outage(
            f"the proxy of this machine's HTTPS_PROXY or HTTP_PROXY does not answer for {host}",
            cures.run(
                "Correct the proxy; or leave it out for this host, in the environment of the"
                " service and of the doctor.",
                f"export NO_PROXY={names}",
            ),
            is_certain=True,
        )
    if isinstance(err, ConnectTimeoutError | ReadTimeoutError | ConnectionClosedError):
        other = _try_other_scheme(case, url, setting)
        if other is not None:
            return other
    if isinstance(err, ConnectTimeoutError):
        what = f"{host} does not answer: a firewall, or a wrong address"
    elif isinstance(err, ReadTimeoutError | TimeoutError):
        what = f"{host} takes the request and then says nothing for too long"
    elif isinstance(err, ConnectionClosedError):
        what = f"{host} closes the connection without an answer"
    elif isinstance(err, EndpointConnectionError):
        what = f"{host} cannot be reached: {_describe_socket(reason)}"
    else:
        what = f"{host} cannot be asked: {type(reason).__name__} ({reason})"
    return Outage(what, _correct(setting))


def _correct(setting: str) -> Cure:
    return cures.set_lines(
        f"Correct {setting}, or start what should answer there.", **{setting: "<its address>"}
    )


def _describe_socket(reason: Any) -> str:
    words = str(reason)
    return "nobody listens at that port" if "refused" in words else words.rpartition(": ")[2]


def _explain_name(case: "Case", url: str, setting: str) -> Outage:
    host = urlsplit(url).hostname or ""
    what = f"there is no host {host}"
    if setting == "S3_ENDPOINT_URL" and case.current.endpoint_url is None:
        # It is AWS's own: the region exists, or an earlier look would have told.
        region = f"s3.{case.current.region}.amazonaws.com"
        sentence = "See whether this machine reaches the network, and a server of names."
        return Outage(
            f"{what}, as this machine sees it", cures.run(sentence, f"getent hosts {region}")
        )
    return Outage(what, _correct(setting))


def _explain_tls(case: "Case", reason: Any, url: str, setting: str) -> Outage:
    host = urlsplit(url).netloc
    words = str(reason)
    if any(word in words for word in _NO_TLS):
        other = _try_other_scheme(case, url, setting)
        if other is not None:
            return other
        return Outage(f"what answers at {host} does not speak TLS", _correct(setting))
    if "CERTIFICATE_VERIFY_FAILED" not in words:
        return Outage(f"no TLS is agreed on with {host}: {words}", _correct(setting))
    why = words.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or words
    if "mismatch" in why or "not valid for" in why:
        return Outage(f"the certificate at {host} is another's: {why}", _correct(setting))
    if "expired" in why or "not yet valid" in why:
        what = f"the certificate at {host} is out of date by this machine's clock"
        return Outage(what, Cure("Renew it, or set this machine's clock."))
    file = find_own_certificates(urlsplit(url).hostname or "", urlsplit(url).port or 443)
    what = f"the certificate at {host} is signed by an authority that boto3 does not trust ({why})"
    return Outage(
        what,
        cures.run(
            "Let boto3 trust that authority: set this in the environment of the service and of the"
            " doctor.",
            f"export AWS_CA_BUNDLE={file or '<the file with its certificate>'}",
        ),
        is_certain=bool(file),
    )


def find_missing_bundle() -> Outage | None:
    """Tell of a file of certificates that the environment names and that is not there."""
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        file = os.environ.get(name)
        if file and not Path(file).exists():
            what = f"{name} names {file}, and there is no such file"
            return Outage(what, cures.run("Correct it, or unset it.", f"unset {name}"), True)
    return None


def find_own_certificates(host: str, port: int) -> str:
    """Find the file of certificates by which this machine itself trusts a host; '' if none does."""
    paths = ssl.get_default_verify_paths()
    if not paths.cafile:
        return ""
    try:
        context = ssl.create_default_context(cafile=paths.cafile)
        with (
            socket.create_connection((host, port), timeout=3) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return paths.cafile
    except (OSError, ValueError):
        return ""


def _try_other_scheme(case: "Case", url: str, setting: str) -> Outage | None:
    """Tell if the same port speaks HTTP where HTTPS was spoken to it, or the other way round."""
    parts = urlsplit(url)
    scheme = "http" if parts.scheme == "https" else "https"
    try:
        case.ask("GET", urlunsplit(parts._replace(scheme=scheme)))
    except SSLError as err:
        if "CERTIFICATE_VERIFY_FAILED" not in str(err):
            return None  # it is TLS, but for whom it is not the question here
    except (BotoCoreError, OSError):
        return None
    given = case.current.endpoint_url or url
    if setting == "S3_PUBLIC_BASE_URL":
        given = case.current.public_base_url or url
    corrected = urlunsplit(urlsplit(given)._replace(scheme=scheme))
    return Outage(
        f"{parts.netloc} speaks {scheme.upper()}, and the settings say {parts.scheme}",
        cures.set_lines("Correct the scheme.", **{setting: corrected}),
        is_certain=True,
    )
