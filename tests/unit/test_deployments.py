"""What docs/deploy.md sets up has what serving needs, and no more."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text()


def test_what_serves_does_not_see_the_history_of_the_source() -> None:
    units = re.findall(r"^```ini\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(units) == 2
    assert all("\nInaccessiblePaths=-/opt/darkroom/.git\n" in unit for unit in units)
    assert {".git", ".env", ".data"} <= set((ROOT / ".dockerignore").read_text().splitlines())
