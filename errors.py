"""The error tree: every refusal, with a status, a stable `code` and a sentence to act on.

The code is for programs, the sentence for people. Vendor text goes to the log, never into them.

    DarkroomError
    ├── BadPicture (400)         EmptyFile · NotAPicture · UnsupportedFormat · TruncatedPicture
    │                            BrokenPicture · UndecodablePicture
    ├── MalformedBody (400) · PreflightRefused (400)
    ├── NotAuthenticated (401)   InvalidToken · TokenExpired · WrongCredentials
    ├── Forbidden (403)          NotYours · WrongPassword
    ├── NotFound (404)           UserNotFound · NoPicture · ObjectNotFound
    ├── MethodNotAllowed (405)
    ├── UploadStalled (408)
    ├── Conflict (409)           UsernameTaken · EmailTaken
    ├── TooLarge (413)           FileTooLarge · BodyTooLarge · TooManyPixels · SideTooLong
    ├── RangeNotSatisfiable (416)
    ├── BadForm (422)            NotAForm · MalformedForm · FileMissing · FileIsAField
    │                            TooManyFiles · BadCrop
    ├── InvalidRequest (422)
    └── Unavailable (503)        Busy · ShuttingDown · DecoderUnavailable · DatabaseUnavailable
                                 OutcomeUnknown · UploadExpired
                                 StoreError: StoreUnavailable · StoreRefused · ObjectExists
"""

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


class BadPicture(DarkroomError):
    status = 400
    code = "bad_picture"


class EmptyFile(BadPicture):
    code = "empty_file"
    title = "Empty file"
    sentence = "The file is empty. Please choose a picture and send it again."


class NotAPicture(BadPicture):
    code = "not_a_picture"
    title = "Not a picture"
    sentence = (
        "This file is not a picture that we can read."
        " Please send a JPEG, PNG, GIF, WebP, AVIF or HEIC."
    )


class UnsupportedFormat(BadPicture):
    code = "unsupported_format"
    title = "Format not supported"
    sentence = (
        "Pictures of this format are not taken. Please send a JPEG, PNG, GIF, WebP, AVIF or HEIC."
    )


class TruncatedPicture(BadPicture):
    code = "truncated_picture"
    title = "Picture cut short"
    sentence = "The picture ends too early. Please send the whole file again."
    template = "The picture ends too early, after {file_bytes:,} bytes. Please send all of it."


class BrokenPicture(BadPicture):
    code = "broken_picture"
    title = "Broken picture"
    sentence = (
        "The picture is damaged and cannot be read."
        " Please save it again, for example as JPEG, and send that."
    )


class UndecodablePicture(BadPicture):
    """Its decoder took more time or memory than any picture needs, or died of it."""

    code = "undecodable_picture"
    title = "Picture cannot be decoded"
    sentence = (
        "The picture takes far too much to decode."
        " Please save it again, for example as JPEG, and send that."
    )


class MalformedBody(DarkroomError):
    status = 400
    code = "malformed_body"
    title = "Request not understood"
    sentence = "The request cannot be read. Please check its format."


class PreflightRefused(DarkroomError):
    """A browser asked on behalf of another origin's page, before its request itself."""

    status = 400
    code = "preflight_refused"
    title = "Page of another origin"
    sentence = "Pages of this origin may not call this service; CORS_ORIGINS names those that may."


class NotAuthenticated(DarkroomError):
    status = 401
    code = "not_authenticated"
    title = "Not logged in"
    sentence = "Please log in: send the token as Authorization: Bearer TOKEN."

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence, {"WWW-Authenticate": "Bearer"})


class InvalidToken(NotAuthenticated):
    code = "invalid_token"
    title = "Invalid token"
    sentence = "The token is not valid. Please log in again."


class TokenExpired(NotAuthenticated):
    code = "token_expired"
    title = "Token expired"
    sentence = "The session has expired. Please log in again."


class WrongCredentials(NotAuthenticated):
    code = "wrong_credentials"
    title = "Wrong login"
    sentence = "The name, the e-mail address or the password is wrong."


class Forbidden(DarkroomError):
    status = 403
    code = "forbidden"


class NotYours(Forbidden):
    code = "not_yours"
    title = "Another's account"
    sentence = "This account belongs to someone else."


class WrongPassword(Forbidden):
    code = "wrong_password"
    title = "Wrong current password"
    sentence = (
        "To change the password, send the current one as current_password;"
        " the one sent is missing or wrong."
    )


class NotFound(DarkroomError):
    status = 404
    code = "not_found"
    title = "Not found"
    sentence = "There is nothing at this address."


class UserNotFound(NotFound):
    code = "user_not_found"
    title = "No such account"
    sentence = "There is no account with this id."


class NoPicture(NotFound):
    code = "no_picture"
    title = "No picture"
    sentence = "This account has no picture."


class ObjectNotFound(NotFound):
    code = "object_not_found"
    title = "No such object"
    sentence = "There is no picture at this address."


class MethodNotAllowed(DarkroomError):
    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"
    sentence = "This address does not take this method; the header Allow names those that it takes."


class UploadStalled(DarkroomError):
    status = 408
    code = "upload_stalled"
    title = "Upload stalled"
    sentence = (
        "The upload came too slowly and was stopped. Please send it again on a better connection."
    )


class Conflict(DarkroomError):
    status = 409
    code = "conflict"


class UsernameTaken(Conflict):
    code = "username_taken"
    title = "Name taken"
    sentence = "This name is taken. Please choose another."


class EmailTaken(Conflict):
    code = "email_taken"
    title = "E-mail taken"
    sentence = "There is an account with this e-mail address. Please log in."


class TooLarge(DarkroomError):
    status = 413
    code = "too_large"


class FileTooLarge(TooLarge):
    code = "file_too_large"
    title = "File too large"
    sentence = "The file is too large. Please send a smaller one."


class BodyTooLarge(TooLarge):
    code = "body_too_large"
    title = "Request too large"
    sentence = "The request is larger than this address takes."


class TooManyPixels(TooLarge):
    code = "too_many_pixels"
    title = "Too many pixels"
    sentence = "The picture is too large. Please send a smaller one."
    template = (
        "The picture has {width_px} x {height_px} pixels, {millions:.1f} million;"
        " at most {most_millions:g} million are taken of its kind. Please send a smaller one."
    )


class SideTooLong(TooLarge):
    code = "side_too_long"
    title = "Side too long"
    sentence = "The picture is too long. Please send a smaller one."
    template = (
        "The picture is {width_px} x {height_px} pixels;"
        " at most {most_px} are taken on a side. Please send a smaller one."
    )


class RangeNotSatisfiable(DarkroomError):
    status = 416
    code = "range_not_satisfiable"
    title = "No such range"
    sentence = "The range lies outside the file; the header Content-Range names its length."


class BadForm(DarkroomError):
    status = 422
    code = "bad_form"


class NotAForm(BadForm):
    code = "not_a_form"
    title = "Not a form"
    sentence = (
        "Please send the picture as multipart/form-data, in a field named file;"
        " or bare, with its own Content-Type, as in image/jpeg."
    )


class MalformedForm(BadForm):
    code = "malformed_form"
    title = "Malformed form"
    sentence = "The form is damaged or cut short. Please send it again."


class FileMissing(BadForm):
    code = "file_missing"
    title = "No file"
    sentence = "The form has no file. Please send the picture in a field named file."


class FileIsAField(BadForm):
    code = "file_is_a_field"
    title = "A field instead of a file"
    sentence = "The field named file holds text. Please send a file there, with a filename."


class TooManyFiles(BadForm):
    code = "too_many_files"
    title = "More than one file"
    sentence = "Please send one file only, in the field named file."


class BadCrop(BadForm):
    code = "bad_crop"
    title = "Crop not usable"
    sentence = "crop must be x,y,size: three whole numbers, a square inside the upright picture."
    template = "The crop lies outside the picture, which is {width} x {height} pixels when upright."


class InvalidRequest(DarkroomError):
    """Input does not fit its schema; the answer adds `errors`, one for each field."""

    status = 422
    code = "invalid_request"
    title = "Input not valid"
    sentence = "The request is not valid."


class Unavailable(DarkroomError):
    status = 503
    code = "unavailable"
    sentence = "This is not possible right now. Please try again in a moment."

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence, {"Retry-After": str(RETRY_AFTER_SECONDS)})


class Busy(Unavailable):
    code = "busy"
    title = "Busy"
    sentence = "Many pictures are being worked on right now. Please try again in a moment."


class ShuttingDown(Unavailable):
    code = "shutting_down"
    title = "Restarting"
    sentence = "The service is being restarted. Please try again in a moment."


class DecoderUnavailable(Unavailable):
    code = "decoder_unavailable"
    title = "Decoder unavailable"
    sentence = "Pictures cannot be decoded right now. Please try again in a moment."


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    title = "Database unavailable"


class OutcomeUnknown(Unavailable):
    code = "outcome_unknown"
    title = "Outcome unknown"
    sentence = "The change may or may not have been made. Sending it again is safe."


class UploadExpired(Unavailable):
    code = "upload_expired"
    title = "Upload took too long"
    sentence = "The upload took too long to finish and was undone. Please send it again."


class StoreError(Unavailable):
    code = "store_error"
    sentence = "Pictures cannot be stored right now. Please try again in a moment."


class StoreUnavailable(StoreError):
    """The store cannot be reached, or fails; whether the call took effect is unknown."""

    code = "store_unavailable"
    title = "Store unavailable"


class StoreRefused(StoreError):
    """The store answered that we may not, or that there is no bucket: an operator has to act."""

    code = "store_refused"
    title = "Store unavailable"


class ObjectExists(StoreError):
    """A create-only put met an object under its key."""

    code = "object_exists"
    title = "Store unavailable"
