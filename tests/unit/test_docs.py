"""What README and docs/ say is true: the tour runs,
the lists are complete, the links lead somewhere.
"""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

import config
import errors
from pictures import costs, formats
from tests.support.pictures import phone_photo
from tests.support.services import ROOT, Service

MARKDOWN = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text()
# The public index and its file host, by digest: their addresses stand in uv.lock alone.
PUBLIC_INDEX = {"a4aa2ac280bb8d1a", "c899567ee9068517"}
# Branches of the tree, which are caught but never raised.
GROUPS = {
    "bad_picture",
    "forbidden",
    "conflict",
    "too_large",
    "bad_form",
    "unavailable",
    "store_error",
}
# The framework's own refusal, which has no class of ours.
FRAMEWORK_CODES = {"invalid_request": 422}


def blocks(heading: str) -> str:
    """The shell lines under a heading of the README."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def test_the_tour_runs(service: Service, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(phone_photo(1200, 900))
    tour = blocks("Five minutes with curl").replace("http://127.0.0.1:8000", service.url)
    if service.settings["STORAGE"] == "s3":
        tour = tour.replace("$HOST$IMAGE", "$IMAGE")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tour],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "picture.jpg").read_bytes().startswith(b"\xff\xd8")
    assert '"code":"not_a_picture"' in done.stdout
    assert service.sql("SELECT * FROM users") == [] and service.objects() == {}


def test_the_settings_that_are_named_exist() -> None:
    names = {name.upper() for name in config.Settings.model_fields}
    named = set(re.findall(r"^([A-Z][A-Z0-9_]+)=", blocks("For real"), re.MULTILINE))
    named |= set(re.findall(r"`(S3_[A-Z_]+)`", README))
    assert named and named <= names


def test_the_example_of_production_is_accepted() -> None:
    given = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", blocks("For real"), re.MULTILINE))
    settings = config.Settings(
        _env_file=None, **{name.lower(): value for name, value in given.items()}
    )
    assert settings.store_kind == "s3" and settings.environment == "production"


def test_the_prices_of_pictures_are_those_that_are_set_aside() -> None:
    page = (ROOT / "docs/pictures.md").read_text()
    rows = dict(
        re.findall(r"^\| (GIF|WebP|AVIF|HEIC|PNG, \w+)[^|]*\| ([\d.]+) \|", page, re.MULTILINE)
    )
    known = formats._BYTES_PER_PIXEL
    names = {"GIF": "GIF", "WebP": "WEBP", "AVIF": "AVIF", "HEIC": "HEIF"}
    assert {names[kind]: float(rows[kind]) for kind in names} == known
    by_colour_type = {"PNG, grey": (0,), "PNG, palette": (3,), "PNG, colour": (2, 4, 6)}
    for kind, types in by_colour_type.items():
        assert {float(formats._PNG_BYTES_PER_PIXEL[each]) for each in types} == {float(rows[kind])}
    assert f"{costs.FIXED_BYTES // config.MIB} MiB, the file" in page
    defaults = {name: field.default for name, field in config.Settings.model_fields.items()}
    assert f"`DECODE_BUDGET_BYTES` ({defaults['decode_budget_bytes'] // config.MIB} MiB)" in page
    for name in ("max_image_pixels", "max_whole_image_pixels"):
        assert f"{defaults[name] / 1e6:g} million | `{name.upper()}`" in page


def all_errors(base: type[errors.DarkroomError] = errors.DarkroomError) -> dict[str, int]:
    found = {base.code: base.status}
    for error in base.__subclasses__():
        found |= all_errors(error)
    return found


def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE
    )
    documented = {code: int(status) for code, status in rows}
    assert len(rows) == len(documented)
    sent = {code: status for code, status in all_errors().items() if code not in GROUPS}
    assert documented == {**sent, **FRAMEWORK_CODES}


def test_groups_are_never_raised() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    names = {cls.__name__ for cls in classes if getattr(cls, "code", "") in GROUPS}
    assert len(names) == len(GROUPS)
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[!.t]*/*.py")]:
        raised = re.findall(r"\braise (\w+)", path.read_text())
        assert not names & set(raised), path


def test_the_tree_drawn_in_errors_is_the_tree() -> None:
    drawn = set(re.findall(r"\b[A-Z]\w+\b", (errors.__doc__ or "").split("problems.py.", 1)[1]))
    classes = {
        name
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.DarkroomError)
    }
    assert drawn == classes


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_commands_of_contributing_exist() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"(?:tests|benchmarks|scripts|docs)/[\w/.-]*\w", contributing):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m (tests\.[\w.]+)", contributing):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_lock_names_only_the_public_index() -> None:
    hosts = set(re.findall(r"https?://([^/\" ]+)", (ROOT / "uv.lock").read_text()))
    digests = {hashlib.sha256(host.encode()).hexdigest()[:16] for host in hosts}
    assert digests == PUBLIC_INDEX, hosts
