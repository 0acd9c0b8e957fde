"""docs/api.md lists every route of the application, and no refusal that does not exist."""

import re
from pathlib import Path

from fastapi.routing import iter_route_contexts

from main import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
DOCUMENTED = {
    (method, path)
    for methods, path in re.findall(r"^### ([A-Z, ]+) (/\S*)$", PAGE, re.MULTILINE)
    for method in methods.split(", ")
}


def served() -> set[tuple[str, str]]:
    """(method, path) of all that the application answers; a mount serves files."""
    found = set()
    for route in iter_route_contexts(app.routes):
        path = (route.path or "").replace(":path}", "}")
        found |= {(method, path) for method in route.methods or ("GET", "HEAD")}
    return found


def test_every_route_is_documented_and_every_documented_route_exists() -> None:
    assert served() == DOCUMENTED


def test_every_operation_of_the_openapi_document_is_among_them() -> None:
    operations = {
        (method.upper(), path.replace(":path}", "}"))
        for path, item in app.openapi()["paths"].items()
        for method in item
    }
    assert len(operations) >= 12
    assert operations <= DOCUMENTED


def test_every_code_is_named_with_its_status_and_every_named_code_exists() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE))
    named = {(code, status) for status, code in re.findall(r"\b([45]\d\d)\s`(\w+)`", PAGE)}
    assert named == listed


def test_every_route_has_an_example() -> None:
    headings = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    plain = {"GET /", "GET /docs", "GET, HEAD /openapi.json", "GET, HEAD /static"}
    without = {text.splitlines()[0] for text in headings if "```sh\n" not in text}
    assert without == plain
