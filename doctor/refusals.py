"""Settings with which the service does not start, told as a finding, in the service's own words.

Nothing here needs settings: there are none.
"""

import re

from doctor.findings import Cure, Finding, Paste, failed

SETTINGS = "settings"

_CURE = "Correct it in the settings."
_EMPTY = re.compile(r"\bleave (S3_[A-Z_]+) empty")
# What a sentence shows as an example is nobody's own region.
_EXAMPLE = "as in S3_REGION=eu-central-1"
_ITS_PLACE = "S3_REGION=_code_"
# A line of settings within a sentence.
_LINE = re.compile(r"\b(?:S3_[A-Z_]+|STORAGE|AWS_[A-Z_]+)=[^\s,;]+[^\s,;.)]")


def explain_refusal(sentence: str) -> Finding:
    """Tell of settings with which the service does not start, in its own sentence."""
    cure = find_lines(sentence) or Cure(_CURE)
    return failed(SETTINGS, sentence.rstrip("."), cure)


def find_lines(sentence: str) -> Cure | None:
    """Make a cure of the lines of settings that a sentence names; None where it names none."""
    lines = [f"{name}=" for name in _EMPTY.findall(sentence)]
    lines += _LINE.findall(sentence.replace(_EXAMPLE, _ITS_PLACE))
    pastes = tuple(Paste("env", line.replace("_code_", "<the region's code>")) for line in lines)
    return Cure(_CURE, pastes) if pastes else None
