"""Steps that look at the bucket's own configuration, where somebody may look at it."""

from collections.abc import Iterator

from doctor.case import Case
from doctor.findings import Finding

NAMES: tuple[str, ...] = ()


def examine_configuration(case: Case) -> Iterator[Finding]:
    """Compare the configuration with what the bucket must be."""
    yield from ()
