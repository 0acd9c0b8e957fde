"""What uv.lock says that serving installs: the service and its embedded PostgreSQL."""

import tomllib
from collections.abc import Iterator
from typing import Any

from packaging.markers import Marker

from tests.support.services import ROOT


def read_serving_packages(*, here: bool = False) -> dict[str, str]:
    """The version of each package, by name; with `here` only of those this platform needs."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    darkroom = packages.pop("darkroom")
    waiting = [*darkroom["dependencies"], *darkroom["dev-dependencies"]["embedded"]]
    versions: dict[str, str] = {}
    seen: set[tuple[str, ...]] = set()
    while waiting:
        wanted = waiting.pop()
        name = wanted["name"]
        identity = (name, *wanted.get("extra", ()))
        if identity in seen or (here and not is_needed_here(wanted)):
            continue
        seen.add(identity)
        versions[name] = packages[name]["version"]
        waiting += list_dependencies(packages[name], wanted.get("extra", []))
    return versions


def is_needed_here(wanted: dict[str, Any]) -> bool:
    marker = wanted.get("marker")
    return marker is None or Marker(marker).evaluate()


def list_dependencies(package: dict[str, Any], extras: list[str]) -> Iterator[dict[str, Any]]:
    yield from package.get("dependencies", [])
    for extra in extras:
        yield from package["optional-dependencies"][extra]
