"""What a service's output is made of: lines of the log, and what main.py says of itself."""

import json
import re

AT = r"\d\d:\d\d:\d\dZ "
WHERE = re.compile(r"Darkroom listens on http://|  (for|settings|data|database|store) ")


def read_json_lines(output: str) -> list[dict[str, object]]:
    """The log's lines; fails for any that is neither in JSON nor of what main.py says of itself."""
    lines = []
    for line in output.splitlines():
        if not WHERE.match(line):
            assert line.startswith("{"), f"not a line of our log: {line}"
            lines.append(json.loads(line))
    return lines


def read_messages(output: str) -> list[str]:
    """What the log's lines tell, but those of requests; fails as `read_json_lines` does."""
    lines = read_json_lines(output)
    return [str(line["message"]) for line in lines if "duration_ms" not in line]
