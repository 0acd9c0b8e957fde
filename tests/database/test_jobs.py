"""Proves that a job is done if, and only if, what it belongs to is committed.

That holds whatever becomes of its worker, of the database in between, and of its first attempts.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

import jobs.performer
import jobs.repository
import jobs.worker
import main
from config import MIB, Settings
from database import Database
from jobs import Handlers, Worker, enqueue
from jobs.repository import NAMES, Repository, open_repository
from tests.support import warm
from tests.support.databases import execute
from tests.support.launched import head, sending
from tests.support.services import ROOT, Service, wait_until

WAIT_SECONDS = 30.0
# What a stopped worker is given where a test wants its jobs back at once.
SHORT_SECONDS = 0.05
ROWS = "SELECT entrypoint, status::text, attempts FROM pgqueuer ORDER BY id"
TABLES = ("pgqueuer", "pgqueuer_log", "pgqueuer_schedules", "pgqueuer_statistics")


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a worker seconds takes it a moment."""
    monkeypatch.setattr(jobs.worker, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(jobs.performer, "FIRST_PAUSE_SECONDS", 0.01)
    for module in (jobs.worker, jobs.repository):
        monkeypatch.setattr(module, "OUTAGE_PAUSE_SECONDS", 0.05)


def run(url: str, story: Callable[[Database], Awaitable[None]]) -> None:
    async def told() -> None:
        database = Database(url, 3)
        try:
            await asyncio.wait_for(story(database), WAIT_SECONDS)
        finally:
            await database.dispose()

    asyncio.run(told())


async def add(database: Database, name: str, arguments: Mapping[str, object] | None = None) -> None:
    async with database.transaction() as transaction:
        await enqueue(transaction, name, arguments or {})
        await transaction.commit()


async def read_rows(database: Database) -> list[tuple[object, ...]]:
    rows = await open_repository(database).driver.fetch(ROWS)
    return [tuple(row.values()) for row in rows]


async def until_over(database: Database) -> None:
    while await read_rows(database):
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def working(database: Database, handlers: Handlers) -> AsyncIterator[Worker]:
    worker = Worker(database, handlers)
    worker.start()
    try:
        yield worker
    finally:
        await worker.stop(WAIT_SECONDS)


@pytest.mark.backends
def test_a_job_that_is_wanted_once_is_not_added_while_the_same_one_is_there(url: str) -> None:
    begun = asyncio.Event()
    gate = asyncio.Event()

    async def note(number: int, name: str) -> None:
        begun.set()
        await gate.wait()

    async def add_once(database: Database, **arguments: object) -> None:
        async with database.transaction() as transaction:
            await enqueue(transaction, "note", arguments, is_once=True)
            await transaction.commit()

    async def story(database: Database) -> None:
        await asyncio.gather(*(add_once(database, number=1, name="a") for _ in range(5)))
        await add_once(database, name="a", number=1)
        assert len(await read_rows(database)) == 1
        async with working(database, {"note": note}):
            await begun.wait()
            await add_once(database, number=1, name="a")
            assert len(await read_rows(database)) == 1
            await add_once(database, number=2, name="a")
            assert len(await read_rows(database)) == 2
            gate.set()
            await until_over(database)
        await add_once(database, number=1, name="a")
        assert len(await read_rows(database)) == 1

    run(url, story)


@pytest.mark.backends
def test_a_job_is_done_if_its_transaction_was_committed_and_only_then(url: str) -> None:
    done: list[object] = []

    async def note(photo_id: int, names: list[str]) -> None:
        done.append((photo_id, names))

    async def story(database: Database) -> None:
        async with database.transaction() as transaction:
            await enqueue(transaction, "note", {"photo_id": 1, "names": []})
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as transaction:
                await enqueue(transaction, "note", {"photo_id": 2, "names": []})
                raise ZeroDivisionError
        assert await read_rows(database) == []
        async with working(database, {"note": note}):
            async with database.transaction() as transaction:
                await enqueue(transaction, "note", {"photo_id": 3, "names": ["ä", "b"]})
                await asyncio.sleep(0.3)  # several times as long as the worker needs
                assert done == []
                await transaction.commit()
            await until_over(database)

    run(url, story)
    assert done == [(3, ["ä", "b"])]


def test_a_job_that_no_worker_knows_waits_for_one_that_does(url: str) -> None:
    done: list[str] = []

    async def note(name: str) -> None:
        done.append(name)

    async def story(database: Database) -> None:
        await add(database, "mail", {"name": "mail"})
        await add(database, "note", {"name": "note"})
        async with working(database, {"note": note}):
            while len(await read_rows(database)) > 1:
                await asyncio.sleep(0.01)
        assert await read_rows(database) == [("mail", "queued", 0)]
        async with working(database, {"mail": note}):
            await until_over(database)

    run(url, story)
    assert done == ["note", "mail"]


def test_no_table_grows(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.worker, "CLEANING_SECONDS", 0.05)
    done: list[int] = []

    async def note(number: int) -> None:
        done.append(number)

    async def count(database: Database) -> dict[str, object]:
        fetch = open_repository(database).driver.fetch
        counts = {}
        for table in TABLES:
            counts[table] = (await fetch(f"SELECT count(*) FROM {table}"))[0]["count"]
        return counts

    async def story(database: Database) -> None:
        async with working(database, {"note": note}):
            for number in range(20):
                await add(database, "note", {"number": number})
            await until_over(database)
        kept = await count(database)
        assert kept == dict.fromkeys(TABLES, 0) | {"pgqueuer_log": 3 * 20}, "for an hour"
        monkeypatch.setattr(jobs.repository, "LOG_KEPT", timedelta(0))
        async with working(database, {"note": note}):
            await add(database, "note", {"number": 20})
            while await count(database) != dict.fromkeys(TABLES, 0):
                await asyncio.sleep(0.01)

    run(url, story)
    assert sorted(done) == list(range(21))


def test_what_fails_is_done_again_later_and_later_and_then_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs.performer, "MOST_ATTEMPTS", 3)
    pauses: list[float] = []
    choose = jobs.performer._choose_pause

    def choose_and_note(attempts: int) -> float:
        pauses.append(choose(attempts))
        return pauses[-1]

    monkeypatch.setattr(jobs.performer, "_choose_pause", choose_and_note)
    failures = {"sometimes": 2, "always": 100}
    tries: list[str] = []

    async def fail(name: str) -> None:
        tries.append(name)
        failures[name] -= 1
        if failures[name] >= 0:
            raise ValueError(f"{name} fails")

    async def story(database: Database) -> None:
        for name in failures:
            await add(database, "fail", {"name": name})
        async with working(database, {"fail": fail}):
            await until_over(database)

    with caplog.at_level(logging.WARNING):
        run(url, story)
    assert sorted(tries) == ["always"] * 3 + ["sometimes"] * 3
    assert len(pauses) == 4
    assert 1.5 < max(pauses) / min(pauses) < 4
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(pauses)
    assert all("job fail " in record.getMessage() for record in warnings)
    (given_up,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "fail/" in given_up.getMessage()
    assert given_up.exc_info and str(given_up.exc_info[1]) == "always fails"


def test_a_job_that_hangs_loses_its_place(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.performer, "DEADLINE_SECONDS", 0.1)
    tries: list[int] = []

    async def hang() -> None:
        tries.append(1)
        if len(tries) == 1:
            await asyncio.sleep(2 * WAIT_SECONDS)

    async def story(database: Database) -> None:
        await add(database, "hang")
        async with working(database, {"hang": hang}):
            await until_over(database)

    run(url, story)
    assert len(tries) == 2


def test_a_worker_that_ends_lets_jobs_finish_and_gives_back_what_takes_too_long(url: str) -> None:
    begun: list[str] = []
    ended: list[str] = []
    go = asyncio.Event()

    async def work(name: str) -> None:
        begun.append(name)
        if name == "long" and begun.count(name) == 1:
            await asyncio.sleep(2 * WAIT_SECONDS)
        await go.wait()
        ended.append(name)

    async def story(database: Database) -> None:
        for name in ("long", "short", "later"):
            await add(database, "work", {"name": name})
        worker = Worker(database, {"work": work})
        worker.start()
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        worker.close()
        go.set()
        while len(await read_rows(database)) == 3:
            await asyncio.sleep(0.01)
        await worker.stop(SHORT_SECONDS)
        assert (begun, ended) == (["long", "short"], ["short"])
        assert await read_rows(database) == [("work", "queued", 1), ("work", "queued", 0)]
        async with working(database, {"work": work}):
            await until_over(database)

    run(url, story)
    assert sorted(ended) == ["later", "long", "short"]


def test_a_job_whose_workers_die_is_given_up_at_last(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs.performer, "MOST_ATTEMPTS", 2)
    done: list[int] = []

    async def note(number: int) -> None:
        done.append(number)

    async def take_and_die(database: Database) -> None:
        """Take the job as a worker does, long ago, and say nothing more."""
        driver = open_repository(database).driver
        await driver.execute(
            "UPDATE pgqueuer SET status = 'picked', heartbeat = now() - interval '1 hour',"
            " queue_manager_id = gen_random_uuid() WHERE status = 'queued'"
        )

    async def story(database: Database) -> None:
        for number in range(2):
            await add(database, "note", {"number": number})
            await take_and_die(database)
        # The first worker of the one has died, and now the second one of the other.
        await open_repository(database).driver.execute(
            "UPDATE pgqueuer SET attempts = 1 WHERE id = (SELECT min(id) FROM pgqueuer)"
        )
        async with working(database, {"note": note}):
            await until_over(database)

    run(url, story)
    assert done == [1]
    (given_up,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert given_up.exc_info and str(given_up.exc_info[1]) == "given up after 2 attempts"


@pytest.mark.parametrize(("told_by", "tries"), [("log_jobs", 1), ("retry_job", 2)])
def test_an_outage_of_the_database_loses_no_job(
    url: str,
    postgres: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    told_by: str,
    tries: int,
) -> None:
    """It begins in the middle of a job, and is over only after the job's end could not be told."""
    monkeypatch.setattr(jobs.worker, "STALLED_AFTER_SECONDS", 1.0)
    name = make_url(url).database
    cut = (
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
    )
    untold = asyncio.Event()
    tell = getattr(Repository, told_by)
    tried: list[int] = []

    async def tell_in_vain(self: Repository, *arguments: object) -> None:
        untold.set()
        await tell(self, *arguments)

    monkeypatch.setattr(Repository, told_by, tell_in_vain)

    async def work() -> None:
        tried.append(1)
        if len(tried) == 1:
            await asyncio.to_thread(execute, postgres, *cut)
            if told_by == "retry_job":
                raise ValueError

    async def story(database: Database) -> None:
        await add(database, "work")
        async with working(database, {"work": work}):
            await untold.wait()
            await asyncio.sleep(0.3)  # several tries
            allow = f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"
            await asyncio.to_thread(execute, postgres, allow)
            await until_over(database)

    run(url, story)
    assert len(tried) == tries
    assert {record.levelno for record in caplog.records} == {logging.WARNING}, "no traceback"


def test_the_tables_are_those_of_the_installed_release_without_its_trigger(url: str) -> None:
    """What a newer one declares beyond them is what the next migration has to do."""

    async def story(database: Database) -> None:
        plan = await open_repository(database).plan_upgrade()
        missing = [words for words in plan.statements if NAMES.function not in words]
        assert missing == []
        assert len(plan.statements) == 2, "the function of the trigger, and the trigger"

    run(url, story)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the handlers of processes leave what they have done."""
    path = tmp_path / "data"
    path.mkdir()
    return path


@contextlib.contextmanager
def working_process(url: str, folder: Path, log: Path) -> Iterator[warm.Forked]:
    """`cli.py worker`, with the jobs of the tests; told to end once, it ends when they are done."""
    constants = {
        "jobs.worker.STALLED_AFTER_SECONDS": 1.0,
        "cli.JOBS_FINISH_SECONDS": 10 * WAIT_SECONDS,
    }
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "DATA_DIR": str(folder),
        "STORAGE": "local",
        "JOB_CONSTANTS": json.dumps(constants),
    }
    with open(log, "wb") as said:
        process = warm.fork(
            *("-m", "tests.support.job_program", "worker"),
            env=environment,
            cwd=folder,
            stdout=said,
            stderr=said,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def read_complaints(log: Path) -> list[str]:
    """What it said, but for how the tests' database is set."""
    return [line for line in log.read_text().splitlines() if "ops.database_risks" not in line]


def test_the_job_of_a_killed_worker_is_done_by_another(
    url: str, folder: Path, tmp_path: Path
) -> None:
    run(url, partial(add, name="hold", arguments={"name": "first"}))
    with working_process(url, folder, tmp_path / "killed.log") as killed:
        wait_until((folder / "first.begun").exists, "the worker is in the middle of the job")
        killed.kill()
        assert killed.wait(30) == -signal.SIGKILL
    (folder / "first.begun").unlink()
    log = tmp_path / "worker.log"
    with working_process(url, folder, log) as worker:
        wait_until((folder / "first.begun").exists, "the other one has taken it up")
        worker.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.3)
        (folder / "first.go").touch()
        assert worker.wait(30) == 0
    assert read_notes(folder) == ["first"]
    run(url, until_over)
    assert read_complaints(log) == []


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_ctrl_c_ends_a_worker_which_gives_back_its_job(
    url: str, folder: Path, tmp_path: Path, first: signal.Signals
) -> None:
    run(url, partial(add, name="hold", arguments={"name": "long"}))
    log = tmp_path / "worker.log"
    with working_process(url, folder, log) as worker:
        wait_until((folder / "long.begun").exists, "the worker is in the middle of the job")
        worker.send_signal(first)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.3)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(WAIT_SECONDS) == 0

    async def story(database: Database) -> None:
        assert await read_rows(database) == [("hold", "queued", 1)]

    run(url, story)
    assert read_complaints(log) == []


def test_a_service_does_jobs_and_gives_them_back_when_it_is_told_to_end(
    url: str, folder: Path
) -> None:
    # An upload that does not go on keeps it from ending at once.
    constants = {"main.SHUTDOWN_FINISH_SECONDS": SHORT_SECONDS, "ops.serving.GRACE_SECONDS": 2}
    settings = {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "DATA_DIR": str(folder),
        "STORAGE": "local",
        "JOB_CONSTANTS": json.dumps(constants),
    }
    program = [sys.executable, "-m", "tests.support.job_program", "serve"]
    service = Service(settings, command=program)
    service.start()
    try:
        run(url, partial(add, name="note", arguments={"text": "done"}))
        wait_until(lambda: read_notes(folder) == ["done"], "it is done beside requests")
        run(url, partial(add, name="hold", arguments={"name": "long"}))
        wait_until((folder / "long.begun").exists, "another one has begun")
        with sending(service, head(service.register(), MIB)):
            assert service.process is not None
            service.process.terminate()
            wait_until(lambda: refuses_connections(service), "it has been told to end")
            run(url, partial(add, name="note", arguments={"text": "too late"}))
            assert service.stop() == 0
    finally:
        service.stop(signal.SIGKILL)
    rows = [tuple(row) for row in service.sql(ROWS)]
    assert rows == [("hold", "queued", 1), ("note", "queued", 0)]
    assert read_notes(folder) == ["done"]
    assert "Traceback" not in service.log()


def refuses_connections(service: Service) -> bool:
    try:
        socket.create_connection((service.host, service.port), timeout=5).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("embedded", [True, False])
def test_a_service_ends_the_jobs_that_it_has_begun_and_takes_none_if_it_is_told_so(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, embedded: bool
) -> None:
    begun = asyncio.Event()
    done: list[int] = []

    async def work() -> None:
        begun.set()
        await asyncio.sleep(0.3)
        done.append(1)

    monkeypatch.setattr(main, "make_handlers", lambda backends: {"work": work})
    given = {"database_url": url, "data_dir": folder, "storage": "local"}
    app = main.create_app(Settings.model_validate({**given, "embedded_jobs": embedded}))

    async def story(database: Database) -> None:
        await add(database, "work")
        async with app.router.lifespan_context(app):
            if embedded:
                await begun.wait()  # its end is waited for
            else:
                await asyncio.sleep(0.5)  # ten polls
        assert len(await read_rows(database)) == int(not embedded)

    run(url, story)
    assert len(done) == int(embedded)
