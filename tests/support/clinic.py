"""A bucket that is made sick, examined by the doctor, and cured by exactly what it printed."""

import contextlib
import io
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader, Loader

from doctor.examination import examine
from doctor.report import JsonReport
from doctor.tidying import TIDY
from tests.support.aws_commands import run_aws
from tests.support.backends import make_settings
from tests.support.guarded_s3 import Front
from tests.support.services import Bucket
from tests.support.sick_s3 import SickS3
from tests.support.web import WebPage, serve_pages

_PLACEHOLDER = re.compile(r"<[^<>\n]+>$")
ROUNDS = 4


@dataclass(frozen=True)
class Examined:
    """What the doctor has found."""

    status: int
    document: dict[str, Any]

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        return {step["step"]: step for step in self.document["steps"]}

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [step for step in self.document["steps"] if step["outcome"] == "failed"]

    def __str__(self) -> str:
        return json.dumps(self.document, indent=1)


class _Cdn(Front):
    """It reads with the owner's keys, and shows what everyone may see."""

    def get(self, path: str) -> WebPage:
        if path.startswith("/profile_pics/"):
            return super().get(path)
        return WebPage(403, b"", "text/plain")


@dataclass
class Clinic:
    """One bucket behind a server that may be sick, and the settings that lead to it."""

    front: SickS3
    bucket: Bucket  # as its owner reaches it, past the front
    monkeypatch: pytest.MonkeyPatch
    folder: Path  # an empty one
    settings: dict[str, str] = field(default_factory=dict)
    # What a person puts in the place of a word between <>, by the name of the setting.
    knows: dict[str, str] = field(default_factory=dict)
    # What a command means that is none of the AWS CLI.
    commands: dict[str, Callable[[], None]] = field(default_factory=dict)
    is_admin: bool = False
    # What somebody does who reads a cure of which nothing can be pasted.
    heal: Callable[[], object] | None = None
    # Servers that end with the clinic.
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def client(self) -> Any:
        return self.bucket.client()

    def put_policy(self, *resources: str, **more: Any) -> None:
        """Give the bucket a policy for all to read these; they are beside its ARN."""
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": [f"arn:aws:s3:::{resource}" for resource in resources],
            **more,
        }
        self.put_statements(statement)

    def put_statements(self, *statements: dict[str, Any]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self.client.put_bucket_policy(Bucket=self.bucket.name, Policy=document)

    def serve(self, get: Callable[[str], WebPage]) -> str:
        """Let a web server of its own answer; returns its address."""
        return self.stack.enter_context(serve_pages(get))

    def stand_before(self, **wrong: Any) -> Front:
        """Put a CDN before the bucket, which is wrong in some way."""
        cdn = _Cdn(self.client, self.bucket.name, **wrong)
        cdn.url = self.serve(cdn.get)
        self.settings["S3_PUBLIC_BASE_URL"] = cdn.url
        return cdn

    def examine(self) -> Examined:
        """Let the doctor look, in this process."""
        out = io.StringIO()
        settings = make_settings(self.settings)
        status = examine(settings, JsonReport(out), "admin" if self.is_admin else None)
        return Examined(status, json.loads(out.getvalue()))

    def cure(self, examined: Examined, step: str) -> Examined:
        """Carry out what is printed of this step, and of what fails then, until nothing does."""
        # What is left behind is told once only.
        wanted = [examined.steps[each] for each in (step, TIDY) if each in examined.steps]
        for _ in range(ROUNDS):
            for found in wanted:
                for paste in found.get("cure", {}).get("paste", []):
                    self.paste(paste["kind"], paste["text"])
            if self.heal is not None:
                self.heal()
            examined = self.examine()
            wanted = examined.failed
            if not wanted:
                return examined
        raise AssertionError(f"what was printed cures nothing:\n{examined}")

    def paste(self, kind: str, text: str) -> None:
        """Do with a text what a person does."""
        {"env": self._set, "shell": self._run, "json": self._allow}[kind](text)

    def _set(self, text: str) -> None:
        for line in text.splitlines():
            name, _, value = line.partition("=")
            if _PLACEHOLDER.search(value):
                value = self.knows[name]
            if value:
                self.settings[name] = value
            else:
                self.settings.pop(name, None)

    def _run(self, command: str) -> None:
        words = shlex.split(command)
        if words[0] == "aws":
            run_aws(re.sub(r" --endpoint-url \S+", "", command), self.bucket.endpoint)
        elif words[0] == "export":
            for word in words[1:]:
                name, _, value = word.partition("=")
                self.monkeypatch.setenv(name, self.knows[name] if "<" in value else value)
        elif words[0] == "unset":
            self.monkeypatch.delenv(words[1])
        else:
            self.commands[command]()

    def _allow(self, text: str) -> None:
        """Give the policy to the only user there is."""
        self.front.policies = [json.loads(text)]


def read_descriptions_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore read its descriptions of services once for all clients: it takes longest."""
    monkeypatch.setattr(JSONFileLoader, "load_file", _load_file)
    monkeypatch.setattr(Loader, "list_available_services", _list_services)


_load = JSONFileLoader.load_file
_DESCRIPTIONS: dict[str, Any] = {}


def _load_file(loader: JSONFileLoader, path: str) -> Any:
    if path not in _DESCRIPTIONS:
        _DESCRIPTIONS[path] = _load(loader, path)
    return _DESCRIPTIONS[path]


def _list_services(loader: Loader, type_name: str) -> list[str]:
    return ["cloudformation", "iam", "s3", "sts"]


def open_clinic(front: SickS3, moto: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Clinic:
    """Make a bucket that is well, behind a front that is well."""
    bucket = Bucket.make(moto)
    settings = {**bucket.settings(), "S3_ENDPOINT_URL": front.url}
    settings["S3_ACCESS_KEY_ID"] = "AKIAIOSFODNN7EXAMPLE"
    settings["S3_SECRET_ACCESS_KEY"] = "the-secret-of-the-service"
    clinic = Clinic(front, bucket, monkeypatch, folder, settings)
    front.secrets = {settings["S3_ACCESS_KEY_ID"]: settings["S3_SECRET_ACCESS_KEY"]}
    return clinic
