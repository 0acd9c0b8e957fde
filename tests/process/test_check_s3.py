"""Proves that `check_s3.py` says what a bucket can do.

Of what it cannot it says the cause and the cure; the permissions that README shows suffice.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import check_s3
from doctor import addresses
from doctor.findings import Outcome
from doctor.refusals import find_lines
from files import kinds
from tests.support.backends import make_settings
from tests.support.guarded_s3 import Front, GuardedS3, guarded_s3
from tests.support.services import ROOT, Bucket, free_port
from tests.support.web import serve_pages

PICTURES = "profile_pics/"
ORIGINALS = "originals/"
PUT = "put"
READ = "public read"
OWN_READ = "read with our keys"
HIDDEN = "hidden"
DELETE = "delete"
GONE = "gone"
IN_PARTS = "upload in parts"
STEPS = [f"{step} {PICTURES}" for step in (PUT, READ, DELETE, GONE)]
ORIGINALS_STEPS = [f"{step} {ORIGINALS}" for step in (PUT, OWN_READ, HIDDEN, DELETE)]
IN_PARTS_STEP = f"{IN_PARTS} {ORIGINALS}"
# What an emulator on loopback cannot do, or lets anybody do.
EMULATED = {"list", "checksums", "presigned PUT", "presigned POST", "address of pictures"}
# What nobody has set in a bucket that just has a policy.
UNSET = {"lifecycle of incoming/", "lifecycle of unfinished uploads"}


@dataclass(frozen=True)
class Checked:
    """What the command printed, and how it ended."""

    status: int
    output: str

    @property
    def marks(self) -> dict[str, str]:
        """Each step with its mark; a line is `✓ step: what`, and of a failure the cure follows."""
        found = re.findall(r"^([✓✗!?-]) (.+?): ", self.output, re.MULTILINE)
        marks = {step: mark for mark, step in found}
        assert len(marks) == len(found), self.output
        return marks

    def marks_of(self, prefix: str) -> dict[str, str]:
        """The marks of the steps with the files of one kind."""
        return {step: mark for step, mark in self.marks.items() if step.endswith(f" {prefix}")}

    def line(self, step: str) -> str:
        """The line of a step, and its cure."""
        [line] = re.findall(
            rf"^[✓✗!?-] {re.escape(step)}: .*(?:\n  .*)*", self.output, re.MULTILINE
        )
        return str(line)


Run = Callable[[dict[str, str]], Checked]


def run(folder: Path, settings: dict[str, str], *words: str, **environment: str) -> Checked:
    """Run the command in an empty folder, as a person does."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "check_s3.py"), *words],
        cwd=folder,
        env={
            **os.environ,
            "DARKROOM_ENV_FILE": "",
            "PYTHONIOENCODING": "utf-8",
            **settings,
            **environment,
        },
        capture_output=True,
        timeout=90,
    )
    output = (ended.stdout + ended.stderr).decode()
    assert "Traceback" not in output, output
    return Checked(ended.returncode, output)


@pytest.fixture
def run_here(run_all_here: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process for one kind of files, so that each step is told once."""
    monkeypatch.setattr(kinds, "KINDS", (kinds.PROFILE_PICTURE,))
    return run_all_here


@pytest.fixture
def run_all_here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, as starting one takes seconds.

    What it does not catch fails the test.
    """

    def run(given: dict[str, str]) -> Checked:
        status = check_s3.main(make_settings(given))
        return Checked(status, capsys.readouterr().out)

    return run


def assert_failed(
    checked: Checked, expected: dict[str, str], step: str, cause: str, cure: str
) -> None:
    """These are the marks, and the exit status is 1.

    The step that failed has a cause, and after it a sentence that helps.
    """
    found = {step: checked.marks.get(step) for step in expected}
    assert found == expected, checked.output
    assert checked.status == 1
    line = checked.line(step)
    assert line.startswith("✗ ")
    assert re.search(rf"{cause}.*\n(.|\n)*{cure}", line), line


PUT_FAILED = {f"{PUT} {PICTURES}": "✗"} | dict.fromkeys(STEPS[1:], "-")


@pytest.fixture
def bucket(moto: str) -> Iterator[Bucket]:
    """A bucket that is empty again afterwards, whatever the check found."""
    bucket = Bucket.make(moto)
    yield bucket
    assert bucket.objects() == {}


def test_a_good_bucket_passes_every_step_and_is_left_empty(bucket: Bucket, tmp_path: Path) -> None:
    checked = run(tmp_path, bucket.settings())
    marks = checked.marks
    assert {step: mark for step, mark in marks.items() if mark != "✓"} == {
        **dict.fromkeys(EMULATED | UNSET, "!"),
        "CORS": "-",
    }
    for kind in kinds.KINDS:
        assert len(checked.marks_of(kind.prefix)) >= 4
    assert {"endpoint", "clock", "credentials", "region", "bucket", "create-only put"} <= set(marks)
    assert {"delete many", "marker", IN_PARTS_STEP} <= set(marks)
    assert checked.status == 0
    for prefix in ("profile_pics/", "photos/", "thumbnails/"):
        read = f"✓ {READ} {prefix}: {bucket.endpoint}/{bucket.name}/{prefix}darkroom-check-"
        assert read in checked.output
    assert list(tmp_path.iterdir()) == []


def test_one_kind_that_fails_is_a_failure(guarded_bucket: "Guarded", run_all_here: Run) -> None:
    pictures = guarded_bucket.pictures()
    keys = guarded_bucket.s3.user(("s3:PutObject", pictures), ("s3:DeleteObject", pictures))
    checked = guarded_bucket.run(run_all_here, keys)
    assert checked.marks_of(PICTURES) == dict.fromkeys(STEPS, "✓")
    assert checked.status == 1
    for kind in kinds.KINDS[1:]:
        assert checked.marks_of(kind.prefix)[f"{PUT} {kind.prefix}"] == "✗"
    assert "s3:PutObject" in checked.output and "/originals/*" in checked.output


@pytest.fixture
def run_private_here(run_all_here: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process for originals only."""
    monkeypatch.setattr(kinds, "KINDS", (kinds.PHOTO_ORIGINAL,))
    return run_all_here


def test_originals_that_everyone_can_read_are_told(bucket: Bucket, run_private_here: Run) -> None:
    everything = bucket.policy
    everything["Statement"][0]["Resource"] = f"arn:aws:s3:::{bucket.name}/*"
    bucket.client().put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(everything))
    checked = run_private_here(bucket.settings())
    hidden = f"{HIDDEN} {ORIGINALS}"
    expected = {step: "✗" if step == hidden else "✓" for step in ORIGINALS_STEPS}
    assert_failed(checked, expected, hidden, "answered 200 to a stranger", "policy")


def test_a_public_address_that_shows_originals_is_told(
    front: Front, bucket: Bucket, run_private_here: Run
) -> None:
    checked = run_private_here({**bucket.settings(), "S3_PUBLIC_BASE_URL": front.url})
    hidden = f"{HIDDEN} {ORIGINALS}"
    expected = {step: "✗" if step == hidden else "✓" for step in ORIGINALS_STEPS}
    assert_failed(checked, expected, hidden, "answered 200 to a stranger", "in front of it")


@pytest.mark.parametrize(
    ("missing", "step", "resource"),
    [
        ("s3:GetObject", f"{OWN_READ} {ORIGINALS}", "{bucket}/originals/"),
        ("s3:AbortMultipartUpload", IN_PARTS_STEP, "{bucket}/originals/"),
        ("s3:ListBucketMultipartUploads", IN_PARTS_STEP, "{bucket}"),
    ],
)
def test_a_permission_that_originals_need_is_told(
    guarded_bucket: "Guarded", run_private_here: Run, missing: str, step: str, resource: str
) -> None:
    bucket = f"arn:aws:s3:::{guarded_bucket.bucket.name}"
    permissions = {
        "s3:PutObject": f"{bucket}/originals/*",
        "s3:DeleteObject": f"{bucket}/originals/*",
        "s3:GetObject": f"{bucket}/originals/*",
        "s3:AbortMultipartUpload": f"{bucket}/originals/*",
        "s3:ListBucketMultipartUploads": bucket,
    }
    del permissions[missing]
    checked = guarded_bucket.run(run_private_here, guarded_bucket.s3.user(*permissions.items()))
    every = [*ORIGINALS_STEPS, IN_PARTS_STEP]
    expected = {each: "✗" if each == step else "✓" for each in every}
    cure = f"{missing} on {resource.format(bucket=bucket)}"
    assert_failed(checked, expected, step, "AccessDenied", cure)
    assert guarded_bucket.keys() == []


def test_a_terminal_that_knows_no_check_marks_shows_no_traceback(
    bucket: Bucket, tmp_path: Path
) -> None:
    checked = run(tmp_path, bucket.settings(), PYTHONIOENCODING="ascii")
    assert checked.status == 0
    assert READ in checked.output


def test_json_is_one_document_with_the_settings_and_without_a_secret(
    bucket: Bucket, tmp_path: Path
) -> None:
    secret = "a-secret-that-nobody-may-see"
    key_id = "AKIAIOSFODNN7EXAMPLE"
    keys = {"S3_ACCESS_KEY_ID": key_id, "S3_SECRET_ACCESS_KEY": secret}
    checked = run(tmp_path, {**bucket.settings(), **keys}, "--json")
    document = json.loads(checked.output)
    assert (checked.status, document["verdict"]) == (0, "healthy")
    assert document["settings"]["S3_BUCKET_NAME"] == bucket.name
    assert document["settings"]["S3_ACCESS_KEY_ID"] == "AKIA...MPLE"
    assert secret not in checked.output and key_id not in checked.output
    steps = {step["step"]: step for step in document["steps"]}
    assert steps[READ_STEP]["outcome"] == "passed" and steps[READ_STEP]["milliseconds"] >= 0
    assert {step["outcome"] for step in document["steps"]} <= set(Outcome)


def test_settings_with_which_the_service_does_not_start_are_a_finding(tmp_path: Path) -> None:
    settings = {"S3_BUCKET_NAME": "No Bucket!", "STORAGE": "s3"}
    checked = run(tmp_path, settings)
    assert (checked.status, checked.marks) == (1, {"settings": "✗"})
    assert "the bucket's name alone" in checked.output and "[A-Z" not in checked.output
    document = json.loads(run(tmp_path, settings, "--json").output)
    assert [step["outcome"] for step in document["steps"]] == ["failed"]
    assert document["verdict"] == "sick"


@pytest.mark.parametrize(
    ("sentence", "lines"),
    [
        (
            "S3_REGION must be a code, as in S3_REGION=eu-central-1",
            ["S3_REGION=<the region's code>"],
        ),
        (
            "AWS_ENDPOINT_URL https://a is not followed (set S3_ENDPOINT_URL=https://a)",
            ["S3_ENDPOINT_URL=https://a"],
        ),
        (
            "it shows pages: leave S3_ENDPOINT_URL empty, set S3_BUCKET_NAME=my-pictures",
            ["S3_ENDPOINT_URL=", "S3_BUCKET_NAME=my-pictures"],
        ),
        ("DATABASE_URL must be one of PostgreSQL.", []),
    ],
)
def test_the_lines_to_paste_are_those_that_a_sentence_names(
    sentence: str, lines: list[str]
) -> None:
    cure = find_lines(sentence)
    assert [paste.text for paste in cure.pastes] == lines if cure else lines == []


def test_on_a_terminal_what_is_being_done_is_told_in_a_line_that_goes_again(
    bucket: Bucket, run_here: Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert "\r" not in run_here(bucket.settings()).output
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = run_here(bucket.settings()).output
    assert "  presigned PUT ...\r\x1b[2K" in shown
    lines = [line.rpartition("\x1b[2K")[2] for line in shown.split("\n")]
    assert not [line for line in lines if line.startswith("  ") and line.endswith(" ...")]


@pytest.mark.parametrize(
    ("settings", "outcome", "says"),
    [
        ({}, "!", "127.0.0.1:.* is this machine itself"),
        ({"PUBLIC_URL": "https://photos.example.com"}, "✗", "browsers elsewhere do not"),
    ],
)
def test_an_address_that_browsers_elsewhere_do_not_reach_is_told(
    bucket: Bucket, run_here: Run, settings: dict[str, str], outcome: str, says: str
) -> None:
    checked = run_here({**bucket.settings(), **settings})
    line = checked.line("address of pictures")
    assert line.startswith(outcome) and re.search(says, line)
    assert "S3_PUBLIC_BASE_URL=<" in line


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("localhost", "machine itself"),
        ("app.localhost", "machine itself"),
        ("::1", "machine itself"),
        ("10.1.2.3", "network alone"),
        ("192.168.1.9", "network alone"),
        ("169.254.1.1", "network alone"),
        ("minio", "network alone"),
        ("minio.internal", "network alone"),
        ("nas.local", "network alone"),
        ("images.example.com", None),
        ("8.8.8.8", None),
    ],
)
def test_from_where_a_host_can_be_reached(host: str, why: str | None) -> None:
    found = addresses.find_limit(host)
    assert found is None if why is None else why in str(found)


def test_a_plain_address_beside_a_page_with_tls_is_told(
    bucket: Bucket, run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers do not load it; were this machine a host that all reach."""
    monkeypatch.setattr(addresses, "find_limit", lambda host: None)
    checked = run_here({**bucket.settings(), "PUBLIC_URL": "https://photos.example.com"})
    line = checked.line("address of pictures")
    assert line.startswith("✗") and "browsers do not load that into https://photos" in line
    assert "S3_PUBLIC_BASE_URL=https://127.0.0.1:" in line


def test_no_bucket_set_says_what_to_set(run_here: Run) -> None:
    checked = run_here({})
    assert checked.marks == {"settings": "✗"}
    assert checked.status == 1
    assert "\n    S3_BUCKET_NAME=" in checked.line("settings")


def test_a_bucket_that_is_not_there(
    bucket: Bucket, run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doctor.connection.NEW_BUCKET_SECONDS", 0)
    checked = run_here({**bucket.settings(), "S3_BUCKET_NAME": "bucket-that-nobody-made"})
    expected = {"endpoint": "✓", "credentials": "✓", "bucket": "✗"}
    assert_failed(checked, expected, "bucket", "NoSuchBucket", "create-bucket --bucket bucket-that")


def test_an_endpoint_where_nobody_listens(bucket: Bucket, run_here: Run) -> None:
    checked = run_here({**bucket.settings(), "S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"})
    assert_failed(checked, {"endpoint": "✗"}, "endpoint", "nobody listens", "S3_ENDPOINT_URL=")


def test_a_bucket_that_keeps_versions_is_told_the_rule_that_removes_them(
    bucket: Bucket, run_here: Run
) -> None:
    assert "versions" not in run_here(bucket.settings()).marks
    client = bucket.client()
    client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    checked = run_here(bucket.settings())
    assert (checked.status, checked.marks_of(PICTURES)) == (0, dict.fromkeys(STEPS, "✓"))
    advice = checked.line("versions")
    assert advice.startswith("! ")
    assert "s3:ListBucketVersions and s3:DeleteObjectVersion" in advice
    assert "NoncurrentVersionExpiration" in advice
    # What the doctor itself has put there it has erased.
    kept = client.list_object_versions(Bucket=bucket.name)
    assert [*kept.get("Versions", []), *kept.get("DeleteMarkers", [])] == []


def test_a_bucket_name_that_cannot_be_one(bucket: Bucket, run_here: Run) -> None:
    with pytest.raises(ValueError, match="bucket's name alone"):
        run_here({**bucket.settings(), "S3_BUCKET_NAME": "No Bucket!"})


def test_no_credentials_anywhere(
    bucket: Bucket, tmp_path: Path, run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = bucket.settings()
    del settings["S3_ACCESS_KEY_ID"], settings["S3_SECRET_ACCESS_KEY"]
    checked = run_here(settings)
    expected = {"endpoint": "✓", "credentials": "✗"}
    assert_failed(checked, expected, "credentials", "NoCredentialsError", "S3_ACCESS_KEY_ID=")


def test_a_bucket_that_the_public_cannot_read(bucket: Bucket, run_here: Run) -> None:
    bucket.client().delete_bucket_policy(Bucket=bucket.name)
    checked = run_here(bucket.settings())
    assert_failed(
        checked,
        READ_FAILED,
        READ_STEP,
        "answered 403",
        rf"put-bucket-policy --bucket {bucket.name} (.|\n)*{bucket.name}/profile_pics/\*",
    )


READ_STEP = f"{READ} {PICTURES}"
GONE_STEP = f"{GONE} {PICTURES}"
READ_FAILED = dict.fromkeys(STEPS, "✓") | {READ_STEP: "✗", GONE_STEP: "-"}


@pytest.fixture
def front(bucket: Bucket) -> Iterator[Front]:
    front = Front(bucket.client(), bucket.name)
    with serve_pages(front.get) as front.url:
        yield front


def test_a_good_public_address_is_the_one_that_is_read(
    front: Front, bucket: Bucket, run_here: Run
) -> None:
    # Only the web server before it can read.
    bucket.client().delete_bucket_policy(Bucket=bucket.name)
    checked = run_here({**bucket.settings(), "S3_PUBLIC_BASE_URL": front.url})
    assert (checked.status, checked.marks_of(PICTURES)) == (0, dict.fromkeys(STEPS, "✓"))
    assert front.url in checked.line(READ_STEP)


def test_a_public_address_of_something_else(front: Front, bucket: Bucket, run_here: Run) -> None:
    front.content = b"welcome"
    assert_failed(
        run_here({**bucket.settings(), "S3_PUBLIC_BASE_URL": front.url}),
        READ_FAILED,
        READ_STEP,
        "other bytes",
        "S3_PUBLIC_BASE_URL",
    )


def test_a_public_address_that_changes_the_type(
    front: Front, bucket: Bucket, run_here: Run
) -> None:
    front.content_type = "application/octet-stream"
    assert_failed(
        run_here({**bucket.settings(), "S3_PUBLIC_BASE_URL": front.url}),
        READ_FAILED,
        READ_STEP,
        "application/octet-stream",
        "Content-Type",
    )


@pytest.mark.parametrize("status", [301, 404])
def test_a_public_address_that_does_not_serve(
    front: Front, bucket: Bucket, run_here: Run, status: int
) -> None:
    front.status = status
    assert_failed(
        run_here({**bucket.settings(), "S3_PUBLIC_BASE_URL": front.url}),
        READ_FAILED,
        READ_STEP,
        f"answered {status}",
        "S3_PUBLIC_BASE_URL",
    )


def test_a_public_address_where_nobody_listens(bucket: Bucket, run_here: Run) -> None:
    checked = run_here(
        {**bucket.settings(), "S3_PUBLIC_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    )
    assert_failed(checked, READ_FAILED, READ_STEP, "nobody listens", "S3_PUBLIC_BASE_URL")


def test_a_public_address_that_is_none(bucket: Bucket, run_here: Run) -> None:
    address = "http://127.0.0.1:port"
    with pytest.raises(ValueError, match="S3_PUBLIC_BASE_URL must be an address"):
        run_here({**bucket.settings(), "S3_PUBLIC_BASE_URL": address})


def test_a_cache_that_keeps_what_was_deleted(front: Front, bucket: Bucket, run_here: Run) -> None:
    front.is_stale = True
    checked = run_here({**bucket.settings(), "S3_PUBLIC_BASE_URL": front.url})
    assert_failed(
        checked,
        dict.fromkeys(STEPS, "✓") | {GONE_STEP: "✗"},
        GONE_STEP,
        "still answered 200",
        "cache",
    )


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedS3]:
    with guarded_s3() as guarded:
        yield guarded


@dataclass
class Guarded:
    """A bucket behind permissions, and a web server with a reader's own keys."""

    s3: GuardedS3
    bucket: Bucket
    public_url: str

    def pictures(self) -> str:
        return f"arn:aws:s3:::{self.bucket.name}/profile_pics/*"

    def run(self, run: Run, keys: dict[str, str]) -> Checked:
        return run({**self.bucket.settings(), "S3_PUBLIC_BASE_URL": self.public_url, **keys})

    def keys(self) -> list[str]:
        return self.s3.keys(self.bucket)


@pytest.fixture
def guarded_bucket(guarded: GuardedS3) -> Iterator[Guarded]:
    bucket = guarded.bucket()
    with guarded.serving(bucket) as url:
        yield Guarded(guarded, bucket, url)


def test_put_and_delete_are_enough_for_profile_pictures(
    guarded_bucket: Guarded, run_here: Run
) -> None:
    pictures = guarded_bucket.pictures()
    keys = guarded_bucket.s3.user(("s3:PutObject", pictures), ("s3:DeleteObject", pictures))
    checked = guarded_bucket.run(run_here, keys)
    assert (checked.status, checked.marks_of(PICTURES)) == (0, dict.fromkeys(STEPS, "✓")), (
        checked.output
    )
    assert checked.marks["list"] == "?"
    assert guarded_bucket.keys() == []


def test_a_key_that_may_not_put(guarded_bucket: Guarded, run_here: Run) -> None:
    pictures = guarded_bucket.pictures()
    keys = guarded_bucket.s3.user(("s3:DeleteObject", pictures))
    checked = guarded_bucket.run(run_here, keys)
    step = f"{PUT} {PICTURES}"
    cure = f"s3:PutObject on {re.escape(pictures)}"
    assert_failed(checked, PUT_FAILED, step, "AccessDenied", cure)


def test_a_key_that_may_not_delete(guarded_bucket: Guarded, run_here: Run) -> None:
    pictures = guarded_bucket.pictures()
    keys = guarded_bucket.s3.user(("s3:PutObject", pictures))
    checked = guarded_bucket.run(run_here, keys)
    step = f"{DELETE} {PICTURES}"
    expected = dict.fromkeys(STEPS, "✓") | {step: "✗", GONE_STEP: "-"}
    cure = f"s3:DeleteObject on {re.escape(pictures)}"
    assert_failed(checked, expected, step, "AccessDenied", cure)
    # What is left behind is named, so that someone can remove it; and it is one object alone.
    [left] = guarded_bucket.keys()
    assert f"delete-object --bucket {guarded_bucket.bucket.name} --key {left}" in checked.output


def test_a_key_that_the_service_does_not_know(guarded_bucket: Guarded, run_here: Run) -> None:
    keys = {"S3_ACCESS_KEY_ID": "AKIANOBODYKNOWSTHIS0", "S3_SECRET_ACCESS_KEY": "secret"}
    checked = guarded_bucket.run(run_here, keys)
    expected = {"endpoint": "✓", "credentials": "✗"}
    assert_failed(checked, expected, "credentials", "InvalidAccessKeyId", "S3_ACCESS_KEY_ID=")


def test_a_secret_that_does_not_fit_its_key(guarded_bucket: Guarded, run_here: Run) -> None:
    pictures = guarded_bucket.pictures()
    keys = guarded_bucket.s3.user(("s3:PutObject", pictures), ("s3:DeleteObject", pictures))
    secret = "a-secret-that-is-wrong-and-must-not-be-shown"
    checked = guarded_bucket.run(run_here, {**keys, "S3_SECRET_ACCESS_KEY": secret})
    expected = {"endpoint": "✓", "credentials": "✗"}
    cure = "S3_SECRET_ACCESS_KEY="
    assert_failed(checked, expected, "credentials", "SignatureDoesNotMatch", cure)
    assert secret not in checked.output
