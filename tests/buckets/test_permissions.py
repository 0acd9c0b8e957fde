"""Proves that the planned policies permit what our verbs need, and nothing that none of them needs.

moto heeds users and resources, and passes over conditions; a server in front of it heeds those.
"""

import copy
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from buckets import BucketPlan, applying, parts, plan_bucket, printing
from errors import StoreError
from files import kinds
from files.kinds import Kind
from locations import StoreSettings
from storage.contract import PART_BYTES
from storage.s3 import S3Store
from tests.support.backends import make_settings
from tests.support.guarded_s3 import GuardedS3, guarded_s3
from tests.support.pictures import jpeg
from tests.support.policed_s3 import Asked, PolicedS3
from tests.support.services import Bucket, Service, wait_until

CONTENT = b"some bytes"
HASH = hashlib.sha256(CONTENT).hexdigest()
READ_KINDS = [kind for kind in kinds.KINDS if kind.is_read]
Verb = Callable[["Case"], object]


@dataclass
class Case:
    """A bucket behind its policies, and the store that the service has of it."""

    front: PolicedS3
    bucket: Bucket
    store: S3Store
    plan: BucketPlan  # as for AWS, which is asked for conditions, too

    @property
    def client(self) -> Any:
        """A client that asks as the store does."""
        return Bucket(self.front.url, self.bucket.name).client()

    def prepare(self, prefix: str) -> str:
        """Put an object as somebody who may; return its key."""
        key = name_key(prefix)
        self.bucket.client().put_object(Bucket=self.bucket.name, Key=key, Body=CONTENT)
        return key

    def permit(self, *names: str) -> None:
        self.front.policies = [self.plan.iam_policies()[name] for name in names]


def name_key(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex}.jpg"


@pytest.fixture(scope="module")
def case(moto: str) -> Iterator[Case]:
    bucket = Bucket.make(moto)
    plan = plan_bucket(make_settings({"S3_BUCKET_NAME": bucket.name}))
    assert plan.is_aws
    with PolicedS3(moto) as front:
        store = S3Store(
            StoreSettings.model_validate(
                {
                    "storage": "s3",
                    "bucket_name": bucket.name,
                    "endpoint_url": front.url,
                    "access_key_id": "test",
                    "secret_access_key": "test",
                }
            )
        )
        yield Case(front, bucket, store, plan)


@pytest.fixture(autouse=True)
def nothing_is_policed_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "case" in request.fixturenames:
        request.getfixturevalue("case").front.policies = None


def put(case: Case, prefix: str) -> None:
    case.store.put(name_key(prefix), CONTENT, "image/jpeg", HASH)


def read(case: Case, prefix: str) -> None:
    key = case.prepare(prefix)
    with closing(case.store.open(key).stream) as stream:
        assert stream.read() == CONTENT
    assert case.store.exists(key)


def delete(case: Case, prefix: str) -> None:
    case.store.delete(case.prepare(prefix))
    errors = case.store.delete_many([case.prepare(prefix), case.prepare(prefix)])
    for error in errors.values():
        raise error


def upload_in_parts(case: Case, prefix: str) -> None:
    key = name_key(prefix)
    upload_id = case.store.begin_upload(key, "image/jpeg")
    receipt = case.store.put_part(key, upload_id, 1, CONTENT, HASH)
    case.store.complete_upload(key, upload_id, [receipt])


def abort(case: Case, prefix: str) -> None:
    key = name_key(prefix)
    direct = case.bucket.client()
    begun = direct.create_multipart_upload(Bucket=case.bucket.name, Key=key)
    assert case.store.find_uploads(key) == [begun["UploadId"]]
    case.store.abort_upload(key, begun["UploadId"])


def renew_marker(case: Case) -> None:
    marker = case.store.read_marker()
    case.store.write_marker(b"{}", is_first=marker is None)
    case.store.write_marker(b"{}", is_first=False)
    assert case.store.read_marker() == b"{}"


def take_in(case: Case) -> None:
    """What a browser puts, with a signature of ours, is read and removed."""
    key = name_key(kinds.INCOMING_PREFIX)
    case.client.put_object(Bucket=case.bucket.name, Key=key, Body=CONTENT)
    with closing(case.store.open(key).stream) as stream:
        assert stream.read() == CONTENT
    case.store.delete(key)


def look_at_everything(case: Case) -> None:
    for part in parts.PARTS:
        parts.look_at(case.client, case.bucket.name, part)
    case.client.get_bucket_versioning(Bucket=case.bucket.name)


def of_kinds(verb: Callable[..., object], *chosen: Kind) -> dict[str, Verb]:
    chosen = chosen or kinds.KINDS
    return {f"{verb.__name__} {kind.prefix}": partial(verb, prefix=kind.prefix) for kind in chosen}


AVATARS: dict[str, Verb] = {
    "renew_marker": renew_marker,
    **of_kinds(put, kinds.PROFILE_PICTURE),
    **of_kinds(delete, kinds.PROFILE_PICTURE),
}
PHOTOS: dict[str, Verb] = {
    **AVATARS,
    **of_kinds(put),
    **of_kinds(delete),
    **of_kinds(read, *READ_KINDS),
    **of_kinds(upload_in_parts, kinds.PHOTO_ORIGINAL),
    **of_kinds(abort, kinds.PHOTO_ORIGINAL),
    "take_in": take_in,
}
OPERATOR: dict[str, Verb] = {
    **PHOTOS,
    **of_kinds(read),
    "list": lambda case: list(case.store.find(kinds.PHOTO_RENDITION.prefix)),
    "look_at_everything": look_at_everything,
}
VERBS = {"service": AVATARS, "service-with-photos": PHOTOS, "operator": OPERATOR}


def list_without_one(policy: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The policy without one action on one resource, each in its turn, with what is missing."""
    for index, statement in enumerate(policy["Statement"]):
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                less = copy.deepcopy(policy)
                rest = less["Statement"].pop(index)
                for actions, resources in (
                    ([each for each in rest["Action"] if each != action], rest["Resource"]),
                    ([action], [each for each in rest["Resource"] if each != resource]),
                ):
                    if actions and resources:
                        changed = {**rest, "Action": actions, "Resource": resources}
                        less["Statement"].append(changed)
                yield f"{statement['Sid']}: {action} on {resource}", less


@pytest.mark.parametrize("name", VERBS)
def test_a_policy_permits_all_that_its_process_does_and_nothing_else(case: Case, name: str) -> None:
    case.permit(name)
    case.front.asked.clear()
    for verb in VERBS[name].values():
        verb(case)
    asked: list[Asked] = list(case.front.asked)
    [policy] = case.front.policies or []
    assert asked and all(each.is_allowed([policy]) for each in asked)
    superfluous = [
        missing
        for missing, less in list_without_one(policy)
        if all(each.is_allowed([less]) for each in asked)
    ]
    assert superfluous == []


def test_each_verb_fails_where_nothing_is_permitted(case: Case) -> None:
    case.front.policies = []
    for name, verb in OPERATOR.items():
        with pytest.raises((StoreError, ClientError)):
            pytest.fail(f"{name}: {verb(case)}")


def test_what_is_there_cannot_be_replaced_and_the_marker_can(case: Case) -> None:
    there = case.prepare(kinds.PROFILE_PICTURE.prefix)
    case.permit("service-with-photos")
    for key in (there, name_key(kinds.PROFILE_PICTURE.prefix)):
        with pytest.raises(ClientError, match="AccessDenied"):
            case.client.put_object(Bucket=case.bucket.name, Key=key, Body=b"anything")
    original = name_key(kinds.PHOTO_ORIGINAL.prefix)
    upload_id = case.store.begin_upload(original, "image/jpeg")
    receipt = case.store.put_part(original, upload_id, 1, CONTENT, HASH)
    with pytest.raises(ClientError, match="AccessDenied"):
        case.client.complete_multipart_upload(
            Bucket=case.bucket.name,
            Key=original,
            UploadId=upload_id,
            MultipartUpload={"Parts": [{**json.loads(receipt), "PartNumber": 1}]},
        )
    case.store.complete_upload(original, upload_id, [receipt])


def test_old_versions_are_erased_with_one_policy_more(case: Case) -> None:
    client = case.bucket.client()
    bucket = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store = case.store.in_bucket(bucket)
    policies = plan_bucket(make_settings({"S3_BUCKET_NAME": bucket})).iam_policies()

    def leaves() -> int:
        key = name_key(kinds.PROFILE_PICTURE.prefix)
        store.put(key, CONTENT, "image/jpeg", HASH)
        store.delete(key, erases=True)
        found = client.list_object_versions(Bucket=bucket, Prefix=key)
        return len([*found.get("Versions", []), *found.get("DeleteMarkers", [])])

    case.front.policies = [policies["service"], policies["erasure"]]
    assert leaves() == 0
    for action in ("s3:ListBucketVersions", "s3:DeleteObjectVersion"):
        less = copy.deepcopy(policies["erasure"])
        less["Statement"] = [each for each in less["Statement"] if action not in each["Action"]]
        assert len(less["Statement"]) == 1
        case.front.policies = [policies["service"], less]
        assert leaves() == 2


def test_whoever_applies_is_told_each_permission_that_is_missing(case: Case) -> None:
    case.permit("apply")
    [policy] = case.front.policies or []
    [statement] = policy["Statement"]
    name = f"bucket-{uuid.uuid4().hex}"
    document = json.dumps(policy).replace(case.bucket.name, name)
    settings = {"S3_BUCKET_NAME": name, "CORS_ORIGINS": "https://app.example.com"}
    plan = plan_bucket(make_settings(settings))

    def apply(missing: str = "") -> dict[str, applying.Applied]:
        less = json.loads(document)
        less["Statement"][0]["Action"] = [each for each in statement["Action"] if each != missing]
        case.front.policies = [less]
        applied = applying.apply_plan(plan, case.client, is_dry=False)
        return {each.part: each for each in applied}

    refused = apply("s3:CreateBucket")
    assert list(refused) == ["bucket"] and "s3:CreateBucket" in refused["bucket"].sentence
    # Whether it may put is only seen where there is something to put.
    for missing in sorted(set(statement["Action"]) - {"s3:CreateBucket"}):
        failed = {
            each.part: each.sentence
            for each in apply(missing).values()
            if each.outcome not in (applying.Outcome.AS_PLANNED, applying.Outcome.CHANGED)
        }
        [sentence] = failed.values()
        assert "not permitted" in sentence and f"allow {missing} on {plan.arn}" in sentence
        case.bucket.client().delete_bucket(Bucket=name)
        case.bucket.client().create_bucket(Bucket=name)


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedS3]:
    with guarded_s3() as guarded:
        yield guarded


def ask(guarded: GuardedS3, service: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=guarded.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def make_stack(guarded: GuardedS3, name: str, **parameters: str) -> dict[str, str]:
    """Make what the template says, and keys for its user; return the settings of a service."""
    template = printing.make_template(plan_bucket(make_settings({"S3_BUCKET_NAME": name})))
    given = [{"ParameterKey": key, "ParameterValue": each} for key, each in parameters.items()]
    with guarded.unguarded():
        stacks = ask(guarded, "cloudformation")
        stacks.create_stack(
            StackName=name,
            TemplateBody=json.dumps(template),
            Parameters=given,
            Capabilities=["CAPABILITY_IAM"],
        )
        [stack] = stacks.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        keys = ask(guarded, "iam").create_access_key(UserName=outputs["UserName"])["AccessKey"]
    return {
        **Bucket(guarded.endpoint, name).settings(),
        "S3_ACCESS_KEY_ID": keys["AccessKeyId"],
        "S3_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
    }


def test_the_service_works_with_what_the_template_makes(
    guarded: GuardedS3, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = f"pictures-{uuid.uuid4().hex[:8]}"
    settings = make_stack(guarded, name)
    bucket = Bucket.of(settings)
    data_dir = str(tmp_path_factory.mktemp("stack"))
    with guarded.serving(bucket) as url:
        service = Service(
            {
                **settings,
                "DATABASE_URL": new_database(),
                "DATA_DIR": data_dir,
                "S3_PUBLIC_BASE_URL": url,
            }
        )
        service.start()
        try:
            alice = service.register()
            answer = service.patch_picture(alice, jpeg())
            assert answer.status_code == 200, answer.text
            assert service.get_picture(answer.json()["image_path"]).status_code == 200
            assert service.patch_picture(alice, jpeg(320, 320)).status_code == 200
            with service.client(alice) as client:
                # Behind its picture it may have anything, as telephones write it.
                large = jpeg(640, 480) + bytes(PART_BYTES)
                made = client.post("/photos", files={"file": ("photo.jpg", large)})
                assert made.status_code == 201, made.text
                path = f"/photos/{made.json()['id']}"
                hidden = client.patch(path, json={"visibility": "private"})
                assert hidden.status_code == 200, hidden.text
                # What is signed moto answers with 500, once it heeds permissions.
                shown = client.get(f"{path}/thumbnail?preset=320")
                assert shown.is_redirect and "/private_photos/" in shown.headers["location"]
                single = client.post("/photos/thumbnail", files={"file": ("photo.jpg", jpeg())})
                assert single.status_code == 201, single.text
                found = guarded.keys(bucket)
                assert {f"{key.partition('/')[0]}/" for key in found} == {
                    kind.prefix for kind in kinds.KINDS
                } - {"photos/"}
                assert client.request(
                    "DELETE", "/users/me", json={"password": alice.password}
                ).status_code in (204, 200)
            wait_until(lambda: not guarded.keys(bucket), "the objects of the account are gone")
        finally:
            service.stop()
    refused = [line for line in service.log().splitlines() if "AccessDenied" in line]
    # Of a deletion of many moto asks for a right on the bucket, and AWS on each object.
    assert [line for line in refused if "DeleteObjects" not in line] == []


def test_the_user_of_the_template_may_do_nothing_else(guarded: GuardedS3) -> None:
    name = f"pictures-{uuid.uuid4().hex[:8]}"
    settings = make_stack(guarded, name, Photos="no")
    client = boto3.client(
        "s3",
        endpoint_url=guarded.endpoint,
        region_name="us-east-1",
        aws_access_key_id=settings["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["S3_SECRET_ACCESS_KEY"],
    )
    client.put_object(Bucket=name, Key=name_key("profile_pics/"), Body=CONTENT)
    refused: list[Callable[[], object]] = [
        lambda: client.put_object(Bucket=name, Key="anything", Body=CONTENT),
        lambda: client.put_object(Bucket=name, Key="photos/a.jpg", Body=CONTENT),
        lambda: client.put_object(Bucket=name, Key="incoming/a.jpg", Body=CONTENT),
        lambda: client.list_objects_v2(Bucket=name),
        lambda: client.get_bucket_policy(Bucket=name),
        lambda: client.put_bucket_policy(Bucket=name, Policy="{}"),
        lambda: client.delete_bucket(Bucket=name),
    ]
    for ask_for in refused:
        with pytest.raises(ClientError, match="AccessDenied"):
            ask_for()
