"""What is wrong with a request, whatever it is about: its address, body, form of input, or time."""

from errors.base import RETRY_AFTER_SECONDS, Conflict, DarkroomError, TooLarge, Unavailable


class MalformedBody(DarkroomError):
    status = 400
    code = "malformed_body"
    title = "Request not understood"
    sentence = "The request cannot be read. Please check its format."


class MalformedRequest(DarkroomError):
    """What came over the connection is no HTTP."""

    status = 400
    code = "malformed_request"
    title = "Not HTTP"
    sentence = "The request is no valid HTTP. Please check the program that sends it."


class PreflightRefused(DarkroomError):
    """A browser asked on behalf of another origin's page, before its request itself."""

    status = 400
    code = "preflight_refused"
    title = "Page of another origin"
    sentence = "Pages of this origin may not call this service; CORS_ORIGINS names those that may."


class MethodNotAllowed(DarkroomError):
    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"
    sentence = "This address does not take this method; the header Allow names those that it takes."


class HeadTooSlow(DarkroomError):
    status = 408
    code = "head_too_slow"
    title = "Request too slow"
    sentence = "The request's header came too slowly. Please send it again on a better connection."


class UploadStalled(DarkroomError):
    status = 408
    code = "upload_stalled"
    title = "Upload stalled"
    sentence = (
        "The upload came too slowly and was stopped. Please send it again on a better connection."
    )


class BodyTooLarge(TooLarge):
    code = "body_too_large"
    title = "Request too large"
    sentence = "The request is larger than this address takes."


class RangeNotSatisfiable(DarkroomError):
    status = 416
    code = "range_not_satisfiable"
    title = "No such range"
    sentence = "The range lies outside the file; the header Content-Range names its length."


class InvalidRequest(DarkroomError):
    """Input does not fit its schema; the answer adds `errors`, one for each field."""

    status = 422
    code = "invalid_request"
    title = "Input not valid"
    sentence = "The request is not valid."


class BadCursor(DarkroomError):
    status = 422
    code = "bad_cursor"
    title = "Cursor not valid"
    sentence = (
        "The cursor is none that this list gave out."
        " Please send `next` of the page before as it is, or start without a cursor."
    )


class IdempotencyKeyReused(DarkroomError):
    status = 422
    code = "idempotency_key_reused"
    title = "Key used for another request"
    sentence = (
        "This Idempotency-Key was sent with another request."
        " Please make a new key for each new request."
    )


class HeadTooLarge(DarkroomError):
    status = 431
    code = "head_too_large"
    title = "Header too large"
    sentence = (
        "The request's address and header fields are more than 32 KiB, or more than 100 fields."
        " Please send less; often it is cookies that grew."
    )


class TooManyConnections(Unavailable):
    code = "too_many_connections"
    title = "Too many connections"
    sentence = (
        "Too many connections are open, in all or from your address."
        " Please use fewer at once, or try again in a moment."
    )


class StillInProgress(Conflict):
    code = "still_in_progress"
    title = "Still in progress"
    sentence = (
        "The first request with this Idempotency-Key is not finished yet. Please wait for it."
    )

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence, {"Retry-After": str(RETRY_AFTER_SECONDS)})
