"""Proves that every way to run Darkroom works as the README says.

That is main.py, uvicorn, fastapi dev, alembic, cli.py and the scripts.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from config import STARTUP_FAILURE_STATUS
from ops.launch import INTERRUPTED_STATUS
from tests.support import warm
from tests.support.databases import make_database
from tests.support.log_lines import read_messages
from tests.support.pictures import corners, jpeg
from tests.support.services import (
    ROOT,
    Account,
    Service,
    free_port,
    get,
    postmaster,
    processes_below,
    wait_until,
    wait_until_none_is_left,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/cwd").exists(), reason="looks for processes in Linux' /proc"
)

MAIN = [sys.executable, str(ROOT / "main.py")]
PICTURE = ["red", "green", "blue", "white"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty working directory; when the test is over no process may work in it or below it."""
    made = tmp_path / "work"
    made.mkdir()
    yield made
    wait_until_none_is_left(tmp_path)


NAMELESS = ("unshare", "--user", "--map-user=54321", "--map-group=54321")


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Service]]:
    """Starts a service by a command, in a process group of its own as a terminal does.

    Python is forked from the tests' warm process, unless the command begins with another word.
    """
    started: list[Service] = []

    def run(command: list[str], **settings: str) -> Service:
        service = Service({"DATA_DIR": str(folder), **settings}, leads_group=True)
        service.command = [word.replace("PORT", str(service.port)) for word in command]
        started.append(service)
        service.start()
        return service

    yield run
    for service in started:
        service.stop()


def uvicorn(*options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "uvicorn",
        "main:app",
        "--app-dir",
        str(ROOT),
        "--port",
        "PORT",
        *options,
    ]


def run(
    *command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with the environment of the tests unless another is given."""
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def alembic(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return warm.run("-m", "alembic", *words, cwd=ROOT, env={**os.environ, **settings})


def cli(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return warm.run(ROOT / "cli.py", *words, cwd=ROOT, env={**os.environ, **settings})


def newest_revision() -> str:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic").replace("%", "%%"))
    return ScriptDirectory.from_config(config).get_current_head() or "none"


def assert_a_picture_is_served(service: Service) -> tuple[Account, str]:
    alice = service.register()
    answer = service.patch_picture(alice, jpeg())
    assert answer.status_code == 200, answer.text
    path = answer.json()["image_path"]
    assert corners(service.get_picture(path).content) == PICTURE
    return alice, path


def kill(service: Service) -> None:
    """kill -9, and wait until its port is free again."""
    assert service.stop(signal.SIGKILL) == -signal.SIGKILL

    def is_free() -> bool:
        try:
            get(f"{service.url}/health/live", timeout=5)
        except httpx.ConnectError:
            return True
        except httpx.HTTPError:
            pass
        return False

    wait_until(is_free, "the port is free again")


def assert_it_tells_its_start(messages: list[str], *, starts: int) -> None:
    started = [message for message in messages if message.startswith("Started server process")]
    waited = messages.count("Waiting for application startup.")
    assert (len(started), waited) == (starts, starts), messages


def test_main_py_needs_nothing_and_says_where_it_is(
    folder: Path, start: Callable[..., Service]
) -> None:
    service = start(["env", *MAIN])
    data = folder
    said = [line.split() for line in service.log().splitlines()]
    (first,) = (number for number, words in enumerate(said) if words[0] == "Darkroom")
    assert said[first][1:3] == ["listens", "on"] and service.url in said[first]
    assert said[first + 1 : first + 6] == [
        ["for", "development"],
        ["settings", "of", "the", "environment", "only"],
        ["data", str(data)],
        ["database", "embedded", "PostgreSQL"],
        ["store", "local:", "folder", str(data / "media")],
    ]
    alice, path = assert_a_picture_is_served(service)
    kill(service)
    service.start()
    assert corners(service.get_picture(path).content) == PICTURE
    with service.client(alice) as client:
        assert client.get("/users/me").json()["image_path"] == path
    assert service.stop() == 0
    assert not processes_below(folder)
    assert_it_tells_its_start(read_messages(service.log()), starts=2)
    assert len(list((data / "media" / "profile_pics").iterdir())) == 1


def test_a_user_without_a_name_serves_with_its_own_database(
    folder: Path, start: Callable[..., Service]
) -> None:
    if run(*NAMELESS, "true").returncode != 0:
        pytest.skip("this machine lets nobody be a user without a name")
    service = start([*NAMELESS, *MAIN])
    assert_a_picture_is_served(service)
    assert service.stop() == 0


def test_main_py_with_two_workers_survives_kill_9(
    folder: Path, start: Callable[..., Service]
) -> None:
    """The host names the number of workers in its own way, and words count before settings."""
    given = {"HOST": "192.0.2.1", "PORT": "9", "WEB_CONCURRENCY": "2"}
    service = start([*MAIN, "--host", "127.0.0.1", "--port", "PORT"], **given)
    wait_until(lambda: f"listens on {service.url}" in service.log(), "words count before settings")
    wait_until(lambda: service.log().count("startup complete") == 2, "both workers started")
    _, path = assert_a_picture_is_served(service)
    assert service.process is not None
    workers = [pid for pid, command in processes_below(folder).items() if "spawn_main" in command]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: service.log().count("startup complete") == 3, "another took its place")
    kill(service)
    service.start()
    wait_until(lambda: service.log().count("startup complete") == 5, "both workers started again")
    assert corners(service.get_picture(path).content) == PICTURE
    assert service.stop() == 0
    wait_until_none_is_left(folder)
    told = read_messages(service.log())
    assert_it_tells_its_start(told, starts=5)
    assert f"Child process [{workers[0]}] died" in told
    assert [line for line in told if line.startswith("Waiting for child process")]


def test_uvicorn_with_two_workers_serves_with_a_database_url(
    folder: Path, start: Callable[..., Service], new_database: Callable[[], str]
) -> None:
    service = start(uvicorn("--workers", "2"), WORKERS="2", DATABASE_URL=new_database())
    assert_a_picture_is_served(service)
    service.stop()
    wait_until_none_is_left(folder)
    assert not (folder / "postgres").exists()
    # What uvicorn's manager of workers says is uvicorn's own, for it never loads the application.
    ours = [line for line in service.log().splitlines() if not line.startswith("INFO: ")]
    assert_it_tells_its_start(read_messages("\n".join(ours)), starts=2)


def test_uvicorn_with_two_workers_and_no_database_url_says_one_sentence_and_ends(
    folder: Path,
) -> None:
    command = [word.replace("PORT", str(free_port())) for word in uvicorn("--workers", "2")]
    # uvicorn's process manager decides on the exit status: it is always 0.
    done = run(*command, cwd=folder)
    said = done.stdout + done.stderr
    assert said.count("set DATABASE_URL") == 1, said
    assert "Traceback" not in said
    wait_until_none_is_left(folder)


def test_uvicorn_with_one_worker_keeps_the_embedded_database(
    folder: Path, start: Callable[..., Service]
) -> None:
    service = start(uvicorn())
    assert_a_picture_is_served(service)
    assert postmaster(folder) in processes_below(folder)
    service.stop()
    assert not processes_below(folder)
    assert_it_tells_its_start(read_messages(service.log()), starts=1)


def test_gunicorn_with_two_workers_keeps_the_embedded_database_and_starts_them_anew(
    folder: Path, start: Callable[..., Service]
) -> None:
    words = ("-m", "gunicorn", "main:app", "-k", "uvicorn_worker.UvicornWorker", "--chdir")
    service = start(
        [sys.executable, *words, str(ROOT), "--bind", "127.0.0.1:PORT"], WEB_CONCURRENCY="2"
    )
    wait_until(lambda: service.log().count("startup complete") == 2, "both workers started")
    _, path = assert_a_picture_is_served(service)
    assert service.process is not None
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: service.log().count("startup complete") == 4, "both were started anew")
    service.wait_until_ready()
    assert corners(service.get_picture(path).content) == PICTURE
    assert service.stop() == 0
    ours = [line for line in service.log().splitlines() if not line.startswith("[")]
    assert_it_tells_its_start(read_messages("\n".join(ours)), starts=4)
    wait_until_none_is_left(folder)


def test_fastapi_dev_works_in_the_checkout(folder: Path, start: Callable[..., Service]) -> None:
    fastapi_dev = [
        "sh",
        "-c",
        'cd "$1"; exec "$2" -m fastapi dev main.py --port PORT',
        "",
        str(ROOT),
        sys.executable,
    ]
    service = start(fastapi_dev)
    assert_a_picture_is_served(service)
    process = service.process
    assert process is not None
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in (0, 128 + signal.SIGINT)
    wait_until_none_is_left(folder)
    ours = [line for line in service.log().splitlines() if line.startswith("{")]
    assert_it_tells_its_start(read_messages("\n".join(ours)), starts=1)


def assert_the_commands_work(**settings: str) -> None:
    upgrade = alembic("upgrade", "head", **settings)
    assert upgrade.returncode == 0, upgrade.stderr
    with ThreadPoolExecutor() as pool:
        current = pool.submit(alembic, "current", **settings)
        check = pool.submit(alembic, "check", **settings)
        reap = pool.submit(cli, "reap", **settings)
        nobody = pool.submit(cli, "make-admin", "nobody@example.com", **settings)
    assert current.result().stdout.split() == [newest_revision(), "(head)"]
    assert (check.result().returncode, check.result().stdout.strip()) == (
        0,
        "No new upgrade operations detected.",
    )
    assert (reap.result().returncode, reap.result().stdout) == (0, "0 files were due.\n")
    assert (nobody.result().returncode, "nobody@example.com" in nobody.result().stdout) == (1, True)


def test_the_commands_join_a_running_service(folder: Path, start: Callable[..., Service]) -> None:
    service = start([sys.executable, str(ROOT / "main.py")])
    server = postmaster(folder)
    alice = service.register("alice")
    root = service.register("root")
    assert_the_commands_work(DATA_DIR=str(folder))
    with service.client(root) as client:
        assert client.patch(f"/users/{alice.id}", json={"username": "renamed"}).status_code == 403
        made = cli("make-admin", "ROOT@example.com", DATA_DIR=str(folder))
        assert (made.returncode, made.stdout) == (0, f"Account {root.id} is an admin.\n")
        assert (
            client.patch(f"/users/{alice.id}", json={"username": "renamed"}).json()["username"]
            == "renamed"
        )
    assert service.patch_picture(alice, jpeg()).status_code == 200
    assert postmaster(folder) == server


def test_the_commands_alone_start_the_database_for_their_lifetime(folder: Path) -> None:
    given = {"DATA_DIR": str(folder)}
    assert alembic("upgrade", "head", **given).returncode == 0
    assert not processes_below(folder)
    assert (folder / "postgres").exists()
    assert alembic("current", **given).stdout.split() == [newest_revision(), "(head)"]
    assert cli("make-admin", "nobody@example.com", **given).returncode == 1
    assert not processes_below(folder)


def test_the_commands_use_a_given_database(folder: Path, postgres: str) -> None:
    assert_the_commands_work(DATA_DIR=str(folder), DATABASE_URL=make_database(postgres, None))
    assert not (folder / "postgres").exists()


@pytest.mark.parametrize("is_embedded", [False, True], ids=["DATABASE_URL", "embedded"])
def test_several_instances_that_migrate_at_the_same_time_do_no_harm(
    folder: Path, postgres: str, is_embedded: bool
) -> None:
    settings = {"DATA_DIR": str(folder)} | (
        {} if is_embedded else {"DATABASE_URL": make_database(postgres, None)}
    )
    with ThreadPoolExecutor() as pool:
        all_at_once = [pool.submit(cli, "migrate", **settings) for _ in range(3)]
    ended = [process.result() for process in all_at_once]
    assert [(process.returncode, process.stderr) for process in ended] == [(0, "")] * 3
    assert alembic("current", **settings).stdout.split() == [newest_revision(), "(head)"]


def test_a_data_dir_that_cannot_be_made_is_one_sentence(folder: Path) -> None:
    (folder / "file").touch()
    data_dir = folder / "file" / "data"
    environment = {**os.environ, "DATA_DIR": str(data_dir), "PORT": str(free_port())}
    done = run(sys.executable, ROOT / "main.py", cwd=folder, environment=environment)
    assert done.returncode == STARTUP_FAILURE_STATUS
    assert str(data_dir) in done.stderr and len(done.stderr.splitlines()) == 1


# The scripts, as a fresh checkout on a machine without uv runs them.


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git would clone, with what is not yet committed.

    Without anything that was made in it.
    """
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    return shutil.copytree(
        ROOT, tmp_path / "checkout", ignore=shutil.ignore_patterns(".git", *ignored)
    )


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has Python and a shell, and no uv."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(
        Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    )
    wanted = (
        "sh",
        "env",
        "cat",
        "dirname",
        "mkdir",
        "chmod",
        "echo",
        "unshare",
        "setpriv",
        "setsid",
        "uname",
        "ldd",
    )
    for name in wanted:
        if (found := shutil.which(name)) is not None:
            (programs / name).symlink_to(found)
    dropped = ("VIRTUAL_ENV", "PYTHON", "UV", "PYENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment = {**kept, "PATH": str(programs)}
    assert shutil.which("uv", path=environment["PATH"]) is None
    return environment


@pytest.fixture
def index(bare: dict[str, str], folder: Path) -> None:
    """Skips where the package index cannot be reached."""
    asked = run("python3", "-m", "pip", "index", "versions", "uv", cwd=folder, environment=bare)
    if asked.returncode != 0:
        pytest.skip(f"the package index cannot be reached: {asked.stderr[-300:]}")


# Each line that a script tells uv: it installs what is needed, and then runs the program.
UV_IS_TOLD = {
    "serve": ["run --locked --no-dev sh -c :", "run --no-sync main.py"],
    "run": ["run --locked --no-dev sh -c :", "run --no-sync"],
    "test": ["run --locked sh -c :", "run --no-sync pytest"],
    "dev": ["run --locked sh -c :", "run --no-sync"],
}


# Some more than there are: what comes with a library that serving has already.
MOST_SERVING_PACKAGES = 65


def installed_packages(checkout: Path) -> set[str]:
    """The names of the packages in the environment of this checkout."""
    found = (checkout / ".venv").glob("lib/python*/site-packages/*.dist-info")
    return {path.name.partition("-")[0] for path in found}


def put_uv(environment: dict[str, str], body: str) -> None:
    """Put a new uv on the PATH, which is this piece of shell."""
    uv = Path(environment["PATH"]) / "uv"
    uv.write_text(f'#!/bin/sh\n[ "$1" != --version ] || exec echo uv 1000.0.0\n{body}\n')
    uv.chmod(0o755)


def fake_python(environment: dict[str, str], body: str) -> None:
    """Put another python3 on the PATH, which is this piece of shell.

    In it `$REAL` is the real one, and `$FAKE_UV` a stand-in for uv's program.
    """
    programs = Path(environment["PATH"])
    real = programs / "real-python"
    (programs / "python3").rename(real)
    environment["REAL"] = str(real)
    (pinned,) = re.findall(r"^uv==(\S+)", (ROOT / "scripts" / "uv.txt").read_text(), re.MULTILINE)
    uv = (
        f'#!/bin/sh\n[ "$1" != --version ] || exec echo uv {pinned}\necho uv-of-the-checkout "$@"\n'
    )
    (programs / "fake-uv").write_text(uv)
    (programs / "python3").write_text(f"#!/bin/sh\nFAKE_UV={programs / 'fake-uv'}\n{body}")
    for made in ("fake-uv", "python3"):
        (programs / made).chmod(0o755)


NO_VENV = """
if [ "$2" = venv ]; then
    mkdir -p "$3"
    echo "The virtual environment was not created successfully because ensurepip is not available."
    echo "Failing command: $3/bin/python3" >&2
    exit 1
fi
"""
NO_PIP = """
if [ "$2" = pip ]; then echo "$0: No module named pip" >&2; exit 1; fi
"""
# As PEP 668 has it: refused for the system, and no
# business of the system's in a folder of one's own.
EXTERNALLY_MANAGED = """
if [ "$2 $3" = "pip install" ]; then
    while [ $# -gt 0 ] && [ "$1" != --target ]; do shift; done
    if [ $# = 0 ]; then
        echo "error: externally-managed-environment" >&2
        exit 1
    fi
    mkdir -p "$2/bin" && cat "$FAKE_UV" >"$2/bin/uv" && chmod +x "$2/bin/uv"
    exit
fi
"""


@pytest.mark.timeout(600)
def test_without_uv_the_scripts_bring_it_into_the_checkout(
    checkout: Path, bare: dict[str, str], index: None, folder: Path
) -> None:
    data = {"DATA_DIR": str(folder)}
    migrated = run(
        *(checkout / "scripts" / "run", "cli.py", "migrate"),
        cwd=folder,
        environment={**bare, **data},
    )
    assert migrated.returncode == 0, migrated.stderr
    assert os.access(checkout / ".uv" / "bin" / "uv", os.X_OK)
    serving = installed_packages(checkout)
    assert len(serving) <= MOST_SERVING_PACKAGES and "pytest" not in serving
    tested = run(checkout / "scripts" / "test", "--version", cwd=folder, environment=bare)
    assert tested.returncode == 0, tested.stderr
    assert tested.stdout.startswith("pytest ")
    everything = installed_packages(checkout)
    assert everything > serving and "pytest" in everything
    service = Service({"DATA_DIR": str(folder)}, command=[str(checkout / "scripts" / "serve")])
    command = [
        "setsid",
        "env",
        "-i",
        *(f"{name}={value}" for name, value in {**bare, **service.settings}.items()),
    ]
    service.command = [*command, f"PORT={service.port}", *service.command]
    try:
        service.start()
        assert_a_picture_is_served(service)
        assert service.process is not None
        # As a terminal does, whose Ctrl-C reaches the shell's program, uv and the service alike.
        os.killpg(service.process.pid, signal.SIGINT)
        assert service.process.wait(60) == INTERRUPTED_STATUS
    finally:
        service.stop()
    wait_until_none_is_left(folder)
    assert_it_tells_its_start(read_messages(service.log()), starts=1)
    assert installed_packages(checkout) == everything


@pytest.mark.timeout(600)
def test_without_uv_and_pip_a_virtual_environment_brings_it(
    checkout: Path, bare: dict[str, str], index: None, folder: Path
) -> None:
    fake_python(bare, NO_PIP + 'exec "$REAL" "$@"\n')
    (checkout / "main.py").write_text("print('it runs')\n")
    (checkout / "pyproject.toml").write_text(
        "[project]\nname = 'x'\nversion = '1'\nrequires-python = '>=3.11'\n"
    )
    (checkout / "uv.lock").unlink()
    script = checkout / "scripts" / "find_uv"
    script.write_text(script.read_text().replace(" --locked", ""))  # for nothing is locked
    done = run(checkout / "scripts" / "serve", cwd=folder, environment=bare)
    assert (done.returncode, done.stdout.strip()) == (0, "it runs"), done.stderr
    assert os.access(checkout / ".uv" / "bin" / "uv", os.X_OK)


@pytest.mark.parametrize("script", ["serve", "test"])
def test_where_the_systems_pip_refuses_uv_comes_into_the_checkout(
    checkout: Path, bare: dict[str, str], folder: Path, script: str
) -> None:
    fake_python(bare, EXTERNALLY_MANAGED + NO_VENV)
    assert (
        run("python3", "-m", "pip", "install", "uv", cwd=folder, environment=bare).returncode == 1
    )
    for _ in range(2):
        done = run(checkout / "scripts" / script, "--some", "words", cwd=folder, environment=bare)
        said = [f"uv-of-the-checkout {line}" for line in UV_IS_TOLD[script]]
        assert done.stdout.splitlines() == [*said[:-1], f"{said[-1]} --some words"], done.stderr
    assert done.stderr == ""  # the second time it is there, and there is nothing to say
    assert not any(folder.iterdir())


def test_where_neither_pip_nor_venv_works_the_scripts_say_one_sentence(
    checkout: Path, bare: dict[str, str], folder: Path
) -> None:
    fake_python(bare, NO_PIP + NO_VENV + "exit 1")
    for script in ("serve", "test"):
        done = run(checkout / "scripts" / script, cwd=folder, environment=bare)
        assert (done.returncode, done.stdout) == (1, "")
        notice, *sentences = done.stderr.strip().splitlines()
        assert notice.startswith("uv is not installed")
        assert len(sentences) == 1 and "Install uv" in sentences[0], done.stderr


@pytest.mark.parametrize("script", list(UV_IS_TOLD))
def test_a_uv_on_the_path_is_used(
    checkout: Path, bare: dict[str, str], folder: Path, script: str
) -> None:
    put_uv(bare, 'echo "$@"')
    done = run(checkout / "scripts" / script, "a b", cwd=folder, environment=bare)
    *installs, runs = UV_IS_TOLD[script]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*installs, f"{runs} a b".strip()]
    assert not (checkout / ".uv").exists()


def test_a_home_that_cannot_be_written_to_is_no_place_for_the_cache(
    checkout: Path, bare: dict[str, str], folder: Path
) -> None:
    put_uv(bare, 'echo "${UV_CACHE_DIR:-}"')
    (folder / "home").write_text("a file")
    kept = {name: value for name, value in bare.items() if name != "XDG_CACHE_HOME"}
    for home, cache in ((folder / "home", f"{checkout}/.uv/cache"), (folder / "good", "")):
        environment = {**kept, "HOME": str(home)}
        done = run(checkout / "scripts" / "run", "it", cwd=folder, environment=environment)
        assert (done.returncode, done.stdout) == (0, f"{cache}\n" * 2), done.stderr
    given = {**environment, "UV_CACHE_DIR": "/given"}
    done = run(checkout / "scripts" / "run", "it", cwd=folder, environment=given)
    assert done.stdout == "/given\n" * 2


@pytest.mark.parametrize(
    ("fails", "cure"), [("python find", "Python 3.11 or newer"), ("run --locked", "HTTPS_PROXY")]
)
def test_what_uv_cannot_do_ends_with_a_sentence(
    checkout: Path, bare: dict[str, str], folder: Path, fails: str, cure: str
) -> None:
    put_uv(bare, f'case "$*" in "{fails}"*) exit 2;; esac')
    for script in ("serve", "run", "test"):
        done = run(checkout / "scripts" / script, "it", cwd=folder, environment=bare)
        assert (done.returncode, done.stdout) == (1, "")
        assert cure in done.stderr and len(done.stderr.splitlines()) == 1


def test_without_python_or_network_the_scripts_say_one_sentence(
    checkout: Path, bare: dict[str, str], folder: Path
) -> None:
    fake_python(bare, 'if [ "$3" = --version ]; then exit 0; fi\n' + NO_VENV + "exit 1")
    for cure in ("network", "Install Python 3.11 or newer"):
        done = run(checkout / "scripts" / "serve", cwd=folder, environment=bare)
        assert (done.returncode, done.stdout) == (1, "")
        assert cure in done.stderr.splitlines()[-1], done.stderr
        (Path(bare["PATH"]) / "python3").unlink(missing_ok=True)
