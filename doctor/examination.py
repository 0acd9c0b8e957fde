"""The examination: all steps in their order, each with its time, whatever one of them meets.

It ends early where no further step makes sense, when its time is over, or when somebody ends it;
what was put is removed in any case.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from buckets import BucketPlan, plan_bucket
from buckets.applying import open_client
from config import Settings
from doctor import (
    addresses,
    configuration,
    connection,
    origins,
    parts,
    presigned,
    promises,
    settings_steps,
    tidying,
)
from doctor.case import Case
from doctor.findings import Cure, Finding, advise, failed, is_healthy, not_tried
from doctor.objects import examine_kind
from doctor.refusals import SETTINGS
from doctor.report import Report
from doctor.signals import Interrupted, Signals
from doctor.traces import Traces
from errors import StartupError
from files import kinds
from locations import StoreSettings
from storage.s3 import S3Store

# Of a bucket that is sick in many ways. A healthy one takes some sixty requests, so a few seconds.
MOST_SECONDS = 60.0

Step = Callable[[Case], Iterator[Finding]]

UNHEALTHY_STATUS = 1
# Which bucket that is does not show.
_BEHIND_ACCESS_POINT = "bucket-behind-the-access-point"


def list_steps() -> list[tuple[str, Step]]:
    """List all steps, by the name that is told of one that is not tried."""
    return [
        ("connection", connection.examine_connection),
        (tidying.LEFTOVERS, tidying.examine_leftovers),
        *((kind.prefix, partial(examine_kind, kind=kind)) for kind in kinds.KINDS),
        ("promises", promises.examine_promises),
        (parts.IN_PARTS, parts.examine_parts),
        ("presigned", presigned.examine_presigned),
        (origins.CORS, origins.examine_origins),
        (addresses.ADDRESS, addresses.examine_addresses),
        ("configuration", configuration.examine_configuration),
        (tidying.VERSIONS, tidying.examine_versions),
    ]


def examine(settings: Settings, report: Report, admin_profile: str | None = None) -> int:
    """Examine the bucket of the settings and tell all; return the exit status."""
    began = time.monotonic()
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        report.add(finding)

    report.begin(settings_steps.describe(settings))
    try:
        with Signals() as signals:
            _go_through(settings, report, tell, signals, admin_profile, began + MOST_SECONDS)
    except Interrupted as err:
        report.end("not examined to the end", _count_ms(began))
        return err.status
    is_well = is_healthy(findings)
    report.end("healthy" if is_well else "sick", _count_ms(began))
    return 0 if is_well else UNHEALTHY_STATUS


def _go_through(
    settings: Settings,
    report: Report,
    tell: Callable[[Finding], None],
    signals: Signals,
    admin_profile: str | None,
    ends_at: float,
) -> None:
    report.work_on("settings")
    refusal = settings_steps.find_refusal(settings)
    if refusal is not None:
        tell(refusal)
        return
    current = settings.stores()[settings.store_name]
    try:
        store = S3Store(current)
        admin = open_client(current, admin_profile) if admin_profile else None
        plan, notes = _plan(settings, current)
    except StartupError as err:
        tell(settings_steps.explain_startup_error(err))
        return
    case = Case(
        settings=settings,
        current=current,
        plan=plan,
        store=store,
        signals=signals,
        traces=Traces(store),
        ends_at=ends_at,
        say=report.work_on,
        admin=admin,
    )
    tell(settings_steps.tell_store(settings))
    for note in [*notes, *settings_steps.tell_notes(store)]:
        tell(case.hide_in(note))
    try:
        _do_steps(case, tell)
    finally:
        _tidy(case, tell)


def _plan(settings: Settings, current: StoreSettings) -> tuple[BucketPlan, list[Finding]]:
    """Plan the bucket; of one behind an access point only its name is to be put in by hand.

    Raises StartupError.
    """
    try:
        return plan_bucket(settings), []
    except StartupError as err:
        if not current.bucket_name.startswith("arn:"):
            raise
        named = settings.model_copy(update={"s3_bucket_name": _BEHIND_ACCESS_POINT})
        told = f"{current.bucket_name} is an access point: {_BEHIND_ACCESS_POINT} stands in what is"
        note = advise(SETTINGS, f"{told} printed for the name of its bucket ({err})")
        return plan_bucket(named), [note]


def _tidy(case: Case, tell: Callable[[Finding], None]) -> None:
    """Remove what was put; whoever ends that as well is told what stays."""
    case.say("removing what was put")
    try:
        with case.signals.held():
            findings = list(tidying.tidy(case))
    except Interrupted:
        findings = list(tidying.name_what_stays(case))
    for finding in findings:
        tell(case.hide_in(finding))


def _do_steps(case: Case, tell: Callable[[Finding], None]) -> None:
    steps = iter(list_steps())
    for name, step in steps:
        if case.left_seconds <= 0:
            rest = ", ".join([name, *(other for other, _ in steps)])
            what = f"the {MOST_SECONDS:g} seconds of the examination are over; not tried: {rest}"
            tell(failed("time", what, Cure("See which steps took long: the store is too slow.")))
            return
        case.say(name)
        try:
            _do_step(case, step, tell)
        except connection.Hopeless:
            rest = ", ".join(other for other, _ in steps)
            tell(not_tried(rest, "there is no way to the bucket"))
            return
        except Exception as err:  # a pipe that nobody reads raises once more at the next line
            what = f"the doctor does not understand {type(err).__name__}: {err}"
            tell(case.hide_in(failed(name, what, Cure("Report it, with this line."))))


def _do_step(case: Case, step: Step, tell: Callable[[Finding], None]) -> None:
    began = time.monotonic()
    requests = case.requests
    for finding in step(case):
        # What an earlier answer has told took no time of its own.
        took_ms = _count_ms(began) if case.requests > requests else None
        tell(case.hide_in(replace(finding, milliseconds=took_ms)))
        if case.left_seconds <= 0:
            return
        requests = case.requests
        began = time.monotonic()


def _count_ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
