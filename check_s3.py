"""The doctor: `scripts/run check_s3.py` tells whether a bucket can do what our files need.

With the settings of the service it tries each thing that the service does with a bucket, and what
a browser does. Of what fails it says the cause, and the cure as text to paste. Exits with 1 if
anything failed.
"""

from ops import launch  # isort: split (before all that an old Python cannot read)

if __name__ == "__main__":
    launch.end_quietly_at_ctrl_c()
    words = launch.parse_doctor_words()

import contextlib
import io
import sys
from functools import partial
from typing import TYPE_CHECKING

from doctor.report import JsonReport, TextReport

if TYPE_CHECKING:
    from config import Settings

_REFUSED = "Darkroom cannot start. "


def main(settings: "Settings", is_json: bool = False, admin_profile: str | None = None) -> int:
    """Examine the bucket that the settings name; return the exit status."""
    from doctor.examination import examine

    return examine(settings, JsonReport() if is_json else TextReport(), admin_profile)


def main_of_command(is_json: bool, admin_profile: str | None) -> int:
    """Load the settings and examine their bucket; settings that are refused are a finding, too."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without these marks shows a question mark.
        sys.stdout.reconfigure(errors="replace")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            import config
    except SystemExit:
        return _tell_refusal(said.getvalue(), is_json)
    return main(config.settings, is_json, admin_profile)


def _tell_refusal(sentence: str, is_json: bool) -> int:
    from doctor.refusals import explain_refusal

    report = JsonReport() if is_json else TextReport()
    report.begin({})
    report.add(explain_refusal(sentence.strip().removeprefix(_REFUSED)))
    report.end("sick", 0)
    return 1


if __name__ == "__main__":
    launch.run_command(partial(main_of_command, words.json, words.admin_profile))
