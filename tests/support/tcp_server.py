"""A PostgreSQL that listens on loopback's TCP and speaks TLS, as one on another machine does.

The embedded one and the tests' own listen in a folder alone.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.certificates import Certificate
from tests.support.services import free_port, wait_until

# Postgres refuses to be root, and initdb wants its user to have a name, as number 65534 does.
AS_NOBODY = ("unshare", "--user", "--map-user=65534") if os.geteuid() == 0 else ()
ROLE = "postgres"


@contextlib.contextmanager
def running_tls_server(
    programs: Path, folder: Path, server: Certificate, authority: Certificate
) -> Iterator[int]:
    """Run one that takes nobody without TLS; yields its port, and ends with the context."""
    data = folder / "tls"
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(
        [
            *(*AS_NOBODY, str(programs / "initdb"), "-D", str(data), "-U", ROLE),
            *("--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"),
        ],
        env=environment,
        check=True,
        capture_output=True,
    )
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": server.file,
        "ssl_key_file": server.key_file,
        "ssl_ca_file": authority.file,
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [*AS_NOBODY, str(programs / "postgres"), "-D", str(data), *options]
    log = folder / "tls.log"
    with open(log, "wb") as said:
        running = subprocess.Popen(command, env=environment, stderr=said)
    try:
        wait_until(lambda: "ready to accept" in log.read_text(), "the server accepts connections")
        yield port
    finally:
        running.terminate()
        running.wait()
