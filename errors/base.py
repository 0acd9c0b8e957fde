"""The root of the tree, and the branches that refusals of several nouns grow on."""

from typing import ClassVar, Self

from starlette.exceptions import HTTPException

RETRY_AFTER_SECONDS = 2


class DarkroomError(HTTPException):
    """The root. A subclass sets `status`, `code`, `title` and the default `sentence`.

    One that sets no title of its own is a branch: it is caught, and never raised.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    sentence: ClassVar[str] = "Something went wrong on our side. Please try again."
    # What it says where the numbers are known.
    template: ClassVar[str] = ""

    def __init__(self, sentence: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(self.status, sentence or self.sentence, headers)

    @classmethod
    def with_numbers(cls, **numbers: float) -> Self:
        """Make it with its template."""
        return cls(cls.template.format(**numbers))


class StartupError(Exception):
    """The service cannot start; the message is the one sentence that the operator is shown."""


class Forbidden(DarkroomError):
    status = 403
    code = "forbidden"


class NotFound(DarkroomError):
    status = 404
    code = "not_found"
    title = "Not found"
    sentence = "There is nothing at this address."


class Conflict(DarkroomError):
    status = 409
    code = "conflict"


class TooLarge(DarkroomError):
    status = 413
    code = "too_large"


class Unavailable(DarkroomError):
    status = 503
    code = "unavailable"
    sentence = "This is not possible right now. Please try again in a moment."

    def __init__(
        self, sentence: str | None = None, retry_after_seconds: int = RETRY_AFTER_SECONDS
    ) -> None:
        super().__init__(sentence, {"Retry-After": str(retry_after_seconds)})
