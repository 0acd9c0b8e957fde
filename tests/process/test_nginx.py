"""Proves that docs/deploy.md works: its block in Debian's nginx, before a real service; its units.

One nginx and one service for all of it, over TLS and below a path.
"""

import contextlib
import datetime
import http.client
import ipaddress
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config import MIB, Settings
from errors import FileTooLarge, OutcomeUnknown
from files.kinds import KINDS
from ops import serving
from pictures.renditions import RenditionFormat
from tests.support.connections import LateGoodbye
from tests.support.pictures import jpeg
from tests.support.services import (
    ROOT,
    Account,
    Service,
    assert_problem,
    free_port,
    read_answer,
    wait_until,
)

PAGE = (ROOT / "docs" / "deploy.md").read_text()
(BLOCK,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
UNITS = re.findall(r"`/etc/systemd/system/([\w.-]+)`:\n\n```ini\n(.*?)^```$", PAGE, re.M | re.S)
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PATH = "/photos"
UVICORNS_SECONDS = 5.0
UPLOADS = 24
SAME_HEADERS = {
    "cache-control",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "referrer-policy",
    "x-content-type-options",
}

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path answers;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{block}
}}
"""


@dataclass(frozen=True)
class Proxied:
    """A service, and a client that reaches it through nginx only."""

    service: Service
    url: str
    client: httpx.Client
    tls: ssl.SSLContext
    media: Path
    folder: Path  # of nginx, with its certificate


def write_certificate(folder: Path) -> None:
    """Write a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test of Darkroom")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def replace_all(text: str, replacements: dict[str, str]) -> str:
    """Replace what the page shows by what this test has; each must be there."""
    for shown, ours in replacements.items():
        assert shown in text, shown
        text = text.replace(shown, ours)
    return text


@contextlib.contextmanager
def running_nginx(folder: Path, port: int, service_port: int, media: Path) -> Iterator[None]:
    write_certificate(folder)
    replacements = {
        "127.0.0.1:8000": f"127.0.0.1:{service_port}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "server_name example.com": "server_name 127.0.0.1",
        "/etc/ssl/example.com.pem": str(folder / "certificate.pem"),
        "/etc/ssl/private/example.com.key": str(folder / "key.pem"),
        "/var/lib/darkroom/media/": f"{media}/",
    }
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(block=replace_all(BLOCK, replacements)))
    assert NGINX is not None
    command = [NGINX, "-p", str(folder), "-e", "error.log", "-c", str(configuration)]
    nginx = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def listens() -> bool:
        assert nginx.poll() is None, nginx.stderr and nginx.stderr.read()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        wait_until(listens, "nginx listens")
        yield
    finally:
        nginx.terminate()
        nginx.communicate()


@contextlib.contextmanager
def open_client(folder: Path, url: str) -> Iterator[tuple[httpx.Client, ssl.SSLContext]]:
    tls = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    with httpx.Client(base_url=url, verify=tls, trust_env=False, timeout=60) as client:
        yield client, tls


@pytest.fixture
def proxied(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Proxied]:
    port = free_port()
    url = f"https://127.0.0.1:{port}{PATH}"
    data_dir = tmp_path / "data"
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(data_dir),
        "STORAGE": "local",
        "PUBLIC_URL": url,
    }
    service = Service(settings, command=[sys.executable, str(ROOT / "main.py")])
    service.start()
    folder = tmp_path / "nginx"
    folder.mkdir()
    try:
        with (
            running_nginx(folder, port, service.port, data_dir / "media"),
            open_client(folder, url) as (client, tls),
        ):
            yield Proxied(service, url, client, tls, data_dir / "media", folder)
    finally:
        service.stop()


@needs_nginx
def test_the_block_of_the_page_serves_all_that_the_service_does(proxied: Proxied) -> None:
    idle = http.client.HTTPConnection("127.0.0.1", proxied.service.port)
    ask(idle)
    idle_since = time.monotonic()
    account = check_the_way_of_a_picture(proxied)
    check_tls(proxied)
    check_who_asks(proxied, believed="127.0.0.2")
    check_many_uploads(proxied, account)
    check_pages(proxied)
    check_private_keys(proxied)
    check_large_bodies(proxied, account)
    check_early_answer(proxied, account)
    check_idle_connection(idle, idle_since)
    check_service_away(proxied, account)


def check_who_asks(proxied: Proxied, *, believed: str) -> None:
    """The log names whom nginx names, if the service believes nginx; whoever else asks is asked.

    The client says that it is another, which counts for nothing with nginx as the page has it.
    """
    hostile = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "ftp"}
    # Another address of this machine than the one from which nginx asks the service.
    transport = httpx.HTTPTransport(verify=proxied.tls, local_address="127.0.0.2")
    with httpx.Client(transport=transport, trust_env=False) as client:
        asked = client.get(f"{proxied.url}/users/4711", headers=hostile)
    assert_problem(asked, 404, "user_not_found")
    # The line is written behind the answer.
    wait_until(lambda: "/users/4711" in proxied.service.log(), "the request is in the log")
    (line,) = [line for line in proxied.service.log().splitlines() if "/users/4711" in line]
    assert f'"client": "{believed}"' in line


def check_idle_connection(idle: http.client.HTTPConnection, since: float) -> None:
    """The service keeps it for longer than uvicorn does by itself, which is 5 seconds."""
    time.sleep(max(0.0, since + UVICORNS_SECONDS + 1.5 - time.monotonic()))
    ask(idle)
    idle.close()


def ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/health/live")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200


def check_the_way_of_a_picture(proxied: Proxied) -> Account:
    """Pictures have whole URLs of the proxy, and nginx serves them from the folder, as we do."""
    account = proxied.service.register("alice")
    client = proxied.client
    default = client.get(f"/users/{account.id}").json()["image_path"]
    assert default == f"{proxied.url}/static/profile_pics/default.jpg"
    assert client.get(default).headers["cache-control"] == "public, max-age=86400"
    answer = send(proxied, account, jpeg())
    url = answer.json()["image_path"]
    assert url.startswith(f"{proxied.url}/media/profile_pics/")
    served = client.get(url)
    assert served.status_code == 200
    assert "/media/" not in proxied.service.log()
    directly = proxied.service.get_picture(url.removeprefix(proxied.url))
    assert served.content == directly.content
    for name in SAME_HEADERS:
        assert served.headers[name] == directly.headers[name], name
    part = client.get(url, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, served.content[:10])
    unchanged = client.get(url, headers={"If-None-Match": served.headers["etag"]})
    assert unchanged.status_code == 304
    assert_problem(client.post(url), 405, "method_not_allowed")
    assert_problem(
        client.get(url, headers={"Range": "bytes=9999999-"}), 416, "range_not_satisfiable"
    )
    assert_problem(client.get(f"{url}.none"), 404, "object_not_found")
    check_types(proxied)
    assert_problem(client.get("/media/profile_pics/"), 404, "object_not_found")
    return account


def check_types(proxied: Proxied) -> None:
    """Of each format that is made nginx says what it is, as the service does."""
    for prefix in ("profile_pics", "photos", "thumbnails"):
        for file_format in RenditionFormat:
            key = f"{prefix}/{'0' * 32}{file_format.suffix}"
            path = proxied.media / key
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"a picture")
            answer = proxied.client.head(f"/media/{key}")
            assert answer.headers["content-type"] == file_format.content_type
            path.unlink()


def send(proxied: Proxied, account: Account, content: bytes) -> httpx.Response:
    return proxied.client.patch(
        f"/users/{account.id}/picture",
        headers=account.headers,
        files={"file": ("photo.jpg", content)},
    )


def check_tls(proxied: Proxied) -> None:
    """What is out of date is refused, whatever the system's own settings still allow."""
    assert find_cipher(proxied, "ECDHE-ECDSA-AES128-GCM-SHA256") == "ECDHE-ECDSA-AES128-GCM-SHA256"
    with pytest.raises(ssl.SSLError):
        find_cipher(proxied, "ECDHE-ECDSA-AES128-SHA")
    assert re.findall("ssl_protocols (.*);", BLOCK) == ["TLSv1.2 TLSv1.3"]


def find_cipher(proxied: Proxied, offered: str) -> str | None:
    """What is agreed upon with a client of TLS 1.2 that knows no other cipher."""
    tls = ssl.create_default_context(cafile=str(proxied.folder / "certificate.pem"))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers(offered)
    address = httpx.URL(proxied.url)
    assert address.port is not None
    with (
        socket.create_connection((address.host, address.port), timeout=60) as bare,
        tls.wrap_socket(bare, server_hostname=address.host) as connection,
    ):
        agreed = connection.cipher()
        return agreed[0] if agreed else None


def check_many_uploads(proxied: Proxied, account: Account) -> None:
    """None is lost on a connection that is used again."""
    pictures = [jpeg(200 + number, 200) for number in range(UPLOADS)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda picture: send(proxied, account, picture), pictures))
    assert {answer.status_code for answer in answers} == {200}


def check_pages(proxied: Proxied) -> None:
    """Whoever opens the address is led to the page, which loads all it needs below the path."""
    client = proxied.client
    bare = client.get(f"{proxied.url}/")
    assert (bare.status_code, bare.headers["location"]) == (307, "docs")
    assert client.get(proxied.url).headers["location"] == f"{PATH}/"
    page = client.get("/docs")
    assert page.status_code == 200
    for address in re.findall(r'(?:href|src)="([^"]+)"', page.text):
        found = client.get(page.url.join(address))
        assert (found.status_code, "immutable" in found.headers["cache-control"]) == (200, True)
    document = client.get(page.url.join("openapi.json")).json()
    assert document["servers"] == [{"url": proxied.url}]
    assert_problem(client.get("/users/"), 404, "not_found")


def check_private_keys(proxied: Proxied) -> None:
    """What is not public goes through the service, by whatever spelling, and is refused there."""
    for folder in ("private_pics", ".drafts"):
        (proxied.media / folder).mkdir(exist_ok=True)
        (proxied.media / folder / "secret.jpg").write_bytes(b"secret")
    spellings = (
        "private_pics/secret.jpg",
        ".drafts/secret.jpg",
        "profile_pics/../private_pics/secret.jpg",
        "profile_pics/%2e%2e/private_pics/secret.jpg",
        "profile_pics/..%2fprivate_pics/secret.jpg",
        "profile_pics%2f..%2fprivate_pics%2fsecret.jpg",
        "profile_pics//../../media/private_pics/secret.jpg",
        "profile_pics../private_pics/secret.jpg",
    )
    with connect(proxied) as connection:
        # Not by the client, which would simplify them.
        for spelling in spellings:
            request = f"GET {PATH}/media/{spelling} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            connection.sendall(request.encode())
            answer = read_answer(connection)
            assert b"secret" not in answer.content, spelling
            assert_problem(answer, 404, "object_not_found")


@contextlib.contextmanager
def connect(proxied: Proxied) -> Iterator[ssl.SSLSocket]:
    address = ("127.0.0.1", httpx.URL(proxied.url).port or 443)
    with (
        socket.create_connection(address, timeout=60) as bare,
        proxied.tls.wrap_socket(bare, server_hostname="127.0.0.1") as connection,
    ):
        yield connection


def check_large_bodies(proxied: Proxied, account: Account) -> None:
    """What is far too large nginx refuses, what is a little too large the service; both alike."""
    limit_bytes = Settings().max_upload_size_bytes
    a_little = send(proxied, account, jpeg() + bytes(limit_bytes))
    assert_problem(a_little, 413, "file_too_large")
    far = send(proxied, account, bytes(limit_bytes + 2 * MIB))
    assert_problem(far, 413, FileTooLarge.code)
    assert (far.json()["title"], far.json()["detail"]) == (
        FileTooLarge.title,
        FileTooLarge.sentence,
    )


def check_early_answer(proxied: Proxied, account: Account) -> None:
    """A refusal comes before the body: nginx hands on what it has, and does not collect it."""
    with connect(proxied) as connection:
        lines = [
            f"PATCH {PATH}/users/{account.id}/picture HTTP/1.1",
            "Host: 127.0.0.1",
            "Content-Type: multipart/form-data; boundary=x",
            f"Content-Length: {4 * MIB}",
        ]
        connection.sendall("\r\n".join([*lines, "", "--x"]).encode())
        assert_problem(read_answer(connection), 401, "not_authenticated")


def check_service_away(proxied: Proxied, account: Account) -> None:
    """Pictures are still served; all else is refused in our shape, and may be tried again."""
    url = proxied.client.get(f"/users/{account.id}").json()["image_path"]
    proxied.service.stop()
    assert proxied.client.get(url).status_code == 200
    away = send(proxied, account, jpeg())
    assert_problem(away, 503, OutcomeUnknown.code)
    assert (away.json()["title"], away.json()["detail"]) == (
        OutcomeUnknown.title,
        OutcomeUnknown.sentence,
    )
    assert int(away.headers["retry-after"]) >= 1


@pytest.fixture
def misconfigured(
    new_database: Callable[[], str], tmp_path: Path
) -> Iterator[tuple[Proxied, LateGoodbye]]:
    """A service that is told nothing of nginx, and lets go of a connection before nginx does."""
    port = free_port()
    data_dir = tmp_path / "data"
    settings = {
        "DATABASE_URL": new_database(),
        "DATA_DIR": str(data_dir),
        "STORAGE": "local",
        "KEEP_ALIVE_SECONDS": "1",
        "FORWARDED_ALLOW_IPS": "192.0.2.1",
    }
    service = Service(settings, command=[sys.executable, str(ROOT / "main.py")])
    service.start()
    url = f"https://127.0.0.1:{port}{PATH}"
    media = data_dir / "media"
    try:
        with (
            LateGoodbye(service.port) as relay,
            running_nginx(tmp_path, port, relay.port, media),
            open_client(tmp_path, url) as (client, tls),
        ):
            yield Proxied(service, url, client, tls, media, tmp_path), relay
    finally:
        service.stop()


@needs_nginx
def test_what_the_page_warns_of_happens(misconfigured: tuple[Proxied, LateGoodbye]) -> None:
    proxied, relay = misconfigured
    account = proxied.service.register("alice")
    check_who_asks(proxied, believed="127.0.0.1")
    asked = proxied.client.get(f"/users/{account.id}")
    # It names no scheme and no host, and so none that a proxy hides from it.
    assert asked.json()["image_path"] == "/static/profile_pics/default.jpg"
    assert proxied.client.get("/").headers["location"] == "docs"
    # Over which nginx sends the next upload all the same.
    wait_until(lambda: not relay.open, "the service closed the idle connection")
    assert_problem(send(proxied, account, jpeg()), 503, OutcomeUnknown.code)
    assert "PATCH" not in proxied.service.log()
    assert send(proxied, account, jpeg()).status_code == 200


def test_nginx_opens_the_public_prefixes_of_the_table_of_kinds_and_no_others() -> None:
    opened = re.findall(r"alias /var/lib/darkroom/media/(\S*);", BLOCK)
    assert sorted(opened) == sorted(kind.prefix for kind in KINDS if kind.is_public)
    assert re.findall(rf"location \^~ {PATH}/media/(\S*) {{", BLOCK) == opened


def test_the_proxy_lets_go_of_a_connection_before_the_service_does() -> None:
    (proxy_seconds,) = re.findall(r"keepalive_timeout (\d+)s;", BLOCK)
    assert int(proxy_seconds) < Settings().keep_alive_seconds
    settings = Settings(keep_alive_seconds=7)
    assert serving._make_config("main:app", settings).timeout_keep_alive == 7


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    assert [name for name, _ in UNITS] == ["darkroom.service", "darkroom-worker.service"]
    for name, unit in UNITS:
        ours = replace_all(unit, {"/opt/darkroom/.venv/bin/python": sys.executable})
        (tmp_path / name).write_text(ours.replace("/opt/darkroom", str(ROOT)))
    command = ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name, _ in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
