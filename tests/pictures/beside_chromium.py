"""Compares what becomes of a folder of pictures with what Chromium shows of them.

`scripts/dev python -m tests.pictures.beside_chromium FOLDER [--explained FILE] [--keep FOLDER]
[--transparent]`

Each file below the folder is drawn by Chromium as an `<img>`, its middle square at 300 x 300 on
white, and made into a profile picture by a decoder of ours. It prints each difference, and how many
there are of each class. The exit status is 1 when there is one that the list does not explain.
"""

import argparse
import csv
import fnmatch
import io
import re
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from errors import DarkroomError
from pictures.colour import MAX_PROFILE_BYTES
from pictures.costs import DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS, examine
from pictures.formats import read_header
from pictures.lost import MOST_LOST_SHARE
from pictures.pool import DecoderPool
from pictures.values import CLEAR, WHITE, Background, Clear
from tests.support.chromium import MOST_SECONDS, Chromium, ChromiumHangs, Shown, open_chromium
from tests.support.inks import mix_black
from tests.support.likeness import (
    compare,
    find_filled_share,
    find_missing_share,
    lay_on_white,
    scale_as_ours,
    whiten_filled,
)
from tests.support.stretching import list_stretched

EXPLAINED = Path(__file__).with_name("explained.tsv")
# More would explain away what nobody looks at any more.
MOST_EXPLAINED = 10
# What lies beside the pictures.
_COMPRESSED_TEXT = re.compile(b"zTXt")
NO_PICTURES = {".py", ".md", ".tsv", ".csv", ".json", ".txt"}

ALIKE = "alike"
SCALED_OTHERWISE = "alike but for the filter that scaled it"
REFUSED_BY_BOTH = "refused by both"
AGREEMENTS = (ALIKE, SCALED_OTHERWISE, REFUSED_BY_BOTH)
REFUSED_HERE = "refused here, whole there"
REFUSED_HERE_IN_PART_THERE = "refused here, in part there"
IN_PART_THERE = "in part there"
REFUSED_THERE = "refused there, served here"
# It has the sides, but gives up before it has a pixel.
SHOWN_CLEAR_THERE = "shown clear there, served here"
STRETCHED_THERE = "alike but for what is stretched there"
MIXED_THERE = "alike but for black ink, which is mixed there"
HANGS_THERE = "hangs there"


class Explanation(NamedTuple):
    """Why a class of difference is right: patterns of its class, format and note, and evidence."""

    kind: str
    format: str
    note: str
    reason: str
    evidence: str


@dataclass
class Finding:
    """What became of one file: its class, and what there is to say of it."""

    name: str
    format: str
    kind: str
    note: str = ""
    explanation: Explanation | None = None

    @property
    def is_difference(self) -> bool:
        return self.kind not in AGREEMENTS


@dataclass
class Comparison:
    """The two that make a square of each file, and what may set them apart."""

    chromium: Chromium
    pool: DecoderPool
    explanations: Sequence[Explanation] = ()
    keep: Path | None = None
    background: Background | Clear = WHITE

    def judge(self, path: Path) -> Finding:
        """Have both make a square of the file, and tell what sets them apart."""
        content = path.read_bytes()
        finding = Finding(path.name, _tell_format(content), ALIKE)
        ours = self._make(content)
        try:
            theirs = self.chromium.show(content)
            finding.kind, finding.note = self._compare(content, ours, theirs)
        except ChromiumHangs:
            theirs = None
            finding.kind = HANGS_THERE
        finding.explanation = self._explain(finding)
        if self.keep is not None and finding.is_difference and finding.explanation is None:
            self._keep(path.name, ours, theirs)
        return finding

    def _make(self, content: bytes) -> Image.Image | DarkroomError:
        try:
            _, cost = examine(content)
            limits = (DEFAULT_MAX_PIXELS, DEFAULT_MAX_WHOLE_PIXELS)
            made = self.pool.process_profile_image(
                content, cost, None, *limits, background=self.background
            )
        except DarkroomError as err:
            return err
        return Image.open(io.BytesIO(made.content))

    def _compare(
        self, content: bytes, ours: Image.Image | DarkroomError, theirs: Shown | None
    ) -> tuple[str, str]:
        if isinstance(ours, DarkroomError):
            if theirs is None:
                return REFUSED_BY_BOTH, ours.code
            missing_share = find_missing_share(theirs.square)
            if missing_share == 1:
                return REFUSED_BY_BOTH, f"{ours.code}; nothing is shown there"
            if missing_share >= MOST_LOST_SHARE:
                return REFUSED_HERE_IN_PART_THERE, f"{ours.code}; {missing_share:.1%} missing there"
            filled_share = find_filled_share(theirs.square) if _is_jpeg(content) else 0
            if filled_share >= MOST_LOST_SHARE:
                return REFUSED_HERE_IN_PART_THERE, f"{ours.code}; {filled_share:.1%} grey there"
            return REFUSED_HERE, f"{ours.code}{_describe_bomb(content)}"
        if theirs is None:
            return REFUSED_THERE, ""
        if not theirs.is_whole and find_missing_share(theirs.square) == 1:
            return SHOWN_CLEAR_THERE, ""
        difference = compare(ours, theirs.square)
        if difference.kind is None:
            return ALIKE, ""
        unscaled = self.chromium.show_unscaled(content)
        scaled = scale_as_ours(unscaled.square) if unscaled else theirs.square
        if compare(ours, scaled).kind is None:
            return SCALED_OTHERWISE, ""
        if _is_jpeg(content) and find_filled_share(theirs.square):
            whitened = [whiten_filled(square) for square in (theirs.square, scaled)]
            if any(compare(ours, square).kind is None for square in whitened):
                share = find_filled_share(theirs.square)
                return IN_PART_THERE, f"{share:.1%} is grey there, the rest is alike"
        for what, stretched in list_stretched(content):
            if self._is_alike(stretched, theirs):
                return STRETCHED_THERE, what
        mixed = mix_black(content)
        if mixed and self._is_alike(mixed, theirs):
            return MIXED_THERE, ""
        amount = f"by {difference.mean:.1f} on average, {difference.most:.0f} at most"
        return difference.kind, f"{difference.note}; {amount}"

    def _is_alike(self, content: bytes, theirs: Shown) -> bool:
        ours = self._make(content)
        return isinstance(ours, Image.Image) and compare(ours, theirs.square).kind is None

    def _explain(self, finding: Finding) -> Explanation | None:
        for explanation in self.explanations:
            pairs = (
                (finding.kind, explanation.kind),
                (finding.format, explanation.format),
                (finding.note, explanation.note),
            )
            if all(fnmatch.fnmatchcase(value, pattern) for value, pattern in pairs):
                return explanation
        return None

    def _keep(self, name: str, ours: Image.Image | DarkroomError, theirs: Shown | None) -> None:
        """Keep both squares beside each other: ours on the left, where there are any."""
        assert self.keep is not None
        self.keep.mkdir(parents=True, exist_ok=True)
        both = Image.new("RGB", (610, 300), (128, 128, 128))
        if isinstance(ours, Image.Image):
            both.paste(lay_on_white(ours.convert("RGBA")), (0, 0))
        if theirs is not None:
            both.paste(lay_on_white(theirs.square), (310, 0))
        both.save(self.keep / f"{name}.png")


def read_explanations(path: Path) -> list[Explanation]:
    """Read a list of explanations: a line each, five columns, behind a line of their names.

    Raises ValueError when there are more than MOST_EXPLAINED, or one without a reason or evidence.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    explanations = [Explanation(**row) for row in rows]
    if len(explanations) > MOST_EXPLAINED:
        raise ValueError(f"{path} explains more than {MOST_EXPLAINED} differences.")
    if not all(all(explanation) for explanation in explanations):
        raise ValueError(f"A line of {path} leaves something out.")
    return explanations


def compare_folder(folder: Path, comparison: Comparison) -> list[Finding]:
    """Compare each file below the folder, and print what differs while it goes."""
    findings = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in NO_PICTURES:
            continue
        finding = comparison.judge(path)
        findings.append(finding)
        if finding.is_difference:
            mark = "(explained) " if finding.explanation else ""
            note = f": {finding.note}" if finding.note else ""
            print(f"{mark}{finding.name}: {finding.kind}{note}", flush=True)
    return findings


def summarise(findings: Sequence[Finding], explanations: Sequence[Explanation]) -> list[str]:
    """Say how many files there are of each class, and which explanation explained how many."""
    lines = [f"{len(findings)} files"]
    classes = Counter(
        (finding.kind, finding.is_difference and finding.explanation is None)
        for finding in findings
    )
    for (kind, is_open), count in sorted(classes.items(), key=lambda item: -item[1]):
        is_agreement = kind in AGREEMENTS
        suffix = "" if is_agreement or is_open else " (explained)"
        lines.append(f"{count:6} {kind}{suffix}")
    for explanation in explanations:
        count = sum(finding.explanation is explanation for finding in findings)
        pattern = f"{explanation.kind}, {explanation.format}, {explanation.note}"
        lines.append(f"explained {count}: {pattern}: {explanation.reason}")
    unexplained = [each for each in findings if each.is_difference and each.explanation is None]
    lines.append(f"{len(unexplained)} differences that nothing explains")
    return lines


def _is_jpeg(content: bytes) -> bool:
    return content.startswith(b"\xff\xd8")


def _describe_bomb(content: bytes) -> str:
    """Say so where a PNG's compressed texts are larger than what is read of them."""
    read_bytes = 0
    for found in _COMPRESSED_TEXT.finditer(content):
        _, _, packed = content[found.end() :].partition(b"\0")
        try:
            text = zlib.decompressobj().decompress(packed[1:], MAX_PROFILE_BYTES + 1)
        except zlib.error:
            continue
        read_bytes += len(text)
    return "; texts that burst" if read_bytes > MAX_PROFILE_BYTES else ""


def _tell_format(content: bytes) -> str:
    try:
        return read_header(content).format
    except DarkroomError as err:
        return err.code


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="tests.pictures.beside_chromium",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--explained", type=Path, default=EXPLAINED)
    parser.add_argument("--keep", type=Path, help="a folder for both squares of what differs")
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="for each file")
    parser.add_argument(
        "--transparent", action="store_true", help="as AVATAR_TRANSPARENCY=keep has it"
    )
    given = parser.parse_args(arguments)
    explanations = read_explanations(given.explained)
    with open_chromium(given.seconds) as chromium, closing(DecoderPool()) as pool:
        background: Background | Clear = CLEAR if given.transparent else WHITE
        comparison = Comparison(chromium, pool, explanations, given.keep, background)
        findings = compare_folder(given.folder, comparison)
    print("\n".join(summarise(findings, explanations)))
    is_explained = all(each.explanation for each in findings if each.is_difference)
    return 0 if findings and is_explained else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
