"""The code of a region, also where its name, its zone or an address is pasted."""

import re

USUAL = "us-east-1"

_CODE = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-\d")
_ZONE = re.compile(rf"({_CODE.pattern})[a-z]")
_CODE_IN_TEXT = re.compile(rf"(?<![a-z0-9-]){_CODE.pattern}(?![a-z0-9-])")
_AS_SET = re.compile(r"[A-Za-z0-9-]+")
# As the console names them, in its short form: a test compares them with botocore's data. The
# older names of a few, which pages still have, come behind them.
_NAMES = {
    "africa (cape town)": "af-south-1",
    "asia pacific (hong kong)": "ap-east-1",
    "asia pacific (taipei)": "ap-east-2",
    "asia pacific (tokyo)": "ap-northeast-1",
    "asia pacific (seoul)": "ap-northeast-2",
    "asia pacific (osaka)": "ap-northeast-3",
    "asia pacific (mumbai)": "ap-south-1",
    "asia pacific (hyderabad)": "ap-south-2",
    "asia pacific (singapore)": "ap-southeast-1",
    "asia pacific (sydney)": "ap-southeast-2",
    "asia pacific (jakarta)": "ap-southeast-3",
    "asia pacific (melbourne)": "ap-southeast-4",
    "asia pacific (malaysia)": "ap-southeast-5",
    "asia pacific (new zealand)": "ap-southeast-6",
    "asia pacific (thailand)": "ap-southeast-7",
    "canada (central)": "ca-central-1",
    "canada west (calgary)": "ca-west-1",
    "europe (frankfurt)": "eu-central-1",
    "europe (zurich)": "eu-central-2",
    "europe (stockholm)": "eu-north-1",
    "europe (milan)": "eu-south-1",
    "europe (spain)": "eu-south-2",
    "europe (ireland)": "eu-west-1",
    "europe (london)": "eu-west-2",
    "europe (paris)": "eu-west-3",
    "israel (tel aviv)": "il-central-1",
    "middle east (uae)": "me-central-1",
    "middle east (bahrain)": "me-south-1",
    "mexico (central)": "mx-central-1",
    "south america (sao paulo)": "sa-east-1",
    "us east (n. virginia)": "us-east-1",
    "us east (ohio)": "us-east-2",
    "us west (n. california)": "us-west-1",
    "us west (oregon)": "us-west-2",
    "china (beijing)": "cn-north-1",
    "china (ningxia)": "cn-northwest-1",
    "aws govcloud (us-east)": "us-gov-east-1",
    "aws govcloud (us-west)": "us-gov-west-1",
    "eusc (germany)": "eusc-de-east-1",
    "us standard": "us-east-1",
    "aws european sovereign cloud (germany)": "eusc-de-east-1",
}
# "Frankfurt" alone; what is the city, or the side, of one region only.
_CITIES = {
    city: code
    for city, code in ((name.partition("(")[2].rstrip(")"), code) for name, code in _NAMES.items())
    if sum(f"({city})" in name for name in _NAMES) == 1
}
# What LocationConstraint has for buckets of the first years.
_FIRST = {"us": "us-east-1", "eu": "eu-west-1"}
_EVERYWHERE = {"global", "aws-global", "worldwide", "all", "any"}
AUTO = "auto"


def read_region(text: str, name: str, *, is_of_aws: bool) -> str:
    """Read the code out of what is pasted. Raises ValueError for what says none."""
    if not is_of_aws and _AS_SET.fullmatch(text):
        return text  # as whoever runs that service has written it; OpenStack has a RegionOne
    plain = " ".join(text.lower().replace("\u00e3", "a").split())
    words = plain.replace("eu (", "europe (")
    if is_of_aws and plain in _EVERYWHERE | {AUTO}:
        raise ValueError(
            f"{name} must be the region of the bucket, which its page of properties shows, and AWS"
            f" has none that is called {text}: set, for example, {name}=eu-central-1"
        )
    for found in (_NAMES.get(words), _CITIES.get(plain), _FIRST.get(plain) if is_of_aws else None):
        if found:
            return found
    zone = _ZONE.fullmatch(plain)
    if zone:
        return zone[1]
    if _CODE.fullmatch(plain):
        return plain
    within = set(_CODE_IN_TEXT.findall(plain))
    if len(within) == 1:
        return str(within.pop())
    raise ValueError(f"{name} must be the code of a region, as in {name}=eu-central-1")


def is_usual(region: str | None) -> bool:
    """Whether nobody has chosen it: it is the default, which `.env.example` has too."""
    return region is None or region == USUAL
