"""What pages of providers give to copy, pasted as it is, is read as it is meant, or named."""

import json
import re
from pathlib import Path

import botocore
import pytest

from s3 import Names, Place, read_place
from s3.regions import read_region
from tests.support.services import ROOT

ACCOUNT = "0123456789abcdef0123456789abcdef"
R2 = f"https://{ACCOUNT}.r2.cloudflarestorage.com"
B2 = "https://s3.eu-central-003.backblazeb2.com"
SPACES = "https://fra1.digitaloceanspaces.com"
CONSOLE = "https://eu-west-1.console.aws.amazon.com/s3/buckets"
PRIVATE_LINK = "bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com"
UNSEEN = "Cloudflare R2 shows browsers nothing"


def read(**pasted: str | None) -> tuple[Place, tuple[str, ...]]:
    return read_place(Place(**pasted), Names(), may_take_bucket=True)


def place(**expected: str | None) -> Place:
    return Place(**expected)


PLAIN = {"bucket": "pictures"}


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        # What needs no reading at all.
        (
            {"bucket": "pictures", "region": "eu-central-1"},
            {"bucket": "pictures", "region": "eu-central-1"},
        ),
        (
            {"bucket": "pictures", "endpoint": "http://minio:9000", "region": "us-east-1"},
            {"bucket": "pictures", "endpoint": "http://minio:9000", "region": "us-east-1"},
        ),
        ({**PLAIN, "endpoint": "https://host.example/s3"}, {"endpoint": "https://host.example/s3"}),
        ({**PLAIN, "endpoint": "http://a:5000", "region": "RegionOne"}, {"region": "RegionOne"}),
        ({**PLAIN, "endpoint": "http://[::1]:9000/"}, {"endpoint": "http://[::1]:9000"}),
        (
            {"bucket": "bucket", "endpoint": f"https://{PRIVATE_LINK}"},
            {"endpoint": f"https://{PRIVATE_LINK}"},
        ),
        (
            {"bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"},
            {"bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"},
        ),
        ({"bucket": "tenant.pictures"}, {"bucket": "tenant.pictures"}),
        (
            {**PLAIN, "public_base": "https://cdn.example.com/pictures/"},
            {"public_base": "https://cdn.example.com/pictures"},
        ),
        # Spaces and line ends are nobody's.
        ({"bucket": " pictures\r\n", "region": "\teu-west-1 "}, {"region": "eu-west-1"}),
        ({"bucket": "pictures", "region": " "}, {"region": None}),
        ({"bucket": "\ufeffpictures\u200b", "endpoint": ""}, {"endpoint": None}),
        # R2's own region, by each of its names.
        *(
            (
                {**PLAIN, "endpoint": R2, "region": region, "public_base": "https://a.example"},
                {"endpoint": R2, "region": region},
            )
            for region in ("auto", "us-east-1", "weur", None)
        ),
    ],
)
def test_what_is_right_is_left_as_it_is(
    pasted: dict[str, str], expected: dict[str, str | None]
) -> None:
    found, notes = read(**pasted)
    assert notes == ()
    assert {field: getattr(found, field) for field in expected} == expected


READ: list[tuple[dict[str, str | None], dict[str, str | None]]] = [
    # Quotes and labels, as an --env-file of Docker keeps them, or a page copies them.
    ({"bucket": '"pictures"'}, {"bucket": "pictures"}),
    ({"bucket": "'pictures'", "region": "`eu-west-1`"}, {"region": "eu-west-1"}),
    ({"bucket": "S3_BUCKET_NAME=pictures"}, {"bucket": "pictures"}),
    ({"bucket": 'export AWS_BUCKET="pictures"'}, {"bucket": "pictures"}),
    ({"bucket": "Bucket name: pictures"}, {"bucket": "pictures"}),
    ({"bucket": '"bucket": "pictures",'}, {"bucket": "pictures"}),
    ({**PLAIN, "region": "AWS_REGION = eu-west-1"}, {"region": "eu-west-1"}),
    (
        {**PLAIN, "endpoint": "Endpoint: https://s3.example.com"},
        {"endpoint": "https://s3.example.com"},
    ),
    (
        {**PLAIN, "endpoint": "endpoint_url=https://s3.example.com/"},
        {"endpoint": "https://s3.example.com"},
    ),
    ({**PLAIN, "endpoint": "<https://s3.example.com>"}, {"endpoint": "https://s3.example.com"}),
    # Names of buckets.
    ({"bucket": "s3://pictures"}, {"bucket": "pictures"}),
    ({"bucket": "s3://pictures/"}, {"bucket": "pictures"}),
    (
        {"bucket": "gs://pictures", "endpoint": "https://storage.googleapis.com"},
        {"bucket": "pictures"},
    ),
    ({"bucket": "arn:aws:s3:::pictures"}, {"bucket": "pictures"}),
    ({"bucket": "arn:aws-cn:s3:::pictures/*"}, {"bucket": "pictures"}),
    ({"bucket": "arn:aws:s3:::pictures/profile_pics/*"}, {"bucket": "pictures"}),
    (
        {"bucket": "https://pictures.s3.eu-west-1.amazonaws.com/"},
        {"bucket": "pictures", "region": "eu-west-1", "endpoint": None},
    ),
    (
        {"bucket": "https://s3.eu-west-1.amazonaws.com/pictures", "region": "us-east-1"},
        {"bucket": "pictures", "region": "eu-west-1"},
    ),
    ({"bucket": "pictures.s3.amazonaws.com"}, {"bucket": "pictures", "region": None}),
    (
        {"bucket": f"{CONSOLE}/pictures?region=eu-west-3&tab=objects"},
        {"bucket": "pictures", "region": "eu-west-3"},
    ),
    (
        {"bucket": "https://pictures.fra1.digitaloceanspaces.com"},
        {"bucket": "pictures", "endpoint": SPACES, "region": "fra1"},
    ),
    (
        {"bucket": "pictures-123456789012-eu-west-1-an"},
        {"bucket": "pictures-123456789012-eu-west-1-an", "region": "eu-west-1"},
    ),
    # Endpoints without a scheme, with http, in capitals.
    (
        {**PLAIN, "endpoint": "s3.eu-central-003.backblazeb2.com"},
        {"endpoint": B2, "region": "eu-central-003"},
    ),
    (
        {**PLAIN, "endpoint": "S3.Example.com", "region": "here"},
        {"endpoint": "https://s3.example.com"},
    ),
    (
        {**PLAIN, "endpoint": "http://fra1.digitaloceanspaces.com", "region": "fra1"},
        {"endpoint": SPACES},
    ),
    ({**PLAIN, "endpoint": "https://fsn1.your-objectstorage.com"}, {"region": "fsn1"}),
    (
        {**PLAIN, "endpoint": "https://s3.fr-par.scw.cloud", "region": "us-east-1"},
        {"region": "fr-par"},
    ),
    ({**PLAIN, "endpoint": "https://s3.gra.io.cloud.ovh.net"}, {"region": "gra"}),
    ({**PLAIN, "endpoint": "https://s3.us-west-1.idrivee2.com"}, {"region": "us-west-1"}),
    ({**PLAIN, "endpoint": "https://s3.eu-central-1.wasabisys.com"}, {"region": "eu-central-1"}),
    ({**PLAIN, "endpoint": R2, "region": "eu-central-1"}, {"endpoint": R2, "region": "auto"}),
    # With the bucket as the path or the host.
    ({**PLAIN, "endpoint": f"{R2}/pictures"}, {"endpoint": R2}),
    ({"endpoint": f"{R2}/pictures"}, {"endpoint": R2, "bucket": "pictures"}),
    ({**PLAIN, "endpoint": f"https://pictures.{R2[8:]}"}, {"endpoint": R2}),
    ({**PLAIN, "endpoint": f"{R2[:-23]}.eu.r2.cloudflarestorage.com/pictures/"}, {"region": None}),
    (
        {**PLAIN, "endpoint": "https://pictures.fra1.digitaloceanspaces.com"},
        {"endpoint": SPACES, "region": "fra1"},
    ),
    (
        {"endpoint": "https://pictures.fra1.digitaloceanspaces.com/"},
        {"endpoint": SPACES, "bucket": "pictures"},
    ),
    (
        {**PLAIN, "endpoint": "https://pictures.fra1.cdn.digitaloceanspaces.com"},
        {"endpoint": SPACES},
    ),
    (
        {**PLAIN, "endpoint": "https://storage.googleapis.com/pictures"},
        {"endpoint": "https://storage.googleapis.com"},
    ),
    (
        {**PLAIN, "endpoint": "https://pictures.s3.example.com"},
        {"endpoint": "https://s3.example.com"},
    ),
    ({**PLAIN, "endpoint": "http://minio:9000/pictures"}, {"endpoint": "http://minio:9000"}),
    # Those of AWS, which need no setting.
    (
        {**PLAIN, "endpoint": "https://s3.eu-west-1.amazonaws.com"},
        {"endpoint": None, "region": "eu-west-1"},
    ),
    (
        {**PLAIN, "endpoint": "s3-eu-west-1.amazonaws.com", "region": "us-east-1"},
        {"endpoint": None, "region": "eu-west-1"},
    ),
    (
        {**PLAIN, "endpoint": "https://pictures.s3.eu-west-1.amazonaws.com"},
        {"endpoint": None, "region": "eu-west-1"},
    ),
    (
        {**PLAIN, "endpoint": "https://s3.amazonaws.com", "region": "eu-west-1"},
        {"endpoint": None, "region": "eu-west-1"},
    ),
    (
        {**PLAIN, "endpoint": "https://s3.cn-north-1.amazonaws.com.cn"},
        {"endpoint": None, "region": "cn-north-1"},
    ),
    (
        {**PLAIN, "endpoint": "https://s3.eusc-de-east-1.amazonaws.eu"},
        {"endpoint": None, "region": "eusc-de-east-1"},
    ),
    (
        {**PLAIN, "endpoint": "https://pictures.s3-accelerate.amazonaws.com"},
        {"endpoint": "https://s3-accelerate.amazonaws.com"},
    ),
    (
        {**PLAIN, "endpoint": "https://s3.dualstack.eu-west-1.amazonaws.com"},
        {"endpoint": "https://s3.dualstack.eu-west-1.amazonaws.com", "region": "eu-west-1"},
    ),
    ({**PLAIN, "endpoint": "none"}, {"endpoint": None}),
    # Regions.
    ({**PLAIN, "region": "EU-West-1"}, {"region": "eu-west-1"}),
    ({**PLAIN, "endpoint": B2, "region": "EU-Central-003"}, {"region": "eu-central-003"}),
    ({**PLAIN, "region": "us-east-1a"}, {"region": "us-east-1"}),
    ({**PLAIN, "region": "US East (N. Virginia)"}, {"region": "us-east-1"}),
    ({**PLAIN, "region": "US East (N. Virginia) us-east-1"}, {"region": "us-east-1"}),
    ({**PLAIN, "region": "EU (Frankfurt)"}, {"region": "eu-central-1"}),
    ({**PLAIN, "region": "South America (S\u00e3o Paulo)"}, {"region": "sa-east-1"}),
    ({**PLAIN, "region": "EU"}, {"region": "eu-west-1"}),
    ({**PLAIN, "region": "Frankfurt"}, {"region": "eu-central-1"}),
    (
        {**PLAIN, "endpoint": SPACES, "region": "Frankfurt, Datacenter 1 (FRA1)"},
        {"region": "fra1"},
    ),
    (
        {
            **PLAIN,
            "endpoint": "https://storage.googleapis.com",
            "region": "eu (multiple regions in European Union)",
        },
        {"region": "auto"},
    ),
    ({**PLAIN, "region": "null"}, {"region": None}),
    ({**PLAIN, "region": "s3.eu-west-1.amazonaws.com"}, {"region": "eu-west-1"}),
    ({**PLAIN, "endpoint": B2, "region": "auto"}, {"region": "eu-central-003"}),
    # Public addresses.
    ({**PLAIN, "public_base": "cdn.example.com"}, {"public_base": "https://cdn.example.com"}),
    (
        {**PLAIN, "public_base": "http://pub-0123abcd.r2.dev/"},
        {"public_base": "https://pub-0123abcd.r2.dev"},
    ),
    ({**PLAIN, "public_base": "https://s3.eu-west-1.amazonaws.com"}, {"public_base": None}),
    (
        {**PLAIN, "endpoint": "https://s3.example.com", "public_base": "https://s3.example.com/"},
        {"public_base": None},
    ),
    (
        {**PLAIN, "public_base": "https://pictures.s3.eu-west-1.amazonaws.com/pictures"},
        {"public_base": "https://pictures.s3.eu-west-1.amazonaws.com"},
    ),
    (
        {**PLAIN, "public_base": "pictures.s3-website.eu-west-1.amazonaws.com"},
        {"public_base": "http://pictures.s3-website.eu-west-1.amazonaws.com"},
    ),
]


@pytest.mark.parametrize(("pasted", "expected"), READ)
def test_what_can_mean_one_thing_only_is_read_so_and_noted(
    pasted: dict[str, str], expected: dict[str, str | None]
) -> None:
    found, notes = read(**pasted)
    assert {field: getattr(found, field) for field in expected} == expected
    if expected != {"endpoint": None} and expected != {"region": None}:
        assert [note for note in notes if note.startswith("S3_")], notes
    # Read once more it is the same, and there is nothing left to note but what remains wrong.
    again, more = read_place(found, Names())
    assert again == found
    assert [note for note in more if " read as " in note or "taken" in note] == []


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ({"bucket": "s3://pictures/avatars"}, "S3_BUCKET_NAME must be the bucket's name alone"),
        ({"bucket": "pictures/avatars"}, "S3_BUCKET_NAME must be the bucket's name alone"),
        ({"bucket": "https://example.com/pictures"}, "as in my-pictures"),
        ({**PLAIN, "endpoint": "minio:9000"}, "S3_ENDPOINT_URL=http://minio:9000"),
        ({**PLAIN, "endpoint": "127.0.0.1:9000"}, "S3_ENDPOINT_URL=http://127.0.0.1:9000"),
        ({**PLAIN, "endpoint": "localhost"}, "S3_ENDPOINT_URL=http://localhost"),
        ({**PLAIN, "endpoint": "s3://pictures"}, "leave S3_ENDPOINT_URL empty"),
        ({**PLAIN, "endpoint": "arn:aws:s3:::pictures"}, "leave S3_ENDPOINT_URL empty"),
        ({**PLAIN, "endpoint": "ftp://example.com"}, "S3_ENDPOINT_URL must be an address"),
        (
            {**PLAIN, "endpoint": "https://s3.example.com:port"},
            "S3_ENDPOINT_URL must be an address",
        ),
        ({**PLAIN, "endpoint": f"{R2}/other"}, f"S3_ENDPOINT_URL={R2} "),
        (
            {**PLAIN, "endpoint": "https://other.fra1.digitaloceanspaces.com"},
            "names the bucket other",
        ),
        ({**PLAIN, "endpoint": f"{R2}/pictures/avatars"}, f"S3_ENDPOINT_URL={R2}"),
        (
            {**PLAIN, "endpoint": "https://pub-0123abcd.r2.dev"},
            "https://<account id>.r2.cloudflarestorage.com",
        ),
        (
            {**PLAIN, "endpoint": "https://f003.backblazeb2.com/file/pictures"},
            "https://s3.<region>.backblazeb2.com",
        ),
        (
            {**PLAIN, "endpoint": "https://d111111abcdef8.cloudfront.net"},
            "leave S3_ENDPOINT_URL empty",
        ),
        (
            {**PLAIN, "endpoint": "http://pictures.s3-website-us-east-1.amazonaws.com"},
            "only shows objects",
        ),
        (
            {
                **PLAIN,
                "endpoint": f"https://dash.cloudflare.com/{ACCOUNT}/r2/default/buckets/pictures",
            },
            "S3_ENDPOINT_URL=https://<account id>.r2.cloudflarestorage.com",
        ),
        (
            {**PLAIN, "endpoint": "https://secure.backblaze.com/b2_buckets.htm"},
            "shows pages to people",
        ),
        (
            {**PLAIN, "endpoint": "https://cloud.digitalocean.com/spaces/pictures?i=1"},
            "shows pages to people",
        ),
        (
            {**PLAIN, "endpoint": "https://console.cloud.google.com/storage/browser/pictures"},
            "storage.googleapis.com",
        ),
        (
            {"endpoint": f"{CONSOLE}/pictures?region=eu-west-3"},
            "leave S3_ENDPOINT_URL empty, set S3_BUCKET_NAME=pictures, set S3_REGION=eu-west-3",
        ),
        ({**PLAIN, "endpoint": "http://minio:9001/browser/pictures"}, "MinIO's S3 is at port 9000"),
        (
            {**PLAIN, "endpoint": "https://s3.example.com/?X-Amz-Signature=a"},
            "S3_ENDPOINT_URL must be an address",
        ),
        (
            {**PLAIN, "endpoint": "https://s3.eu-west-1.amazonaws.com", "region": "eu-west-3"},
            "set S3_REGION=eu-west-1, or leave S3_ENDPOINT_URL empty",
        ),
        (
            {"bucket": "p-123456789012-eu-west-1-an", "region": "eu-west-3"},
            "set S3_REGION=eu-west-1",
        ),
        ({**PLAIN, "region": "auto"}, "S3_REGION=eu-central-1"),
        ({**PLAIN, "region": "Global"}, "S3_REGION=eu-central-1"),
        ({**PLAIN, "region": "no region"}, "S3_REGION must be the code of a region"),
        ({**PLAIN, "region": "https://s3.example.com"}, "S3_REGION must be the code of a region"),
        ({**PLAIN, "region": "Central"}, "S3_REGION must be the code of a region"),
        (
            {**PLAIN, "endpoint": "https://mine-123.s3-accesspoint.eu-west-1.amazonaws.com"},
            "set S3_BUCKET_NAME to the access point's ARN or its alias",
        ),
        ({**PLAIN, "endpoint": "https://aws.amazon.com/s3/"}, "leave S3_ENDPOINT_URL empty"),
        (
            {**PLAIN, "public_base": "https://cdn.example.com/profile_pics/x.jpg"},
            "/profile_pics/x.jpg is the path of one file",
        ),
        ({**PLAIN, "public_base": "s3://pictures"}, "S3_PUBLIC_BASE_URL must be an address"),
        (
            {**PLAIN, "public_base": f"https://dash.cloudflare.com/{ACCOUNT}/r2"},
            "shows pages to people",
        ),
        ({**PLAIN, "public_base": "localhost:9000"}, "S3_PUBLIC_BASE_URL=http://localhost:9000"),
        (
            {**PLAIN, "public_base": "https://a.example/x.jpg?X-Amz-Signature=a"},
            "S3_PUBLIC_BASE_URL must be",
        ),
    ],
)
def test_what_cannot_be_is_named_in_one_sentence_with_the_line_to_set(
    pasted: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match="S3_") as refused:
        read(**pasted)
    sentence = str(refused.value)
    assert words in sentence and not sentence.endswith(".")


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ({**PLAIN, "endpoint": R2, "region": "auto"}, UNSEEN),
        ({**PLAIN, "endpoint": R2, "public_base": R2}, UNSEEN),
        ({**PLAIN, "endpoint": R2, "public_base": f"{R2}/pictures"}, UNSEEN),
        ({**PLAIN, "endpoint": B2, "region": "us-west-004"}, "set S3_REGION=eu-central-003"),
        ({**PLAIN, "endpoint": "http://minio:9001"}, "its S3 is at 9000"),
        (
            {**PLAIN, "key_id": "ASIAIOSFODNN7EXAMPLE", "secret": "a" * 40},
            "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
        ),
        (
            {**PLAIN, "public_base": "https://other.s3.eu-west-1.amazonaws.com"},
            "shows the bucket other",
        ),
    ],
)
def test_what_may_be_wrong_is_noted(pasted: dict[str, str], words: str) -> None:
    assert any(words in note for note in read(**pasted)[1])


def test_a_bucket_is_taken_from_an_endpoint_only_where_s3_is_meant() -> None:
    found, _ = read_place(Place(endpoint=f"{R2}/pictures"), Names())
    assert (found.bucket, found.endpoint) == (None, R2)


def test_whoever_writes_a_name_and_a_password_into_an_address_does_not_see_them_again() -> None:
    with pytest.raises(ValueError, match="without a name or a password") as refused:
        read(**PLAIN, endpoint="https://me:hidden-word@s3.example.com")
    assert "hidden-word" not in str(refused.value)


PAIRS = {
    "AWS": ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "R2": ("0123456789abcdef" * 2, "fedcba9876543210" * 4),
    "B2": ("0031234567890ab0000000001", "K003abcdefghijklmnopqrstuvwxyz1"),
    "GCS": ("GOOG1EABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGHIJKLMNOPQ", "a" * 40),
    "Spaces": ("DO00ABCDEFGHIJKLMNOP", "a" * 43),
    "Wasabi": ("ABCDEFGHIJ1234567890", "b" * 40),
    "Scaleway": ("SCW1ABCDEFGHIJKLMNOP", "01234567-89ab-cdef-0123-456789abcdef"),
    "MinIO": ("minioadmin", "minioadmin"),
}


@pytest.mark.parametrize("provider", PAIRS)
@pytest.mark.parametrize("is_exchanged", [False, True])
def test_keys_that_are_exchanged_are_read_the_other_way_round(
    provider: str, is_exchanged: bool
) -> None:
    key_id, secret = PAIRS[provider]
    given = (secret, key_id) if is_exchanged else (key_id, secret)
    found, notes = read(**PLAIN, key_id=given[0], secret=given[1])
    assert (found.key_id, found.secret) == (key_id, secret)
    assert len(notes) == (is_exchanged and provider != "MinIO")
    assert all(key_id not in note and secret not in note for note in notes)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (" ", "\r\n"),
        ('"', '"'),
        ("AWS_ACCESS_KEY_ID=", ""),
        ("export AWS_ACCESS_KEY_ID='", "'"),
        ("Access key ID: ", ""),
        ("keyID: ", ""),
        ('"accessKeyId": "', '"'),
    ],
)
def test_a_key_is_read_without_what_stood_around_it(before: str, after: str) -> None:
    key_id, secret = PAIRS["AWS"]
    found, _ = read(**PLAIN, key_id=f"{before}{key_id}{after}", secret=secret)
    assert (found.key_id, found.secret) == (key_id, secret)


@pytest.mark.parametrize(
    "secret", ["abc/keydef=ghi+secretABC==", "my-secret=", "a:key:b", "pass;word;", "key/x==", "'"]
)
def test_a_secret_that_looks_a_little_like_a_label_is_left_alone(secret: str) -> None:
    assert read(**PLAIN, key_id="minio", secret=secret)[0].secret == secret


def test_the_names_of_regions_are_those_of_botocores_data() -> None:
    file = Path(botocore.__file__).parent / "data" / "endpoints.json"
    for partition in json.loads(file.read_text())["partitions"]:
        if partition["partition"].startswith("aws-iso"):
            continue  # whose pages nobody pastes from
        for code, region in partition["regions"].items():
            assert read_region(region["description"], "S3_REGION", is_of_aws=True) == code


def test_what_the_page_about_buckets_shows_for_each_service_is_read_as_it_stands() -> None:
    page = (ROOT / "docs" / "s3.md").read_text().partition("## Other services")[2]
    blocks = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        given = dict(line.split("=", 1) for line in block.splitlines())
        found, notes = read(
            bucket="my-pictures",
            region=given.get("S3_REGION"),
            endpoint=given.get("S3_ENDPOINT_URL"),
            public_base=given.get("S3_PUBLIC_BASE_URL"),
        )
        assert notes == (), block
        assert found.endpoint == given["S3_ENDPOINT_URL"]
