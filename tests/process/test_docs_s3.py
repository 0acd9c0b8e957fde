"""Proves that docs/s3.md can be followed: each command as it is written, from nothing to a picture.

What the page shows as an example is what the code prints, takes, and reckons.
"""

import io
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import boto3
import httpx
import pytest

from buckets import BucketPlan, plan_bucket, printing
from buckets.applying import apply_plan
from config import Settings
from doctor import examination
from doctor.report import TextReport
from tests.support.documents import (
    RUN_PROGRAM,
    Block,
    copy_checkout,
    find_blocks,
    needs_zsh,
    paste,
    put_uv,
    warm_python,
)
from tests.support.obeying_s3 import ObeyingS3
from tests.support.services import ROOT, Service, free_port, wait_until

PAGE = ROOT / "docs" / "s3.md"
TEXT = PAGE.read_text()
PRACTICE = "Practise on your own machine"
AWS = "On AWS, step by step"
PROVIDERS = "Other services"
PRICES = "What it costs"
# The addresses on the page: what serves, and the server that stands in the place of S3.
SERVICE_URL = "http://127.0.0.1:8000"
PRACTICE_PORT = 9000
KEYS = {"S3_ACCESS_KEY_ID": "practice", "S3_SECRET_ACCESS_KEY": "practice"}
PRINT = "scripts/run cli.py bucket print --only "
# A block of a page that is made, with what stands before it.
MADE = re.compile(r"^(<!-- made: (\S+) -->\n```\w+\n)(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^ *\| (.+) \|$", re.MULTILINE)


def find_steps(heading: str, *marks: str) -> list[Block]:
    """The blocks of a way with one of these marks, in order."""
    found = [block for block in find_blocks(PAGE) if block.heading == heading]
    return [block for block in found if block.mark in marks]


def read_section(heading: str) -> str:
    """What stands below a heading, up to the next of its level."""
    return TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def read_rows(text: str) -> list[list[str]]:
    """The rows of its tables, without headings and lines."""
    rows = [[cell.strip() for cell in row.split(" | ")] for row in ROW.findall(text)]
    lines = [index for index, row in enumerate(rows) if set("".join(row)) <= set("- |")]
    return [row for index, row in enumerate(rows) if not {index, index + 1} & set(lines)]


def make_settings(*texts: str, **more: str) -> Settings:
    """The settings of these files, as the service reads them."""
    given = dict(re.findall(r"^(\w+)=(.*)$", "\n".join(texts), re.MULTILINE))
    named = {name.lower(): value for name, value in {**given, **more}.items()}
    return Settings(_env_file=None, **cast(Any, named))


def plan_for_aws() -> BucketPlan:
    """The bucket of the way on AWS."""
    [settings] = find_steps(AWS, "ini step")
    return plan_bucket(make_settings(settings.text))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("s3"))


@pytest.fixture
def environment(checkout: Path, tmp_path: Path) -> dict[str, str]:
    """What a person's terminal has: no settings, and a folder of their own."""
    given = {name: value for name, value in os.environ.items() if name != "DARKROOM_ENV_FILE"}
    return {**given, "HOME": str(tmp_path)}


def test_practice_ends_with_a_picture_out_of_the_bucket(
    checkout: Path,
    environment: dict[str, str],
    new_database: Callable[[], str],
    tmp_path: Path,
) -> None:
    server, serve = find_steps(PRACTICE, "sh serves")
    [settings] = find_steps(PRACTICE, "ini step")
    bucket, picture = find_steps(PRACTICE, "sh step")
    port = free_port()
    exchanged = {f" {PRACTICE_PORT}": f" {port}", f":{PRACTICE_PORT}": f":{port}"}
    (checkout / ".env").write_text(settings.with_exchanged(exchanged))
    path = put_uv(tmp_path / "programs", RUN_PROGRAM)
    emulator = subprocess.Popen(
        shlex.split(server.with_exchanged(exchanged)),
        cwd=checkout,
        env={**environment, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_answering(f"http://127.0.0.1:{port}"), "the S3 server answers")
        with warm_python(checkout, environment) as run:
            typed = {**environment, "PATH": put_uv(tmp_path / "warm", run)}
            said = paste("bash", [bucket], checkout, typed)
        assert "+ bucket: my-pictures was made" in said and "✗" not in said, said
        # The database's own first start is shown by the README.
        given = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
        service = Service({**given, "PATH": path})
        unset = ("-u", "DARKROOM_ENV_FILE")
        service.command = ["env", *unset, "-C", str(checkout), *shlex.split(serve.text)]
        service.start()
        try:
            (checkout / "picture.jpg").unlink(missing_ok=True)
            paste("bash", [picture], checkout, environment, {SERVICE_URL: service.url})
            assert (checkout / "picture.jpg").read_bytes().startswith(b"\xff\xd8")
        finally:
            service.stop()
    finally:
        emulator.terminate()
        emulator.wait(10)
        (checkout / ".env").unlink()


def is_answering(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.HTTPError:
        return False
    return True


@needs_zsh
def test_the_way_on_aws_ends_with_a_bucket_that_the_doctor_finds_well(
    checkout: Path, environment: dict[str, str], moto: str, tmp_path: Path
) -> None:
    [settings] = find_steps(AWS, "ini step")
    given = {"S3_ENDPOINT_URL": moto, **KEYS}
    lines = [settings.text, *(f"{name}={value}" for name, value in given.items())]
    (checkout / ".env").write_text("\n".join(lines))
    plan = plan_bucket(make_settings(*lines))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[admin]\naws_access_key_id = admin\naws_secret_access_key = admin\n"
    )
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="admin", aws_secret_access_key="admin"
    )
    # What a person does by hand, with what was printed before.
    client.create_bucket(
        Bucket=plan.bucket, CreateBucketConfiguration=cast(Any, {"LocationConstraint": plan.region})
    )
    by_hand: dict[str, Callable[[Any], object]] = {
        "bucket-policy": lambda shown: client.put_bucket_policy(
            Bucket=plan.bucket, Policy=json.dumps(shown)
        ),
        "cors": lambda shown: client.put_bucket_cors(
            Bucket=plan.bucket, CORSConfiguration={"CORSRules": shown}
        ),
    }
    steps = find_steps(AWS, "sh step")
    documents = [step for step in steps if step.text.startswith(PRINT)]
    with warm_python(checkout, environment) as run:
        typed = {**environment, "PATH": put_uv(tmp_path / "warm", run)}
        said = paste("zsh", documents, checkout, typed)
        names = [
            name for step in documents for name in re.findall(rf"^{PRINT}(\S+)$", step.text, re.M)
        ]
        for name, shown in zip(names, read_documents(said), strict=True):
            assert shown == printing.make_documents(plan)[name]
            by_hand.get(name, lambda shown: None)(shown)
        said = paste("zsh", [step for step in steps if step not in documents], checkout, typed)
    assert "✗" not in said and "The bucket is healthy" in said, said
    # By hand these were left out: moto has no owners of its own.
    assert re.findall(r"^\+ (\w+)", said, re.MULTILINE) == ["ownership", "lifecycle"], said
    template = json.loads((checkout / "bucket.json").read_text())
    assert template == printing.make_template(plan)
    (checkout / ".env").unlink()
    client.delete_bucket(Bucket=plan.bucket)


def read_documents(said: str) -> Iterator[Any]:
    """Every JSON document among what was printed."""
    decoder = json.JSONDecoder()
    while found := re.search(r"^[\[{]", said, re.MULTILINE):
        document, end = decoder.raw_decode(said, found.start())
        yield document
        said = said[end:]


def test_what_the_page_shows_is_what_is_said(ministack: str, pytestconfig: pytest.Config) -> None:
    printed = {"bucket-policy": printing.render_documents(plan_for_aws(), "bucket-policy") + "\n"}
    with ObeyingS3(ministack) as server:
        made = {**printed, **examine_buckets(server.url)}
    if pytestconfig.getoption("--rewrite"):
        PAGE.write_text(
            MADE.sub(lambda found: f"{found[1]}{made.get(found[2], found[3])}```", TEXT)
        )
    shown = {found[2]: found[3] for found in MADE.finditer(PAGE.read_text())}
    assert shown == made, "scripts/test tests/process/test_docs_s3.py --rewrite writes it anew"


def examine_buckets(endpoint: str) -> dict[str, str]:
    """What the doctor says of the bucket of the practice where a policy is obeyed.

    It is well, and then sick in three ways.
    """
    [settings] = find_steps(PRACTICE, "ini step")
    well = {
        "S3_ENDPOINT_URL": endpoint,
        "CORS_ORIGINS": "https://app.example.com",
        **dict.fromkeys(KEYS, "test"),  # of ministack
    }
    plan = plan_bucket(make_settings(settings.text, **well))
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    list(apply_plan(plan, client, is_dry=False))

    def examine(**more: str) -> str:
        out = io.StringIO()
        examination.examine(make_settings(settings.text, **{**well, **more}), TextReport(out))
        return tell_as_on_the_page(out.getvalue(), endpoint)

    said = {"healthy": examine()}
    client.delete_bucket_policy(Bucket=plan.bucket)
    said["no-policy"] = examine()
    policy = plan.bucket_policy()
    policy["Statement"][0]["Resource"] = f"{plan.arn}/*"
    client.put_bucket_policy(Bucket=plan.bucket, Policy=json.dumps(policy))
    said["all-public"] = examine()
    said["another-scheme"] = examine(S3_ENDPOINT_URL=endpoint.replace("http:", "https:"))
    client.delete_bucket(Bucket=plan.bucket)
    healthy = said.pop("healthy")
    others = {name: tell_what_differs(text, healthy) for name, text in said.items()}
    return {"healthy": healthy, **others}


def tell_as_on_the_page(said: str, endpoint: str) -> str:
    """The same with the address of the page, and without times and random names."""
    said = said.replace(endpoint.partition("//")[2], f"127.0.0.1:{PRACTICE_PORT}")
    said = re.sub(r"\(\d+ ms\)\.$", "(900 ms).", said, flags=re.MULTILINE)
    said = re.sub(r"\(\d+ ms\)$", "(9 ms)", said, flags=re.MULTILINE)
    return re.sub(r"\b[0-9a-f]{32}\b", "0f9c", said)


def tell_what_differs(said: str, healthy: str) -> str:
    """What is said of a sick bucket, without its settings and what is as it was of the other."""
    known = set(healthy.splitlines())
    lines = [line for line in said.splitlines() if line not in known]
    return "".join(f"{line}\n" for line in lines if not re.match(r"✓|[A-Z0-9_]+=", line))


def test_the_boxes_and_rules_of_the_console_are_those_of_the_plan() -> None:
    plan = plan_for_aws()
    rows = read_rows(read_section(AWS))
    boxes = [row[1] == "on" for row in rows if row[0].startswith("... through")]
    order = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    assert boxes == [plan.public_access_block()[name] for name in order]
    assert "leave *ACLs disabled*" in TEXT
    assert plan.ownership()["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    shown = {row[0].strip("`"): row[1:] for row in rows if row[0].endswith("/`")}
    rules = plan.lifecycle(keeps_versions=False)["Rules"]
    assert shown == {rule["Filter"]["Prefix"]: list(describe_rule(rule)) for rule in rules}


def describe_rule(rule: Mapping[str, Any]) -> tuple[str, str]:
    """The row of a rule: what to tick in the console, and the days."""
    ticks = {
        "*Expire current versions*": rule.get("Expiration", {}).get("Days"),
        "*Delete incomplete multipart uploads*": rule["AbortIncompleteMultipartUpload"][
            "DaysAfterInitiation"
        ],
    }
    said = {tick: days for tick, days in ticks.items() if days is not None}
    return "; ".join(said), "; ".join(map(str, said.values()))


def test_the_settings_of_every_provider_are_taken_as_they_stand() -> None:
    blocks = find_steps(PROVIDERS, "ini")
    assert len(blocks) == read_section(PROVIDERS).count("\n### ") >= 7
    for block in blocks:
        more = {"storage": "s3", **{name.lower(): value for name, value in KEYS.items()}}
        settings = make_settings("S3_BUCKET_NAME=my-pictures", block.text, **more)
        store = settings.stores()["s3"]
        for name, value in re.findall(r"^S3_(\w+)=(.*)$", block.text, re.MULTILINE):
            assert getattr(store, name.lower()) == value, block.name


@pytest.mark.parametrize(
    ("provider", "pasted"),
    [
        ("Cloudflare R2", "https://{host}/my-pictures"),
        ("Backblaze B2", "{host}"),
        ("DigitalOcean Spaces", "https://my-pictures.{host}"),
    ],
)
def test_what_a_provider_gives_to_copy_may_be_pasted(provider: str, pasted: str) -> None:
    text = TEXT.split(f"\n### {provider}\n", 1)[1]
    [shown] = re.findall(r"\A\n```ini\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    given = dict(re.findall(r"^(\w+)=(.*)$", shown, re.MULTILINE))
    endpoint = given["S3_ENDPOINT_URL"]
    as_copied = pasted.format(host=endpoint.removeprefix("https://"))
    more = {"STORAGE": "s3", "S3_BUCKET_NAME": "my-pictures", "S3_ENDPOINT_URL": as_copied}
    store = make_settings(shown, **more, **KEYS).stores()["s3"]
    assert (store.endpoint_url, store.region) == (endpoint, given["S3_REGION"])


def test_what_a_bucket_costs_is_reckoned_right() -> None:
    section = read_section(PRICES)
    rows = {row[0]: row for row in read_rows(section)}
    numbers = {name: [float(n) for n in find_numbers(row[1])] for name, row in rows.items()}
    people, picture_kb, stored_gb, per_gb = numbers["stored"]
    assert people * picture_kb / 1e6 == stored_gb
    _, months, puts, per_put, bundle = numbers["put"]
    assert people / months == puts
    [minutes, *_] = numbers["the store's marker"]
    assert minutes == 60 * 24 * 365 / 12
    views, per_view, _ = numbers["loaded"]
    _, _, sent_gb, free_gb, per_sent_gb = numbers["sent"]
    assert views * picture_kb / 1e6 == sent_gb
    fixed = stored_gb * per_gb + (puts + minutes) * per_put / bundle

    def reckon(times: int) -> list[float]:
        requests = times * views * per_view / bundle
        sending = max(0.0, times * sent_gb - free_gb) * per_sent_gb
        return [fixed + requests + sending, requests, sending]

    costs = [stored_gb * per_gb, puts * per_put / bundle, minutes * per_put / bundle]
    costs += [reckon(1)[1], reckon(1)[2], 0.0, reckon(1)[0]]
    assert [row[-1] for row in rows.values()] == [f"{cost:.2f}" for cost in costs]
    total, requests, sending = reckon(10)
    assert f"make it {total:.2f}: {requests:.2f} for the requests, and {sending:.2f}" in section


def find_numbers(text: str) -> list[str]:
    """The numbers of a text, without the commas of their thousands."""
    return re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d)", "", text))
