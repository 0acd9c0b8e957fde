"""What a run finds: a promise that was broken, of one of three kinds."""

from typing import Literal, NamedTuple, get_args

# Lost: somebody is shown what is not stored · leaked: rows, objects or uploads that nothing shows
# or will ever remove · wrong: an answer that is not true
Kind = Literal["lost", "leaked", "wrong"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Finding(NamedTuple):
    """A promise that was broken, and how."""

    kind: Kind
    sentence: str
