"""What README, CONTRIBUTING and docs/ say is true: lists are complete, links lead somewhere."""

import hashlib
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

import config
import errors
from image_utils import process_profile_image
from pictures import costs, formats

ROOT = Path(__file__).parents[2]
MARKDOWN = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FRONTEND = (ROOT / "docs" / "frontend.md").read_text()
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
RECORDS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
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


# One shows in a moment on a slow line.
MOST_PICTURE_BYTES = 60_000


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(heading: str) -> str:
    """The lines of settings under a heading of the README."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"```ini\n(.*?)```", section, re.DOTALL))


def test_the_settings_that_are_named_exist() -> None:
    names = {name.upper() for name in config.Settings.model_fields}
    named = set(re.findall(r"^([A-Z][A-Z0-9_]+)=", blocks("In production"), re.MULTILINE))
    named |= set(re.findall(r"`(S3_[A-Z_]+)`", README))
    assert named and named <= names


def test_the_example_of_production_is_accepted() -> None:
    given = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", blocks("In production"), re.MULTILINE))
    settings = config.Settings(
        _env_file=None, **{name.lower(): value for name, value in given.items()}
    )
    assert settings.store_kind == "s3" and settings.environment == "production"


def test_the_settings_on_the_page_for_frontends_are_accepted(tmp_path: Path) -> None:
    blocks_shown = re.findall(r"```ini\n(.*?)```", FRONTEND, re.DOTALL)
    assert len(blocks_shown) == 2
    names = {name.upper() for name in config.Settings.model_fields}
    for block in blocks_shown:
        assert set(re.findall(r"^(\w+)=", block, re.MULTILINE)) <= names
        env_file = tmp_path / "frontend.env"
        env_file.write_text(block)
        (origins,) = re.findall(r"^CORS_ORIGINS=(.*)$", block, re.MULTILINE)
        assert config.Settings(_env_file=env_file).cors_origins == origins.split(",")
    assert config.Settings(_env_file=env_file).host == "0.0.0.0"


def test_the_page_for_frontends_installs_the_generators_that_are_tried() -> None:
    tried = json.loads((ROOT / "tests/clients/package.json").read_text())["dependencies"]
    (shown,) = re.findall(r"^npm install --save-exact (.*)$", FRONTEND, re.MULTILINE)
    packages = [word.rsplit("@", 1) for word in shown.split()]
    assert dict(packages).items() <= tried.items()
    assert {"@hey-api/openapi-ts", "openapi-typescript"} <= {name for name, _ in packages}
    pins = (ROOT / "tests/clients/requirements.in").read_text().split()
    (shown,) = re.findall(r"^pip install (.*)$", FRONTEND, re.MULTILINE)
    assert "openapi-python-client==" in shown and set(shown.split()) <= set(pins)


def test_the_prices_of_pictures_are_those_that_are_set_aside() -> None:
    page = (ROOT / "docs/pictures.md").read_text()
    rows = dict(
        re.findall(r"^\| (GIF|WebP|AVIF|HEIC|PNG, \w+)[^|]*\| ([\d.]+) \|", page, re.MULTILINE)
    )
    known = formats._BYTES_PER_PIXEL
    names = {"GIF": "GIF", "WebP": "WEBP", "AVIF": "AVIF", "HEIC": "HEIF"}
    assert {names[kind]: float(rows[kind]) for kind in names} == known
    by_chroma = re.findall(r"^\| HEIC as [^|]*(4:2:[02])[^|]*\| ([\d.]+) \|", page, re.MULTILINE)
    assert {chroma: float(price) for chroma, price in by_chroma} == {
        "4:2:0": formats.HEIC_BYTES_PER_PIXEL[1],
        "4:2:2": formats.HEIC_BYTES_PER_PIXEL[2],
    }
    by_colour_type = {"PNG, grey": (0,), "PNG, palette": (3,), "PNG, colour": (2, 4, 6)}
    for kind, types in by_colour_type.items():
        assert {float(formats._PNG_BYTES_PER_PIXEL[each]) for each in types} == {float(rows[kind])}
    assert f"{costs.FIXED_BYTES // config.MIB} MiB, the file" in page
    defaults = {name: field.default for name, field in config.Settings.model_fields.items()}
    dearest_bytes = costs.count_dearest_bytes(
        defaults["max_whole_image_pixels"], defaults["max_upload_size_bytes"]
    )
    for text in (page, (ROOT / ".env.example").read_text()):
        assert f"{dearest_bytes / config.MIB:.0f} MiB" in text
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
    drawn = set(re.findall(r"\b[A-Z]\w+\b", (errors.__doc__ or "").split("into them.", 1)[1]))
    classes = {
        name
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.DarkroomError)
    }
    assert drawn == classes


def anchors(page: Path) -> set[str]:
    """What a link into this page may name, in the way of GitHub."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=page_name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in targets:
        path, _, anchor = target.partition("#")
        if path.startswith(("https://", "http://")):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", MARKDOWN, ids=page_name)
def test_modules_and_tests_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    if "**Status:** superseded" in text:
        return  # it speaks of the house as it was
    for path in re.findall(r"\b(?:\w+/)+\w+\.(?:py|patch)\b", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m ((?:tests|benchmarks|scripts)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("page", MARKDOWN, ids=page_name)
def test_no_page_speaks_of_what_its_reader_does_not_have(page: Path) -> None:
    spoken = " ".join(page.read_text().split())
    assert re.findall(r"\bthe card\b|\bthe plan\b|\ball 167\b", spoken, re.IGNORECASE) == []


def test_the_paths_that_contributors_are_told_exist() -> None:
    for name in ("CONTRIBUTING.md", "docs/acceptance.md"):
        for path in re.findall(
            r"(?:tests|benchmarks|scripts|docs)/[\w/.-]*\w", (ROOT / name).read_text()
        ):
            assert (ROOT / path).exists(), path


def test_every_command_of_the_makefile_says_what_it_does_and_every_documented_one_exists() -> None:
    targets = re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE)
    told = re.findall(r"^([a-z][\w-]*):.*## \w", MAKEFILE, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert targets == told == phony.split()
    documented = set()
    for page in MARKDOWN:
        documented |= set(re.findall(r"(?:`|^)make ([\w-]+)", page.read_text(), re.MULTILINE))
    assert {"serve", "check"} <= documented <= set(targets)


def test_what_the_makefile_runs_exists() -> None:
    for path in re.findall(r"\b(?:scripts|tests)/\w+", MAKEFILE):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m ([\w.]+)", MAKEFILE):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_what_runs_before_a_commit_is_what_the_makefile_checks() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    (checked,) = re.findall(r"^check: ([\w -]+?) *##", MAKEFILE, re.MULTILINE)
    assert re.findall(r"entry: make (.+)", hooks) == checked.split()
    assert set(re.findall(r"repo: (\S+)", hooks)) == {"local"}


def test_the_pictures_of_the_readme_are_what_the_image_step_makes_of_them() -> None:
    folder = ROOT / "docs" / "pictures"
    pictures = sorted(folder.iterdir())
    assert {f"docs/pictures/{path.name}" for path in pictures} == set(
        re.findall(r"docs/pictures/[\w.-]+", README)
    )
    assert max(path.stat().st_size for path in pictures) < MOST_PICTURE_BYTES
    sent = [path for path in pictures if path.stem.endswith("-in")]
    assert len(sent) == 3
    for path in sent:
        made = Image.open(io.BytesIO(process_profile_image(path.read_bytes()).content))
        kept = Image.open(folder / f"{path.stem.removesuffix('-in')}-out.jpg")
        difference = ImageStat.Stat(ImageChops.difference(made, kept)).mean
        assert max(difference) < 1, path  # of 255: libraries differ by a rounding


@pytest.mark.parametrize("record", RECORDS, ids=page_name)
def test_a_decision_has_a_status_and_what_else_was_considered(record: Path) -> None:
    text = record.read_text()
    number = str(int(record.name[:4]))
    assert text.startswith(f"# {number}. ")
    (status,) = re.findall(r"^\*\*Status:\*\* (.+)$", text, re.MULTILINE)
    assert re.fullmatch(
        r"(accepted|superseded by|amended by)((?:,| and)? \[\d+\]\(\d{4}-[\w-]+\.md\))*", status
    )
    assert "**Considered.**" in text
    listing = (ROOT / "docs" / "decisions" / "README.md").read_text()
    title = text.splitlines()[0].removeprefix(f"# {number}. ")
    assert f"| {number} | [{title}]({record.name}) | {status} |" in listing


def test_the_lock_names_only_the_public_index() -> None:
    hosts = set(re.findall(r"https?://([^/\" ]+)", (ROOT / "uv.lock").read_text()))
    digests = {hashlib.sha256(host.encode()).hexdigest()[:16] for host in hosts}
    assert digests == PUBLIC_INDEX, hosts
