"""The error tree: every refusal, with a status, a stable `code` for programs, and a sentence that a person can act on.

Vendor text never travels in them; it goes to the log. Their JSON body is in problems.py.

    DarkroomError
    ├── BadPicture (400)         EmptyFile · NotAPicture · UnsupportedFormat · TruncatedPicture · BrokenPicture
    │                            UndecodablePicture
    ├── MalformedBody (400)
    ├── NotAuthenticated (401)   InvalidToken · TokenExpired · WrongCredentials
    ├── Forbidden (403)          NotYours · WrongPassword
    ├── NotFound (404)           UserNotFound · NoPicture · ObjectNotFound
    ├── MethodNotAllowed (405)
    ├── UploadStalled (408)
    ├── Conflict (409)           UsernameTaken · EmailTaken
    ├── TooLarge (413)           FileTooLarge · BodyTooLarge · TooManyPixels · SideTooLong
    ├── RangeNotSatisfiable (416)
    ├── BadForm (422)            NotAForm · MalformedForm · FileMissing · FileIsAField · TooManyFiles · BadCrop
    └── Unavailable (503)        Busy · ShuttingDown · DecoderUnavailable · DatabaseUnavailable · OutcomeUnknown
                                 UploadExpired · StoreError: StoreUnavailable · StoreRefused · ObjectExists
"""

from typing import ClassVar

from starlette.exceptions import HTTPException

RETRY_AFTER_SECONDS = 2


class DarkroomError(HTTPException):
    """The root. A subclass sets `status`, `code`, `title` and the default `sentence`."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    sentence: ClassVar[str] = "Something went wrong on our side. Please try again."

    def __init__(self, sentence: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(self.status, sentence or self.sentence, headers)


class StartupError(Exception):
    """The service cannot start; the message is the one sentence that the operator is shown."""


class BadPicture(DarkroomError):
    status, code = 400, "bad_picture"


class EmptyFile(BadPicture):
    code, title, sentence = "empty_file", "Empty file", "The file is empty. Please choose a picture and send it again."


class NotAPicture(BadPicture):
    code, title = "not_a_picture", "Not a picture"
    sentence = "This file is not a picture that we can read. Please send a JPEG, PNG, GIF, WebP, AVIF or HEIC."


class UnsupportedFormat(BadPicture):
    code, title = "unsupported_format", "Format not supported"
    sentence = "Pictures of this format are not taken. Please send a JPEG, PNG, GIF, WebP, AVIF or HEIC."


class TruncatedPicture(BadPicture):
    code, title = "truncated_picture", "Picture cut short"
    sentence = "The picture ends too early. Please send the whole file again."


class BrokenPicture(BadPicture):
    code, title = "broken_picture", "Broken picture"
    sentence = "The picture is damaged and cannot be read. Please save it again, for example as JPEG, and send that."


class UndecodablePicture(BadPicture):
    """Its decoder took more time or memory than any picture needs, or died of it."""

    code, title = "undecodable_picture", "Picture cannot be decoded"
    sentence = "The picture takes far too much to decode. Please save it again, for example as JPEG, and send that."


class MalformedBody(DarkroomError):
    status, code, title = 400, "malformed_body", "Request not understood"
    sentence = "The request cannot be read. Please check its format."


class NotAuthenticated(DarkroomError):
    status, code, title = 401, "not_authenticated", "Not logged in"
    sentence = "Please log in: send the token as Authorization: Bearer TOKEN."

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence, {"WWW-Authenticate": "Bearer"})


class InvalidToken(NotAuthenticated):
    code, title, sentence = "invalid_token", "Invalid token", "The token is not valid. Please log in again."


class TokenExpired(NotAuthenticated):
    code, title, sentence = "token_expired", "Token expired", "The session has expired. Please log in again."


class WrongCredentials(NotAuthenticated):
    code, title, sentence = "wrong_credentials", "Wrong login", "The e-mail address or the password is wrong."


class Forbidden(DarkroomError):
    status, code = 403, "forbidden"


class NotYours(Forbidden):
    code, title, sentence = "not_yours", "Another's account", "This account belongs to someone else."


class WrongPassword(Forbidden):
    code, title = "wrong_password", "Wrong current password"
    sentence = "To change the password, send the current one as current_password; the one sent is missing or wrong."


class NotFound(DarkroomError):
    status, code, title, sentence = 404, "not_found", "Not found", "There is nothing at this address."


class UserNotFound(NotFound):
    code, title, sentence = "user_not_found", "No such account", "There is no account with this id."


class NoPicture(NotFound):
    code, title, sentence = "no_picture", "No picture", "This account has no picture."


class ObjectNotFound(NotFound):
    code, title, sentence = "object_not_found", "No such object", "There is no picture at this address."


class MethodNotAllowed(DarkroomError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"
    sentence = "This address does not take this method; the header Allow names those that it takes."


class UploadStalled(DarkroomError):
    status, code, title = 408, "upload_stalled", "Upload stalled"
    sentence = "The upload came too slowly and was stopped. Please send it again on a better connection."


class Conflict(DarkroomError):
    status, code = 409, "conflict"


class UsernameTaken(Conflict):
    code, title, sentence = "username_taken", "Name taken", "This name is taken. Please choose another."


class EmailTaken(Conflict):
    code, title, sentence = (
        "email_taken",
        "E-mail taken",
        "There is an account with this e-mail address. Please log in.",
    )


class TooLarge(DarkroomError):
    status, code = 413, "too_large"


class FileTooLarge(TooLarge):
    code, title, sentence = "file_too_large", "File too large", "The file is too large. Please send a smaller one."


class BodyTooLarge(TooLarge):
    code, title, sentence = "body_too_large", "Request too large", "The request is larger than this address takes."


class TooManyPixels(TooLarge):
    code, title, sentence = "too_many_pixels", "Too many pixels", "The picture is too large. Please send a smaller one."


class SideTooLong(TooLarge):
    code, title, sentence = "side_too_long", "Side too long", "The picture is too long. Please send a smaller one."


class RangeNotSatisfiable(DarkroomError):
    status, code, title = 416, "range_not_satisfiable", "No such range"
    sentence = "The range lies outside the file; the header Content-Range names its length."


class BadForm(DarkroomError):
    status, code = 422, "bad_form"


class NotAForm(BadForm):
    code, title = "not_a_form", "Not a form"
    sentence = "Please send the picture as multipart/form-data, in a field named file."


class MalformedForm(BadForm):
    code, title = "malformed_form", "Malformed form"
    sentence = "The form is damaged or cut short. Please send it again."


class FileMissing(BadForm):
    code, title = "file_missing", "No file"
    sentence = "The form has no file. Please send the picture in a field named file."


class FileIsAField(BadForm):
    code, title = "file_is_a_field", "A field instead of a file"
    sentence = "The field named file holds text. Please send a file there, with a filename."


class TooManyFiles(BadForm):
    code, title = "too_many_files", "More than one file"
    sentence = "Please send one file only, in the field named file."


class BadCrop(BadForm):
    code, title = "bad_crop", "Crop not usable"
    sentence = "crop must be x,y,size: three whole numbers, a square inside the upright picture."


class Unavailable(DarkroomError):
    status, code = 503, "unavailable"
    sentence = "This is not possible right now. Please try again in a moment."

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence, {"Retry-After": str(RETRY_AFTER_SECONDS)})


class Busy(Unavailable):
    code, title = "busy", "Busy"
    sentence = "Many pictures are being worked on right now. Please try again in a moment."


class ShuttingDown(Unavailable):
    code, title = "shutting_down", "Restarting"
    sentence = "The service is being restarted. Please try again in a moment."


class DecoderUnavailable(Unavailable):
    code, title = "decoder_unavailable", "Decoder unavailable"
    sentence = "Pictures cannot be decoded right now. Please try again in a moment."


class DatabaseUnavailable(Unavailable):
    code, title = "database_unavailable", "Database unavailable"


class OutcomeUnknown(Unavailable):
    code, title = "outcome_unknown", "Outcome unknown"
    sentence = "The change may or may not have been made. Sending it again is safe."


class UploadExpired(Unavailable):
    code, title = "upload_expired", "Upload took too long"
    sentence = "The upload took too long to finish and was undone. Please send it again."


class StoreError(Unavailable):
    code, title = "store_error", "Store unavailable"
    sentence = "Pictures cannot be stored right now. Please try again in a moment."


class StoreUnavailable(StoreError):
    """The store cannot be reached, or fails; whether the call took effect is unknown."""

    code = "store_unavailable"


class StoreRefused(StoreError):
    """The store answered that we may not, or that there is no such bucket: an operator has to act."""

    code = "store_refused"


class ObjectExists(StoreError):
    """A create-only put met an object under its key."""

    code = "object_exists"
