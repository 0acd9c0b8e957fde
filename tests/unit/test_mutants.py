"""Every mutant of the crash run fits the code of today, and says what it breaks."""

import re
import shutil
from pathlib import Path

import pytest

from tests.crash import edits, generated
from tests.crash.edits import Edit, Mutant
from tests.crash.mutants import MUTANTS
from tests.crash.survivors import REASONS
from tests.support.services import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code_of_today(mutant: Mutant, tmp_path: Path) -> None:
    files = {edit.file for edit in mutant.edits}
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    edits.apply(mutant, tmp_path)
    for file in files:
        changed = (tmp_path / file).read_text()
        assert changed != (ROOT / file).read_text()
        compile(changed, file, "exec")


def test_a_text_that_is_not_there_exactly_once_is_refused(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("a = 1\nb = 1\nc = 2\n")
    for old in ("= 3", "= 1"):
        mutant = Mutant("wrong", "", ("lost",), (), (Edit("module.py", old, "= 4"),))
        with pytest.raises(ValueError, match=r"module\.py has"):
            edits.apply(mutant, tmp_path)
    edits.apply(Mutant("right", "", ("lost",), (), (Edit("module.py", "= 2", "= 4"),)), tmp_path)
    assert (tmp_path / "module.py").read_text() == "a = 1\nb = 1\nc = 4\n"


def test_each_mutant_has_a_name_of_its_own_and_says_which_promise_it_breaks() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert re.fullmatch(r"[A-Z].* \(G\d+\)\.", mutant.breaks), mutant.name
        assert mutant.found_by, mutant.name


def test_each_mechanism_of_the_promise_has_its_mutant() -> None:
    required = {
        "swap_before_put",
        "delete_before_commit",
        "no_lock",
        "delete_on_commit_error",
        "no_pending_row",
        "reused_key",
    }
    assert required <= {mutant.name for mutant in MUTANTS}


def test_the_reasons_on_record_are_of_mutants_that_the_script_still_makes() -> None:
    sources = (*generated.SOURCES, "storage/local.py", "storage/s3.py")
    made = {mutant.name for source in sources for mutant in generated.generate(source)}
    assert made >= REASONS.keys()
