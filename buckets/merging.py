"""What a bucket has joined with what it must have: what others have put there stays.

Nothing is asked here. Rules and statements of ours are known by their names; one of the same
content without the name is taken for ours, too, as where a console was used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buckets.plan import CORS_ID, PUBLIC_READ, Document

# What services answer beside what was put.
_EMPTY: tuple[object, ...] = (None, "", [], {})


@dataclass(frozen=True)
class Merged:
    """A document to put, and what a person is told of it."""

    document: Document
    is_new: bool  # whether it differs from what is there
    notes: tuple[str, ...] = ()


def merge_policy(there: Document | None, planned: Document) -> Merged:
    """Put our statements among those that are there, in the place of older ones of ours."""
    kept, is_same = _join(
        _list((there or {}).get("Statement")),
        planned["Statement"],
        "Sid",
        {PUBLIC_READ},
        _spell_statement,
    )
    document = {**planned, **(there or {}), "Statement": [*kept, *planned["Statement"]]}
    return Merged(document, not is_same, _tell_kept(kept, "statement", "Sid"))


def merge_cors(there: Document | None, planned: Document) -> Merged:
    """Put our rule before those that are there: the first that fits is heeded.

    Where no rule is planned, one of ours is taken away.
    """
    rules = planned["CORSRules"]
    kept, is_same = _join((there or {}).get("CORSRules", []), rules, "ID", {CORS_ID}, _spell_cors)
    return Merged({"CORSRules": [*rules, *kept]}, not is_same, _tell_kept(kept, "rule", "ID"))


def merge_lifecycle(there: Document | None, planned: Document) -> Merged:
    """Put our rules behind those that are there."""
    rules = planned["Rules"]
    names = {rule["ID"] for rule in rules}
    kept, is_same = _join((there or {}).get("Rules", []), rules, "ID", names, _spell)
    document = {**(there or {}), "Rules": [*kept, *rules]}
    return Merged(document, not is_same, _tell_kept(kept, "rule", "ID"))


def merge_boxes(there: Document | None, planned: Document) -> Merged:
    """Set the boxes, and tell which of them change."""
    before = {name: bool((there or {}).get(name)) for name in planned}
    notes = [
        f"{name} is {'on' if is_on else 'off'} now"
        for name, is_on in planned.items()
        if before[name] != is_on
    ]
    return Merged(planned, bool(notes), tuple(notes))


def merge_ownership(there: Document | None, planned: Document) -> Merged:
    """Set who owns what is in the bucket, and tell what was set before."""
    rules = (there or {}).get("Rules", [])
    is_same = rules == planned["Rules"]
    notes: tuple[str, ...] = ()
    if rules and not is_same:
        before = ", ".join(str(rule.get("ObjectOwnership")) for rule in rules)
        notes = (f"it was {before}: what others are let to do by ACLs ends",)
    return Merged(planned, not is_same, notes)


def _join(
    there: Sequence[Document],
    planned: Sequence[Document],
    name: str,
    names: set[str],
    spell: Callable[[Mapping[str, Any]], object],
) -> tuple[list[Document], bool]:
    """Return those of others, and whether ours are there already, each once and as planned.

    A name that is missing, or another, is no reason to put anything.
    """
    contents = [spell(_leave_out(each, name)) for each in planned]

    def is_ours(each: Document) -> bool:
        return each.get(name) in names or spell(_leave_out(each, name)) in contents

    ours = [each for each in there if is_ours(each)]
    kept = [each for each in there if not is_ours(each)]
    return kept, _sort(spell(_leave_out(each, name)) for each in ours) == _sort(contents)


def _tell_kept(kept: Sequence[Document], what: str, name: str) -> tuple[str, ...]:
    if not kept:
        return ()
    names = ", ".join(str(each.get(name) or "one without a name") for each in kept)
    return (f"{len(kept)} {what}{'' if len(kept) == 1 else 's'} of others kept: {names}",)


def _leave_out(document: Document, name: str) -> Document:
    return {key: value for key, value in document.items() if key != name}


def _spell(value: Any) -> Any:
    """Spell it so that what means the same is the same, as a text."""
    if isinstance(value, Mapping):
        members = {key: _spell(member) for key, member in value.items() if member not in _EMPTY}
        return repr(sorted(members.items()))
    if isinstance(value, list | tuple):
        return repr(_sort(_spell(member) for member in value))
    return str(value)


def _spell_statement(statement: Mapping[str, Any]) -> Any:
    """Spell a statement, in which one word stands for a list of it."""
    spelt = dict(statement)
    for name in ("Action", "Resource"):
        if name in spelt:
            spelt[name] = _list(spelt[name])
    if spelt.get("Principal") in ({"AWS": "*"}, {"AWS": ["*"]}):
        spelt["Principal"] = "*"
    return _spell(spelt)


def _spell_cors(rule: Mapping[str, Any]) -> Any:
    """Spell a rule, in which the names of headers have no case."""
    spelt = dict(rule)
    for name in ("AllowedHeaders", "ExposeHeaders"):
        spelt[name] = [header.lower() for header in spelt.get(name) or []]
    return _spell(spelt)


def _list(value: Any) -> list[Any]:
    """Return a list of what may stand alone."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _sort(values: Any) -> list[str]:
    return sorted(str(value) for value in values)
