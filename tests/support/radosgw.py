"""Ceph's S3 gateway, on a cluster of one process each: the one server here that obeys policies.

Debian's packages ceph-mon, ceph-osd and radosgw; everything lies in one folder and in memory, and
listens on loopback. It answers after some ten seconds.
"""

import contextlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.services import free_port, wait_until

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin")
START_SECONDS = 60
END_SECONDS = 30
# One pool has one placement group, and nothing is kept twice.
CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
run_dir = {folder}/run
admin_socket = {folder}/run/$name.$pid.asok
log_file = {folder}/$name.log
keyring = {folder}/keyring
mon_data = {folder}/mon
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_data = {folder}/osd
osd_objectstore = memstore
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_thread_pool_size = 16
"""


def find_missing_programs() -> list[str]:
    """Name the programs of Ceph that this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@dataclass(frozen=True)
class Radosgw:
    """A running gateway."""

    endpoint: str
    configuration: Path

    def user(self, name: str, *options: str) -> dict[str, str]:
        """Make a user that owns nothing; return the settings with its keys."""
        told = _run(
            *("radosgw-admin", "-c", str(self.configuration), "user", "create"),
            *(f"--uid={name}", f"--display-name={name}", *options),
        )
        keys = json.loads(told)["keys"][0]
        return {
            "S3_ACCESS_KEY_ID": keys["access_key"],
            "S3_SECRET_ACCESS_KEY": keys["secret_key"],
        }


@contextlib.contextmanager
def radosgw_server(folder: Path) -> Iterator[Radosgw]:
    """Run a gateway with its files in the folder; yields it once it answers."""
    mon_port = free_port()
    port = free_port()
    fsid = str(uuid.uuid4())
    configuration = folder / "ceph.conf"
    configuration.write_text(
        CONFIGURATION.format(fsid=fsid, mon_port=mon_port, folder=folder, port=port)
    )
    for name in ("run", "mon", "osd"):
        (folder / name).mkdir()
    _make_keys(folder / "keyring")
    monmap = folder / "monmap"
    address = f"[v2:127.0.0.1:{mon_port}]"
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "one", address, str(monmap))
    given = ("-c", str(configuration))
    _run("ceph-mon", *given, "--mkfs", "-i", "one", "--monmap", str(monmap))
    with contextlib.ExitStack() as stack:
        _start(stack, "ceph-mon", *given, "-i", "one", "-f", "--public-addrv", address)
        disk = str(uuid.uuid4())
        _run("ceph", *given, "--connect-timeout", str(START_SECONDS), "osd", "new", disk)
        _run("ceph-osd", *given, "-i", "0", "--mkfs", "--osd-uuid", disk)
        _start(stack, "ceph-osd", *given, "-i", "0", "-f")
        _start(stack, "radosgw", *given, "-n", "client.admin", "-f")
        endpoint = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(endpoint), "the gateway answers")
        yield Radosgw(endpoint, configuration)


def _make_keys(keyring: Path) -> None:
    everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
    _run("ceph-authtool", "--create-keyring", str(keyring), "--gen-key", "-n", "mon.", *everything)
    _run("ceph-authtool", str(keyring), "--gen-key", "-n", "client.admin", *everything)
    of_a_disk = ("--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
    _run("ceph-authtool", str(keyring), "--gen-key", "-n", "osd.0", *of_a_disk)


def _start(stack: contextlib.ExitStack, *command: str) -> None:
    # What it has to say is also in its log.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        process.terminate()
        process.wait(END_SECONDS)

    stack.callback(end)


def _run(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _answers(endpoint: str) -> bool:
    try:
        return httpx.get(endpoint, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
