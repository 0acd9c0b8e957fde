"""What README and docs/api.md tell a newcomer to type works and answers as shown."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.support.pictures import phone_photo
from tests.support.services import ROOT, Service, wait_until

# Printed between two examples, so that their answers can be told apart.
BETWEEN = "-- next --"


def run(script: str, service: Service, folder: Path) -> str:
    """Run shell lines against this service and return what they print."""
    (folder / "photo.jpg").write_bytes(phone_photo(1200, 900))
    script = script.replace("http://127.0.0.1:8000", service.url)
    if service.settings["STORAGE"] == "s3":
        script = script.replace("$API$IMAGE", "$IMAGE")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "picture.jpg").read_bytes().startswith(b"\xff\xd8")
    assert service.sql("SELECT * FROM users") == []
    # What was being rendered when its account went is stored for a moment.
    wait_until(lambda: service.objects() == {}, "nothing is left")
    return done.stdout


def shape(value: Any) -> Any:
    """The keys of an object and of those in it; of anything else its type."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return type(value).__name__


def test_the_tour_runs(service: Service, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## Five minutes with curl\n", 1)[1].split("\n## ", 1)[0]
    tour = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))
    for _ in range(2):  # the second time the account has another id
        assert '"code":"not_a_picture"' in run(tour, service, tmp_path)


def test_the_examples_of_the_api_answer_as_they_are_shown(service: Service, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    examples = re.findall(r"```sh\n(.*?)```(?:\n\n```json\n(.*?)```)?", page, re.DOTALL)
    script = f"\necho\necho '{BETWEEN}'\n".join(command for command, _ in examples)
    answers = run(script, service, tmp_path).split(BETWEEN)
    assert len(answers) == len(examples)
    compared = 0
    for (command, shown), answer in zip(examples, answers, strict=True):
        if shown:
            assert shape(json.loads(answer)) == shape(json.loads(shown)), command
            compared += 1
    assert compared >= 9
