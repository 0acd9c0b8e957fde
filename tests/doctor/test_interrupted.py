"""Nothing of the doctor's stays in a bucket, however its run ends; what a kill left goes later."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from doctor import promises, traces
from ops.launch import CLOSED_PIPE_STATUS
from tests.support import warm
from tests.support.clinic import Clinic, open_clinic, read_descriptions_once
from tests.support.s3_messages import Answer, Request
from tests.support.services import ROOT, wait_until
from tests.support.sick_s3 import SickS3, is_anonymous

NAME = "/darkroom-check-"


@pytest.fixture
def clinic(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clinic]:
    with SickS3(moto) as front:
        yield open_clinic(front, moto, monkeypatch, tmp_path)


class Doctor:
    """The command as a process of its own, which can be met at a request that it sends."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.met = threading.Event()
        self.goes_on = threading.Event()
        self.said = clinic.folder / "said"

    def start(self, meets: Callable[[Request], bool]) -> warm.Forked:
        """Start it, and return when the request that it is to be met at has come."""

        def meet(request: Request) -> Answer | None:
            if not self.met.is_set() and meets(request):
                self.met.set()
                assert self.goes_on.wait(30)
            return None

        self.clinic.front.ills.append(meet)
        environment = {**os.environ, "DARKROOM_ENV_FILE": "", **self.clinic.settings}
        with open(self.said, "wb") as out:
            process = warm.fork(
                ROOT / "check_s3.py",
                env=environment,
                cwd=self.clinic.folder,
                stdout=out,
                stderr=out,
            )
        assert self.met.wait(30), self.said.read_text()
        return process


@pytest.fixture
def doctor(clinic: Clinic) -> Doctor:
    return Doctor(clinic)


def is_read(request: Request) -> bool:
    return NAME in request.key and request.method == "GET" and is_anonymous(request)


def is_put(request: Request) -> bool:
    return NAME in request.key and request.method == "PUT"


@pytest.mark.parametrize(
    ("number", "meets"),
    [(signal.SIGINT, is_read), (signal.SIGTERM, is_read), (signal.SIGINT, is_put)],
)
def test_ended_between_put_and_delete_it_leaves_nothing(
    doctor: Doctor, number: signal.Signals, meets: Callable[[Request], bool]
) -> None:
    process = doctor.start(meets)
    process.send_signal(number)
    # A put that is under way is waited for: its object would arrive after its deletion.
    ends_at = time.monotonic() + 0.3
    while meets is is_put and time.monotonic() < ends_at:
        assert process.poll() is None
        time.sleep(0.02)
    doctor.goes_on.set()
    assert process.wait(30) == 128 + number
    assert doctor.clinic.bucket.objects() == {}
    said = doctor.said.read_text()
    assert "not examined to the end" in said and "Traceback" not in said


def test_a_second_signal_waits_for_nothing_and_what_may_stay_is_named(doctor: Doctor) -> None:
    process = doctor.start(is_put)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert process.wait(30) == 128 + signal.SIGINT
    doctor.goes_on.set()
    wait_until(doctor.clinic.bucket.objects, "what was put has arrived after all")
    [left] = doctor.clinic.bucket.objects()
    assert f"delete-object --bucket {doctor.clinic.bucket.name} --key {left}" in (
        doctor.said.read_text()
    )


def test_what_a_kill_has_left_is_removed_an_hour_later(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = doctor.start(is_read)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    doctor.goes_on.set()
    [left] = doctor.clinic.bucket.objects()
    assert left.startswith(f"profile_pics{NAME}")
    read_descriptions_once(monkeypatch)
    assert "leftovers" not in doctor.clinic.examine().steps
    assert list(doctor.clinic.bucket.objects()) == [left]
    monkeypatch.setattr(traces, "LEFT_AFTER", timedelta())
    assert doctor.clinic.examine().steps["leftovers"]["outcome"] == "passed"
    assert doctor.clinic.bucket.objects() == {}


def test_a_pipe_that_nobody_reads_any_more_ends_it_quietly(clinic: Clinic) -> None:
    environment = {**os.environ, "DARKROOM_ENV_FILE": "", **clinic.settings}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "check_s3.py")],
        cwd=clinic.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout as lines:
        assert any("put profile_pics/" in line for line in lines)
    with process.stderr as said:
        assert said.read() == ""
    assert process.wait(30) == CLOSED_PIPE_STATUS
    assert clinic.bucket.objects() == {}


def test_a_step_that_breaks_is_told_and_leaves_nothing(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall_over(*_: object) -> None:
        raise LookupError("nobody has thought of this")

    read_descriptions_once(monkeypatch)
    monkeypatch.setattr(promises, "_examine_checksum", fall_over)
    examined = clinic.examine()
    assert examined.status == 1
    assert "nobody has thought of this" in examined.steps["promises"]["what"]
    assert "marker" not in examined.steps and "presigned PUT" in examined.steps
    assert clinic.bucket.objects() == {}
