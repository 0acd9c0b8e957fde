"""As whom Postgres runs, which refuses to be root and must read nothing of root's.

An ordinary user runs it as himself. Root runs it under a user number of its own where that can
enter every folder it needs, and else in a user namespace, fenced by Landlock.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from errors import StartupError

# Of root's Postgres. systemd's table of user numbers leaves 65520 to 65533 unused, Debian's policy
# too, and a container has no number above 65535.
OWN_UID = 65_522
LAUNCHER = Path(__file__).with_name("postgres_launcher.py")
# Where a fenced Postgres may read and execute: its libraries, the shell through which initdb calls
# it, the names of users, the time zone. Of /etc no folder, for it holds secrets.
READABLE = (
    *("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix/store", "/sys/devices/system/cpu"),
    *("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"),
    *("/etc/localtime", "/etc/timezone", "/proc/meminfo", "/dev/urandom", "/dev/zero"),
)
WRITABLE = ("/dev/null", "/dev/shm")  # noqa: S108 (shared memory)
CURES = "Start Darkroom as an ordinary user, or set DATABASE_URL to a PostgreSQL of yours."
CURES_WITHOUT_NAME = (
    "Start Darkroom as a user who has a name in /etc/passwd,"
    " or set DATABASE_URL to a PostgreSQL of yours."
)


@dataclass(frozen=True)
class Account:
    """The rights that Postgres runs with: those of the service, but for what is set here."""

    uid: int | None = None  # of another user, who is in this one group
    gid: int | None = None
    uid_inside: int | None = None  # what ours is called in a user namespace of its own
    is_fenced: bool = False

    @property
    def owner(self) -> tuple[int, int]:
        """The user and group to whom its files belong."""
        if self.uid is None or self.gid is None:
            return os.geteuid(), os.getegid()
        return self.uid, self.gid

    def prefix(self, programs: Path, writable: tuple[Path, ...]) -> list[str]:
        """Give the words before a command that may write below these folders only, if fenced.

        With them it also ends with the thread that starts it.
        """
        if not sys.platform.startswith("linux"):
            return []
        orders = {
            "uid": self.uid,
            "gid": self.gid,
            "uid_inside": self.uid_inside,
            "is_confined": self.uid is not None or self.is_fenced,
            "readable": [*READABLE, *_find_installation(programs)],
            "writable": [*WRITABLE, *map(str, writable)] if self.is_fenced else [],
            "entered": [str(folder) for folder in writable],
            "parent": os.getpid(),
        }
        return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(orders)]

    def with_a_name(self) -> "Account":
        """The same where initdb runs, which asks for the name of its user.

        The group stays: it alone opens the folder in which the cluster is made.
        """
        if self.uid is not None:
            return replace(self, uid=_find_nobody())
        if self.uid_inside is None and _is_nameless(os.geteuid()):
            return replace(self, uid_inside=_find_nobody())
        return self

    def check_can_make(self, programs: Path) -> None:
        """Raise StartupError where a user without a name cannot be given one for initdb."""
        if self.uid is not None or self.with_a_name() == self:
            return
        refusal = _try(self.with_a_name(), programs, ())
        if refusal is not None:
            raise StartupError(
                f"The embedded database cannot be made by user {os.geteuid()}, who has no name:"
                f" {refusal}. {CURES_WITHOUT_NAME}"
            )

    def take_over(self, folder: Path) -> None:
        """Make all in the folder this account's.

        The folder itself comes last, so that what a crash cut short is done again.
        """
        owner = self.owner
        found = folder.lstat()
        if os.geteuid() != 0 or (found.st_uid, found.st_gid) == owner:
            return
        for path, folders, files in os.walk(folder, topdown=False):
            for name in (*folders, *files):
                os.chown(Path(path) / name, *owner, follow_symlinks=False)
        os.chown(folder, *owner, follow_symlinks=False)


def choose_account(programs: Path, folder: Path) -> Account:
    """Choose as whom the cluster in this folder, or to be in it, is run; raises StartupError."""
    if os.geteuid() != 0:
        return Account()
    uid, gid = _find_owner(folder)
    own = Account(uid=uid, gid=gid)
    fenced = Account(uid_inside=_find_nobody(), is_fenced=True)
    refusals = []
    for account in (own, fenced):
        refusal = _try(account, programs, (folder.parent,))
        if refusal is None:
            return account
        refusals.append(refusal)
    raise StartupError(
        f"As root the embedded database can run neither as a user of its own ({refusals[0]}) nor"
        f" in a namespace ({refusals[1]}). {CURES}"
    )


def _find_owner(folder: Path) -> tuple[int, int]:
    """Find who is to own the cluster: whoever does, but not root."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return OWN_UID, OWN_UID
    if found.st_uid == 0:
        return OWN_UID, OWN_UID
    return found.st_uid, found.st_gid


def _try(account: Account, programs: Path, entered: tuple[Path, ...]) -> str | None:
    """Try to become it, enter the folders and run a program; return what was refused."""
    if account.uid == OWN_UID and not _is_nameless(OWN_UID):
        return f"the user number {OWN_UID} is somebody's"
    command = [*account.prefix(programs, entered), str(programs / "postgres"), "--version"]
    if len(command) == 2:
        return "this system is not Linux"
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines()
    return said[-1] if said else f"status {tried.returncode}"


def _find_installation(programs: Path) -> list[str]:
    """Find what the programs load: their own folder, and libraries that a wheel keeps beside it."""
    package = programs.parent.parent
    return [str(programs.parent), str(package.with_name(f"{package.name}.libs"))]


def _is_nameless(uid: int) -> bool:
    import pwd  # not everywhere, and only root and nameless users get here

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return True
    return False


def _find_nobody() -> int:
    import pwd

    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65_534
