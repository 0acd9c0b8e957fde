"""Why a generated mutant that the short run does not notice changes nothing that was promised."""

# By the name that generated.py gives it.
REASONS: dict[str, str] = {}
