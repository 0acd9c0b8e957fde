"""Runs what is printed as a command of the AWS CLI, by the library that the CLI itself is made of.

Knows `aws SERVICE VERB --option value ...` alone: no pipes, and one command inside another only as
the last word. Options are held against the library's own description of the call.
"""

import functools
import json
import re
import shlex
from pathlib import Path
from typing import Any, cast

import boto3
from botocore import xform_name
from botocore.config import Config

# `s3api` is what the CLI calls the plain calls of S3.
SERVICES = {"s3api": "s3", "iam": "iam", "cloudformation": "cloudformation"}
# Of the CLI itself, before those of a call.
GLOBAL = {"region", "endpoint-url", "query", "output"}
INNER = re.compile(r'"\$\((.*)\)"$', re.DOTALL)


def run_aws(command: str, endpoint_url: str, key_id: str = "test", secret: str = "test") -> Any:
    """Run one command against the server, as whom these keys belong to; return what `--query` asks.

    Raises what the library raises: for an unknown option, a missing one, and for refusals.
    """
    inner = INNER.search(command)
    if inner is not None:
        value = run_aws(inner[1], endpoint_url, key_id, secret)
        command = command[: inner.start()] + shlex.quote(value)
    program, service, verb, *words = shlex.split(command)
    assert program == "aws" and len(words) % 2 == 0, command
    given = {
        name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }
    assert all(word.startswith("--") for word in words[::2]), command
    client = make_client(
        SERVICES[service],
        given.get("endpoint-url", endpoint_url),
        given.get("region", "us-east-1"),
        key_id,
        secret,
    )
    operation = verb.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation])
    shapes = {xform_name(name, "-"): (name, shape) for name, shape in _members(model)}
    arguments = {}
    for option, value in given.items():
        if option not in GLOBAL:
            name, shape = shapes[option]
            arguments[name] = _read(value, shape.type_name)
    answer = getattr(client, operation)(**arguments)
    for name in given.get("query", "").split("."):
        answer = answer[name] if name else answer
    return answer


@functools.cache
def make_client(service: str, endpoint_url: str, region: str, key_id: str, secret: str) -> Any:
    """One for all: making it takes longer than what it is asked."""
    return cast(Any, boto3.session.Session()).client(
        service,
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def _members(model: Any) -> list[tuple[str, Any]]:
    return list(model.input_shape.members.items()) if model.input_shape else []


def _read(value: str, kind: str) -> Any:
    """Read a value as the CLI does: structures are JSON, `file://` is what is in the file."""
    if value.startswith("file://"):
        value = Path(value.removeprefix("file://")).read_text()
    return json.loads(value) if kind in ("structure", "list", "map", "boolean") else value
