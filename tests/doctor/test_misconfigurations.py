"""Every misconfiguration is named by the right step, and cured by exactly what is printed.

A row of the table says how a bucket is made sick, which step must name it, with which words, and
what its cure must hold. What was printed is then carried out: lines of settings are set, commands
are run, policies are given. After that the doctor finds nothing wrong.
"""

import http.server
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3.util.connection

from doctor import examination
from files import kinds
from tests.support.certificates import make_authority, make_certificate
from tests.support.clinic import Clinic, open_clinic, read_descriptions_once
from tests.support.s3 import FakeS3
from tests.support.s3_messages import Answer, Request
from tests.support.services import free_port
from tests.support.sick_s3 import SickS3, error, is_anonymous
from tests.support.web import QuietServer, WebPage

PICTURES = "profile_pics/"
ORIGINALS = "originals/"
PUBLIC_READ = f"public read {PICTURES}"
PAGE = b"<!DOCTYPE html><html><head><title>MinIO Console</title></head></html>"
HTML = "text/html; charset=utf-8"
ORIGIN = "http://localhost:5173"
# Steps that other tests are about.
ELSEWHERE = {"presigned", "promises"}


@dataclass(frozen=True)
class Seed:
    """One misconfiguration; `says` and `cure` are patterns."""

    make: Callable[[Clinic], object]
    step: str
    says: str
    cure: str
    outcome: str = "failed"


# The bucket and its policies.


def no_bucket(clinic: Clinic) -> None:
    clinic.client.delete_bucket_policy(Bucket=clinic.bucket.name)
    clinic.client.delete_bucket(Bucket=clinic.bucket.name)


def another_name(clinic: Clinic) -> None:
    clinic.settings["S3_BUCKET_NAME"] = clinic.bucket.name[:-1]


def no_policy(clinic: Clinic) -> None:
    clinic.client.delete_bucket_policy(Bucket=clinic.bucket.name)


def policy_without_star(clinic: Clinic) -> None:
    clinic.put_policy(f"{clinic.bucket.name}/{PICTURES}")


def policy_of_another_bucket(clinic: Clinic) -> None:
    clinic.put_policy(f"another-bucket/{PICTURES}*")


def policy_of_another_prefix(clinic: Clinic) -> None:
    clinic.put_policy(f"{clinic.bucket.name}/avatars/*")


def policy_of_everything(clinic: Clinic) -> None:
    clinic.put_policy(f"{clinic.bucket.name}/*")


def denied(action: str, path: str) -> Callable[[Clinic], None]:
    def deny(clinic: Clinic) -> None:
        reading = json.loads(clinic.client.get_bucket_policy(Bucket=clinic.bucket.name)["Policy"])
        denial = {
            "Sid": "NobodyMay",
            "Effect": "Deny",
            "Principal": "*",
            "Action": action,
            "Resource": f"arn:aws:s3:::{clinic.bucket.name}/{path}*",
        }
        clinic.put_statements(*reading["Statement"], denial)

    return deny


def boxes_on(clinic: Clinic) -> None:
    """As a new bucket of AWS has them; moto does not heed them."""
    boxes = {"BlockPublicPolicy": True, "RestrictPublicBuckets": True}
    clinic.client.put_public_access_block(
        Bucket=clinic.bucket.name, PublicAccessBlockConfiguration=boxes
    )

    def block(request: Request) -> Answer | None:
        found = clinic.client.get_public_access_block(Bucket=clinic.bucket.name)
        is_on = found["PublicAccessBlockConfiguration"]["RestrictPublicBuckets"]
        return error(403, "AccessDenied") if is_on and is_anonymous(request) else None

    clinic.front.ills.append(block)


def encrypts_with_kms(clinic: Clinic) -> None:
    """With a key of its own, which the service may not use."""
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    clinic.client.put_bucket_encryption(
        Bucket=clinic.bucket.name, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )


def is_encrypted_with_kms(clinic: Clinic) -> bool:
    found = clinic.client.get_bucket_encryption(Bucket=clinic.bucket.name)
    [rule] = found["ServerSideEncryptionConfiguration"]["Rules"]
    return bool(rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms")


def kms_denies_puts(clinic: Clinic) -> None:
    encrypts_with_kms(clinic)
    message = (
        "User: arn:aws:iam::123456789012:user/darkroom is not authorized to perform:"
        " kms:GenerateDataKey on resource: arn:aws:kms:us-east-1:123456789012:key/1 because no"
        " identity-based policy allows the kms:GenerateDataKey action"
    )

    def deny(request: Request) -> Answer | None:
        if request.method == "PUT" and request.key and is_encrypted_with_kms(clinic):
            return error(403, "AccessDenied", message)
        return None

    clinic.front.ills.append(deny)


def kms_denies_strangers(clinic: Clinic) -> None:
    encrypts_with_kms(clinic)
    message = (
        "Requests specifying Server Side Encryption with AWS KMS managed keys require AWS"
        " Signature Version 4."
    )

    def deny(request: Request) -> Answer | None:
        if request.method == "GET" and is_anonymous(request) and is_encrypted_with_kms(clinic):
            return error(400, "InvalidArgument", message) if request.key else None
        return None

    clinic.front.ills.append(deny)


def keeps_versions(clinic: Clinic) -> None:
    clinic.client.put_bucket_versioning(
        Bucket=clinic.bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )


def allows_no_pages(clinic: Clinic) -> None:
    clinic.settings["CORS_ORIGINS"] = ORIGIN


def allows_other_pages(clinic: Clinic) -> None:
    clinic.settings["CORS_ORIGINS"] = ORIGIN
    rule = {"AllowedOrigins": ["http://localhost:3000"], "AllowedMethods": ["GET", "PUT", "POST"]}
    clinic.client.put_bucket_cors(
        Bucket=clinic.bucket.name,
        CORSConfiguration={"CORSRules": [{**rule, "AllowedHeaders": ["*"]}]},
    )


def allows_reading_alone(clinic: Clinic) -> None:
    clinic.settings["CORS_ORIGINS"] = ORIGIN
    rule = {"AllowedOrigins": [ORIGIN], "AllowedMethods": ["GET"]}
    clinic.client.put_bucket_cors(
        Bucket=clinic.bucket.name, CORSConfiguration={"CORSRules": [rule]}
    )


# The keys, and what they may do.


def without(action: str) -> Callable[[Clinic], None]:
    """The user of the service has every right but this."""

    def take_away(clinic: Clinic) -> None:
        bucket = f"arn:aws:s3:::{clinic.bucket.name}"
        objects = [f"{bucket}/{path}*" for path in (PICTURES, ORIGINALS, "incoming/")]
        rights = {
            "s3:PutObject": objects,
            "s3:GetObject": objects,
            "s3:DeleteObject": objects,
            "s3:AbortMultipartUpload": objects,
            "s3:ListBucketMultipartUploads": [bucket],
        }
        del rights[action]
        statements = [
            {"Effect": "Allow", "Action": [name], "Resource": resources}
            for name, resources in rights.items()
        ]
        clinic.front.policies = [{"Version": "2012-10-17", "Statement": statements}]

    return take_away


def no_rights(clinic: Clinic) -> None:
    clinic.front.policies = [{"Version": "2012-10-17", "Statement": []}]


def know_keys(clinic: Clinic) -> None:
    for name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"):
        clinic.knows[name] = clinic.settings[name]


def unknown_key(clinic: Clinic) -> None:
    know_keys(clinic)
    clinic.settings["S3_ACCESS_KEY_ID"] = "AKIANOBODYKNOWSTHIS0"


def wrong_secret(clinic: Clinic) -> None:
    know_keys(clinic)
    clinic.settings["S3_SECRET_ACCESS_KEY"] = "another-secret"


def no_keys(clinic: Clinic) -> None:
    know_keys(clinic)
    del clinic.settings["S3_ACCESS_KEY_ID"], clinic.settings["S3_SECRET_ACCESS_KEY"]
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        clinic.monkeypatch.setenv(name, "/nowhere")


def no_profile(clinic: Clinic) -> None:
    no_keys(clinic)
    clinic.monkeypatch.setenv("AWS_PROFILE", "nobody")


def expired_token(clinic: Clinic) -> None:
    """Of temporary keys in the environment."""
    no_keys(clinic)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name in names:
        clinic.monkeypatch.setenv(name, "ASIAOLD")
        clinic.knows[name] = "new"
    clinic.front.secrets = {"new": "new"}

    def expire(request: Request) -> Answer | None:
        is_old = request.headers.get("x-amz-security-token") == "ASIAOLD"
        return error(400, "ExpiredToken") if is_old else None

    clinic.front.ills.append(expire)


# The endpoint and the region.


def know_endpoint(clinic: Clinic) -> None:
    clinic.knows["S3_ENDPOINT_URL"] = clinic.settings["S3_ENDPOINT_URL"]


def nobody_listens(clinic: Clinic) -> None:
    know_endpoint(clinic)
    clinic.settings["S3_ENDPOINT_URL"] = f"http://127.0.0.1:{free_port()}"


def console(clinic: Clinic) -> None:
    know_endpoint(clinic)
    url = clinic.serve(lambda path: WebPage(200, PAGE, HTML))
    clinic.settings["S3_ENDPOINT_URL"] = url


def some_application(clinic: Clinic) -> None:
    know_endpoint(clinic)
    url = clinic.serve(lambda path: WebPage(404, b'{"detail":"Not Found"}', "application/json"))
    clinic.settings["S3_ENDPOINT_URL"] = url


def https_to_http(clinic: Clinic) -> None:
    endpoint = clinic.settings["S3_ENDPOINT_URL"]
    clinic.settings["S3_ENDPOINT_URL"] = endpoint.replace("http:", "https:")


def speaks_tls(clinic: Clinic, trusts: bool = True) -> None:
    """The endpoint has a certificate of an authority that this machine itself trusts."""
    authority = make_authority(clinic.folder, "authority")
    certificate = make_certificate(clinic.folder, "localhost", authority)
    front = clinic.stack.enter_context(SickS3(clinic.bucket.endpoint, certificate))
    clinic.settings["S3_ENDPOINT_URL"] = front.url.replace("127.0.0.1", "localhost")
    clinic.monkeypatch.setenv("AWS_CA_BUNDLE" if trusts else "SSL_CERT_FILE", str(authority.file))


def http_to_https(clinic: Clinic) -> None:
    speaks_tls(clinic)
    endpoint = clinic.settings["S3_ENDPOINT_URL"]
    clinic.settings["S3_ENDPOINT_URL"] = endpoint.replace("https:", "http:")


def own_authority(clinic: Clinic) -> None:
    speaks_tls(clinic, trusts=False)


def redirects_to_https(clinic: Clinic) -> None:
    """As a proxy before a store of one's own does at its port for http."""
    speaks_tls(clinic)
    right = urlsplit(clinic.settings["S3_ENDPOINT_URL"])

    class Redirector(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(308)
            self.send_header("Location", f"{right.geturl()}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = QuietServer(Redirector)
    server.start()
    clinic.stack.callback(server.close)
    # One address with two ports: what is at the other one answers there for both.
    clinic.monkeypatch.setattr(
        "urllib3.util.connection.create_connection", lead(server.server_port, right.port or 0)
    )
    clinic.settings["S3_ENDPOINT_URL"] = "http://localhost"


def lead(http_port: int, https_port: int) -> Callable[..., Any]:
    """Connect to these where the usual ports are meant."""
    connect = urllib3.util.connection.create_connection
    ports = {80: http_port, 443: https_port}

    def reach(address: tuple[str, int], *arguments: Any, **options: Any) -> Any:
        return connect((address[0], ports.get(address[1], address[1])), *arguments, **options)

    return reach


def says_nothing(clinic: Clinic) -> None:
    clinic.monkeypatch.setattr("storage.s3_client.READ_TIMEOUT_SECONDS", 0.2)
    know_endpoint(clinic)
    silent = clinic.stack.enter_context(FakeS3())
    silent.say("hang")
    clinic.settings["S3_ENDPOINT_URL"] = silent.url


def style_of_hosts(clinic: Clinic) -> None:
    """A store that has one host for all buckets is asked by a host of the bucket."""
    name_hosts(clinic, "s3.test")
    endpoint = clinic.settings["S3_ENDPOINT_URL"]
    clinic.settings["S3_ENDPOINT_URL"] = endpoint.replace("127.0.0.1", "s3.test")
    clinic.settings["S3_ADDRESSING_STYLE"] = "virtual"


def name_hosts(clinic: Clinic, *names: str) -> None:
    """Let these names be this machine, and others below them nothing."""
    look_up = socket.getaddrinfo

    def find(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".test") and host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up("127.0.0.1" if host in names else host, *arguments, **options)

    clinic.monkeypatch.setattr(socket, "getaddrinfo", find)
    connect = urllib3.util.connection.create_connection

    def reach(address: tuple[str, int], *arguments: Any, **options: Any) -> Any:
        host = "127.0.0.1" if address[0] in names else address[0]
        return connect((host, address[1]), *arguments, **options)

    clinic.monkeypatch.setattr("urllib3.util.connection.create_connection", reach)
    # moto makes something else of a host that has a name.
    clinic.front.rewrite = partial(put_bucket_into_path, clinic.bucket.name)


def put_bucket_into_path(bucket: str, request: Request) -> Request:
    """A host that begins with a bucket's name is that bucket, and the path is a key."""
    is_named = request.headers["host"].startswith(f"{bucket}.")
    path = f"/{bucket}{request.path}" if is_named else request.path
    return replace(request, path=path, headers={**request.headers, "host": "127.0.0.1"})


def another_region(clinic: Clinic) -> None:
    clinic.front.region = "eu-central-1"


def redirects(clinic: Clinic) -> None:
    """As AWS does from one region to another."""
    right = "eu-central-1"

    def redirect(request: Request) -> Answer | None:
        if f"/{right}/s3/" in request.headers.get("authorization", "") or request.method != "GET":
            return None
        if is_anonymous(request):
            return None
        moved = error(301, "PermanentRedirect", "use the specified endpoint")
        moved.headers["x-amz-bucket-region"] = right
        return moved

    clinic.front.ills.append(redirect)


def wrong_clock(clinic: Clinic) -> None:
    clinic.front.clock = timedelta(hours=1)
    clinic.commands["sudo timedatectl set-ntp true"] = lambda: setattr(
        clinic.front, "clock", timedelta()
    )


def dead_proxy(clinic: Clinic) -> None:
    clinic.monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")


def no_bundle(clinic: Clinic) -> None:
    speaks_tls(clinic, trusts=False)
    file = os.environ["SSL_CERT_FILE"]
    clinic.monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    # What is trusted without it.
    clinic.monkeypatch.setattr("botocore.httpsession.where", lambda: file)


def is_full(clinic: Clinic) -> None:
    def refuse(request: Request) -> Answer | None:
        is_put = request.method == "PUT" and request.key
        return error(507, "XMinioStorageFull", "Storage backend is full") if is_put else None

    clinic.front.ills.append(refuse)
    clinic.heal = clinic.front.ills.clear


def firewall(clinic: Clinic) -> None:
    def refuse(request: Request) -> Answer | None:
        page = Answer(403, body=PAGE, headers={"Content-Type": HTML, "Server": "cloudflare"})
        return page if request.method == "PUT" and request.key else None

    clinic.front.ills.append(refuse)
    clinic.heal = clinic.front.ills.clear


def denied_by_organisation(clinic: Clinic) -> None:
    message = (
        "User: arn:aws:iam::123456789012:user/darkroom is not authorized to perform: s3:PutObject"
        ' on resource: "arn:aws:s3:::b/k" with an explicit deny in a service control policy'
    )

    def refuse(request: Request) -> Answer | None:
        return error(403, "AccessDenied", message) if request.method == "PUT" else None

    clinic.front.ills.append(refuse)
    clinic.heal = clinic.front.ills.clear


# What browsers load.


def another_bucket(clinic: Clinic) -> None:
    other = clinic.bucket.make(clinic.bucket.endpoint)
    know_base(clinic)
    cdn = clinic.stand_before()
    cdn.bucket = other.name


def know_base(clinic: Clinic) -> None:
    clinic.knows["S3_PUBLIC_BASE_URL"] = f"{clinic.bucket.endpoint}/{clinic.bucket.name}"


def base(path: str) -> Callable[[Clinic], None]:
    def set_base(clinic: Clinic) -> None:
        clinic.settings["S3_PUBLIC_BASE_URL"] = clinic.bucket.endpoint + path.format(
            bucket=clinic.bucket.name
        )

    return set_base


def answers(
    status: int, content: bytes = b"", content_type: str = HTML
) -> Callable[[Clinic], None]:
    def serve(clinic: Clinic) -> None:
        know_base(clinic)
        page = WebPage(status, content, content_type)
        clinic.settings["S3_PUBLIC_BASE_URL"] = clinic.serve(lambda path: page)

    return serve


def redirects_elsewhere(clinic: Clinic) -> None:
    """As a web server does that has moved from http to https, or to another name."""

    class Mover(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(301)
            bucket = clinic.bucket
            self.send_header("Location", f"{bucket.endpoint}/{bucket.name}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = QuietServer(Mover)
    server.start()
    clinic.stack.callback(server.close)
    clinic.settings["S3_PUBLIC_BASE_URL"] = server.url


def wrong_cdn(**wrong: Any) -> Callable[[Clinic], None]:
    def stand(clinic: Clinic) -> None:
        cdn = clinic.stand_before(**wrong)
        well = {"is_stale": False, "content": None, "content_type": None, "status": None}
        if "is_stale" in wrong:
            clinic.heal = lambda: vars(cdn).update(well)

    return stand


def answers_everything(clinic: Clinic) -> None:
    """As a web application does, which shows its page where there is nothing."""
    cdn = clinic.stand_before()
    is_mended: list[bool] = []

    def get(path: str) -> WebPage:
        page = cdn.get(path)
        return page if page.status == 200 or is_mended else WebPage(200, PAGE, HTML)

    clinic.settings["S3_PUBLIC_BASE_URL"] = clinic.serve(get)
    clinic.heal = lambda: is_mended.append(True)


def keeps_misses(clinic: Clinic) -> None:
    cdn = clinic.stand_before()
    missing: dict[str, WebPage] = {}
    is_mended: list[bool] = []

    def get(path: str) -> WebPage:
        page = missing.get(path) or cdn.get(path)
        if page.status == 404 and not is_mended:
            missing[path] = page
        return page

    clinic.settings["S3_PUBLIC_BASE_URL"] = clinic.serve(get)
    clinic.heal = lambda: is_mended.append(True)


def no_web_server(clinic: Clinic) -> None:
    know_base(clinic)
    clinic.settings["S3_PUBLIC_BASE_URL"] = f"http://127.0.0.1:{free_port()}"


# Settings.


def local_storage(clinic: Clinic) -> None:
    clinic.settings["STORAGE"] = "local"


def nothing_set(clinic: Clinic) -> None:
    clinic.knows["S3_BUCKET_NAME"] = clinic.settings.pop("S3_BUCKET_NAME")
    del clinic.settings["STORAGE"]


SEEDS: dict[str, Seed] = {
    "STORAGE=local with a bucket": Seed(
        local_storage, "settings", "pictures go to /.*, and not to the bucket", "^STORAGE=s3$"
    ),
    "nothing is set": Seed(nothing_set, "settings", "no bucket is set", "^S3_BUCKET_NAME="),
    "a profile that is not there": Seed(no_profile, "settings", "nobody", "^unset AWS_PROFILE$"),
    "nobody listens": Seed(nobody_listens, "endpoint", "nobody listens", "^S3_ENDPOINT_URL="),
    "the endpoint is a console": Seed(
        console, "endpoint", "no S3: .*'MinIO Console'", "^S3_ENDPOINT_URL="
    ),
    "the endpoint is some application": Seed(
        some_application, "endpoint", "no S3: it answered 404.*application/json", "S3_ENDPOINT_URL="
    ),
    "https to an http port": Seed(
        https_to_http, "endpoint", "speaks HTTP, and the settings say https", "=http://127"
    ),
    "http to an https port": Seed(
        http_to_https, "endpoint", "speaks HTTPS, and the settings say http", "=https://localhost"
    ),
    "a certificate of one's own": Seed(
        own_authority, "endpoint", "boto3 does not trust", "^export AWS_CA_BUNDLE=/.*authority.crt$"
    ),
    "http that leads to https": Seed(
        redirects_to_https, "endpoint", "http leads elsewhere", "^S3_ENDPOINT_URL=https://localhost"
    ),
    "an endpoint that says nothing": Seed(
        says_nothing, "endpoint", "says nothing for too long", "^S3_ENDPOINT_URL="
    ),
    "hosts of buckets where there is one": Seed(
        style_of_hosts, "addressing style", "knows no bucket by", "^S3_ADDRESSING_STYLE=path$"
    ),
    "a clock that is an hour off": Seed(
        wrong_clock, "clock", "RequestTimeTooSkewed.*: here it is .*, there ", "timedatectl"
    ),
    "no credentials": Seed(no_keys, "credentials", "NoCredentials", "^S3_ACCESS_KEY_ID="),
    "a key that nobody knows": Seed(
        unknown_key, "credentials", "InvalidAccessKeyId.*AKIA...HIS0", "^S3_ACCESS_KEY_ID="
    ),
    "a secret of another key": Seed(
        wrong_secret, "credentials", "SignatureDoesNotMatch", "^S3_SECRET_ACCESS_KEY="
    ),
    "a token that has expired": Seed(
        expired_token, "credentials", "ExpiredToken.*in the environment", "AWS_SESSION_TOKEN="
    ),
    "another region": Seed(
        another_region, "region", "lies in eu-central-1, and S3_REGION is us-", "=eu-central-1$"
    ),
    "a redirect to another region": Seed(
        redirects, "region", "lies in eu-central-1, and S3_REGION is us-", "=eu-central-1$"
    ),
    "no bucket": Seed(no_bucket, "bucket", "NoSuchBucket", "create-bucket --bucket bucket-"),
    "a name with a letter missing": Seed(
        another_name, "bucket", "one that is called bucket-", "^S3_BUCKET_NAME=bucket-"
    ),
    "no right at all": Seed(no_rights, f"put {PICTURES}", "may not s3:PutObject", '"s3:PutObject"'),
    "no right to put": Seed(
        without("s3:PutObject"), f"put {PICTURES}", "may not s3:PutObject", '"s3:PutObject"'
    ),
    "no right to delete": Seed(
        without("s3:DeleteObject"), f"delete {PICTURES}", "s3:DeleteObject", '"s3:DeleteObject"'
    ),
    "no right to read": Seed(
        without("s3:GetObject"), f"read with our keys {ORIGINALS}", "GetObject", '"s3:GetObject"'
    ),
    "no right to abort": Seed(
        without("s3:AbortMultipartUpload"),
        f"upload in parts {ORIGINALS}",
        "may not s3:AbortMultipartUpload",
        '"s3:AbortMultipartUpload"',
    ),
    "no right to find uploads": Seed(
        without("s3:ListBucketMultipartUploads"),
        f"upload in parts {ORIGINALS}",
        "may not s3:ListBucketMultipartUploads",
        '"s3:ListBucketMultipartUploads"',
    ),
    "puts are denied": Seed(
        denied("s3:PutObject", PICTURES), f"put {PICTURES}", "NobodyMay", "put-bucket-policy"
    ),
    "everything is denied": Seed(
        denied("s3:*", ""), f"put {PICTURES}", "NobodyMay", "put-bucket-policy"
    ),
    "a KMS key that we may not use": Seed(
        kms_denies_puts, f"put {PICTURES}", "kms:GenerateDataKey", "put-bucket-encryption"
    ),
    "a KMS key that strangers may not use": Seed(
        kms_denies_strangers, PUBLIC_READ, "a KMS key encrypts it", "put-bucket-encryption"
    ),
    "no policy": Seed(no_policy, PUBLIC_READ, "403", "put-bucket-policy"),
    "a policy without a star": Seed(policy_without_star, PUBLIC_READ, "403", r"profile_pics/\*"),
    "a policy of another bucket": Seed(
        policy_of_another_bucket, PUBLIC_READ, "403", r":bucket-\w+/profile_pics/\*"
    ),
    "a policy of another prefix": Seed(
        policy_of_another_prefix, PUBLIC_READ, "403", r"profile_pics/\*"
    ),
    "boxes block the policy": Seed(boxes_on, PUBLIC_READ, "403", '"RestrictPublicBuckets": ?false'),
    "a policy of everything": Seed(
        policy_of_everything, f"hidden {ORIGINALS}", "shows the file", "put-bucket-policy"
    ),
    "a CDN of another bucket": Seed(another_bucket, PUBLIC_READ, "404", "^S3_PUBLIC_BASE_URL="),
    "a base without the bucket": Seed(
        base(""), PUBLIC_READ, "the picture is at .*/bucket-", r"^S3_PUBLIC_BASE_URL=.*/bucket-\w+$"
    ),
    "a base with the bucket twice": Seed(
        base("/{bucket}/{bucket}"), PUBLIC_READ, "the picture is at", r"\d/bucket-\w+$"
    ),
    "a base that answers 500": Seed(
        answers(500), PUBLIC_READ, "answered 500", "^S3_PUBLIC_BASE_URL="
    ),
    "a base that is a page": Seed(
        answers(200, PAGE), PUBLIC_READ, "a page, and not the picture", "^S3_PUBLIC_BASE_URL="
    ),
    "a base that wants a login": Seed(
        answers(401), PUBLIC_READ, "answered 401", "^S3_PUBLIC_BASE_URL="
    ),
    "a base where nobody listens": Seed(
        no_web_server, PUBLIC_READ, "nobody listens", "^S3_PUBLIC_BASE_URL="
    ),
    "a base that has moved": Seed(
        redirects_elsewhere, PUBLIC_READ, "301.* leads elsewhere", r"^S3_PUBLIC_BASE_URL=.*/bucket-"
    ),
    "a CDN of other bytes": Seed(
        wrong_cdn(content=b"welcome"), PUBLIC_READ, "other bytes", "^S3_PUBLIC_BASE_URL=$"
    ),
    "a CDN that changes the type": Seed(
        wrong_cdn(content_type="text/plain"), PUBLIC_READ, "text/plain", "keep the .*Content-Type"
    ),
    "a CDN that keeps what is deleted": Seed(
        wrong_cdn(is_stale=True), f"gone {PICTURES}", "still answered 200", "cache"
    ),
    "a page in the place of what is not there": Seed(
        answers_everything, "cache in front", "200 to what is not there", "answer 404"
    ),
    "a CDN that keeps what was not there": Seed(
        keeps_misses, "cache in front", "was not there", "no 403 or 404", outcome="advice"
    ),
    "a proxy that does not answer": Seed(
        dead_proxy, "endpoint", "proxy", "^export NO_PROXY=127.0.0.1$"
    ),
    "a file of certificates that is not there": Seed(
        no_bundle, "endpoint", "names /nowhere/ca.pem", "^unset AWS_CA_BUNDLE$"
    ),
    "a full store": Seed(is_full, f"put {PICTURES}", "the store is full", "Make room"),
    "a firewall before the store": Seed(firewall, f"put {PICTURES}", "firewall", "pass on"),
    "an organisation denies puts": Seed(
        denied_by_organisation, f"put {PICTURES}", "in a service control policy", "what that policy"
    ),
    "versions are kept": Seed(
        keeps_versions, "versions", "keeps what is deleted", "Noncurrent", outcome="advice"
    ),
    "no rules for pages": Seed(
        allows_no_pages, f"CORS {ORIGIN}", "no origin is allowed", "put-bucket-cors"
    ),
    "rules for other pages": Seed(
        allows_other_pages, f"CORS {ORIGIN}", "refuse PUT to its pages", "put-bucket-cors"
    ),
    "rules for reading alone": Seed(
        allows_reading_alone, f"CORS {ORIGIN}", "refuse PUT to its pages", "put-bucket-cors"
    ),
}


@pytest.fixture(scope="module")
def front(moto: str) -> Iterator[SickS3]:
    with SickS3(moto) as front:
        yield front


@pytest.fixture
def clinic(
    front: SickS3, moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Clinic]:
    # One of those that everyone reads, and the one that is streamed: the others are like them.
    monkeypatch.setattr(kinds, "KINDS", (kinds.PROFILE_PICTURE, kinds.PHOTO_ORIGINAL))
    monkeypatch.setattr("doctor.connection.NEW_BUCKET_SECONDS", 0)
    read_descriptions_once(monkeypatch)
    clinic = open_clinic(front, moto, monkeypatch, tmp_path)
    with clinic.stack:
        yield clinic
    front.get_well()


def test_a_bucket_that_is_well_is_found_well(clinic: Clinic) -> None:
    examined = clinic.examine()
    assert (examined.status, examined.failed) == (0, []), examined
    assert clinic.bucket.objects() == {}


def test_a_bucket_that_was_made_a_moment_ago_is_waited_for(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doctor.connection.NEW_BUCKET_SECONDS", 15)
    monkeypatch.setattr("doctor.connection._PAUSE_SECONDS", 0.01)
    asked: list[Request] = []

    def not_yet(request: Request) -> Answer | None:
        asked.append(request)
        return error(404, "NoSuchBucket") if len(asked) < 4 else None

    clinic.front.ills.append(not_yet)
    examined = clinic.examine()
    assert (examined.status, examined.failed) == (0, []), examined
    assert "not at first" in examined.steps["bucket"]["what"]


def test_a_bucket_for_which_whoever_asks_pays_is_told(clinic: Clinic) -> None:
    paying = b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"

    def refuse(request: Request) -> Answer | None:
        if request.path.endswith("?requestPayment"):
            return Answer(200, body=paying)
        is_read = request.method == "GET" and request.key and is_anonymous(request)
        return error(403, "AccessDenied") if is_read else None

    clinic.front.ills.append(refuse)
    found = clinic.examine().steps[PUBLIC_READ]
    assert found["outcome"] == "failed" and "whoever asks is to pay" in found["what"]
    [paste] = found["cure"]["paste"]
    assert paste["text"].startswith("aws s3api put-bucket-request-payment --bucket bucket-")


@pytest.mark.parametrize(("minutes", "outcome"), [(0, "passed"), (5, "advice"), (60, "failed")])
def test_clocks_that_differ_are_told_also_where_nothing_is_refused(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, minutes: int, outcome: str
) -> None:
    monkeypatch.setattr(clinic.front, "_refuse", lambda request: None)
    clinic.front.clock = timedelta(minutes=-minutes)
    found = clinic.examine().steps["clock"]
    assert found["outcome"] == outcome, found


def test_a_secret_that_a_service_repeats_is_not_shown(clinic: Clinic) -> None:
    secret = clinic.settings["S3_SECRET_ACCESS_KEY"]

    def repeat(request: Request) -> Answer | None:
        signed = "authorization" in request.headers
        message = f"The key '{secret}' is not valid"
        return error(403, "InvalidAccessKeyId", message) if signed else None

    clinic.front.ills.append(repeat)
    examined = clinic.examine()
    assert "The key '...' is not valid" in examined.steps["credentials"]["what"]
    assert secret not in str(examined)


def test_when_the_time_is_over_it_is_not_called_well(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "MOST_SECONDS", 0.0)
    examined = clinic.examine()
    assert examined.status == 1
    assert "seconds of the examination are over" in examined.steps["time"]["what"]
    assert "connection" in examined.steps["time"]["what"]


@pytest.mark.parametrize("name", SEEDS)
def test_it_is_named_and_cured_by_what_is_printed(
    clinic: Clinic, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half of what is asked concerns none of these.
    steps = [step for step in examination.list_steps() if step[0] not in ELSEWHERE]
    monkeypatch.setattr(examination, "list_steps", lambda: steps)
    seed = SEEDS[name]
    seed.make(clinic)
    examined = clinic.examine()
    assert examined.steps.get(seed.step, {}).get("outcome") == seed.outcome, examined
    found = examined.steps[seed.step]
    assert re.search(seed.says, found["what"]), found
    printed = [found["cure"]["sentence"], *(paste["text"] for paste in found["cure"]["paste"])]
    assert re.search(seed.cure, "\n".join(printed), re.MULTILINE), found
    cured = clinic.cure(examined, seed.step)
    assert cured.status == 0
    assert cured.steps.get(seed.step, {}).get("outcome") in ("passed", None), cured
    assert clinic.bucket.objects() == {}
