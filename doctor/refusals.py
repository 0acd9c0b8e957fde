"""Settings with which the service does not start, told as a finding, in the service's own words.

Nothing here needs settings: there are none.
"""

import re

from doctor.findings import Cure, Finding, Paste, failed

SETTINGS = "settings"

# A line of settings within a sentence.
_LINE = re.compile(r"\b(?:S3_[A-Z_]+|STORAGE|AWS_[A-Z_]+)=[^\s,;]+[^\s,;.]")


def explain_refusal(sentence: str) -> Finding:
    """Tell of settings with which the service does not start, in its own sentence."""
    lines = _LINE.findall(sentence)
    pastes = tuple(Paste("env", line) for line in lines)
    return failed(SETTINGS, sentence.rstrip("."), Cure("Correct it in the settings.", pastes))
