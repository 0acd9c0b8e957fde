"""The error tree: every refusal, with a status, a stable `code` and a sentence to act on.

The code is for programs, the sentence for people. Vendor text goes to the log, never into them.

    DarkroomError
    ├── BadPicture (400)         EmptyFile · NotAPicture · UnsupportedFormat · TruncatedPicture
    │                            BrokenPicture · UndecodablePicture
    ├── MalformedBody (400) · MalformedRequest (400) · PreflightRefused (400)
    ├── NotAuthenticated (401)   InvalidToken · TokenExpired · WrongCredentials
    ├── Forbidden (403)          NotYours · WrongPassword · LoginAgain · LinkExpired
    │                            BadSignature
    ├── NotFound (404)           UserNotFound · NoPicture · PhotoNotFound · ObjectNotFound
    │                            ThumbnailNotFound
    ├── MethodNotAllowed (405)
    ├── UploadStalled (408) · HeadTooSlow (408)
    ├── Conflict (409)           UsernameTaken · EmailTaken · PhotoChanged · StillInProgress
    ├── TooLarge (413)           FileTooLarge · BodyTooLarge · TooManyPixels · SideTooLong
    ├── RangeNotSatisfiable (416)
    ├── BadForm (422)            NotAForm · MalformedForm · FileMissing · FileIsAField
    │                            TooManyFiles · BadCrop · BadBackground
    ├── InvalidRequest (422) · BadCursor (422) · BadThumbnail (422) · IdempotencyKeyReused (422)
    ├── TooManyAttempts (429)
    ├── HeadTooLarge (431)
    └── Unavailable (503)        Busy · ShuttingDown · DecoderUnavailable · DatabaseUnavailable
                                 OutcomeUnknown · UploadExpired · ThumbnailNotReady
                                 TooManyConnections · Overloaded
                                 StoreError: StoreUnavailable · StoreRefused · ObjectExists
                                 WrongStore · ReapedByAnother
                                 StoreUnavailable: OutOfDescriptors
"""

from errors.accounts import (
    EmailTaken,
    InvalidToken,
    LoginAgain,
    NoPicture,
    NotAuthenticated,
    NotYours,
    TokenExpired,
    TooManyAttempts,
    UsernameTaken,
    UserNotFound,
    WrongCredentials,
    WrongPassword,
)
from errors.base import (
    RETRY_AFTER_SECONDS,
    Conflict,
    DarkroomError,
    Forbidden,
    NotFound,
    StartupError,
    TooLarge,
    Unavailable,
)
from errors.outages import (
    Busy,
    DatabaseUnavailable,
    DecoderUnavailable,
    OutcomeUnknown,
    Overloaded,
    ShuttingDown,
    UploadExpired,
)
from errors.photos import (
    BadThumbnail,
    PhotoChanged,
    PhotoNotFound,
    ThumbnailNotFound,
    ThumbnailNotReady,
)
from errors.pictures import (
    BadBackground,
    BadCrop,
    BadPicture,
    BrokenPicture,
    EmptyFile,
    NotAPicture,
    SideTooLong,
    TooManyPixels,
    TruncatedPicture,
    UndecodablePicture,
    UnsupportedFormat,
)
from errors.requests import (
    BadCursor,
    BodyTooLarge,
    HeadTooLarge,
    HeadTooSlow,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedBody,
    MalformedRequest,
    MethodNotAllowed,
    PreflightRefused,
    RangeNotSatisfiable,
    StillInProgress,
    TooManyConnections,
    UploadStalled,
)
from errors.stores import (
    BadSignature,
    LinkExpired,
    ObjectExists,
    ObjectNotFound,
    OutOfDescriptors,
    ReapedByAnother,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    WrongStore,
)
from errors.uploads import (
    BadForm,
    FileIsAField,
    FileMissing,
    FileTooLarge,
    MalformedForm,
    NotAForm,
    TooManyFiles,
)

__all__ = [
    "RETRY_AFTER_SECONDS",
    "BadBackground",
    "BadCrop",
    "BadCursor",
    "BadForm",
    "BadPicture",
    "BadSignature",
    "BadThumbnail",
    "BodyTooLarge",
    "BrokenPicture",
    "Busy",
    "Conflict",
    "DarkroomError",
    "DatabaseUnavailable",
    "DecoderUnavailable",
    "EmailTaken",
    "EmptyFile",
    "FileIsAField",
    "FileMissing",
    "FileTooLarge",
    "Forbidden",
    "HeadTooLarge",
    "HeadTooSlow",
    "IdempotencyKeyReused",
    "InvalidRequest",
    "InvalidToken",
    "LinkExpired",
    "LoginAgain",
    "MalformedBody",
    "MalformedForm",
    "MalformedRequest",
    "MethodNotAllowed",
    "NoPicture",
    "NotAForm",
    "NotAPicture",
    "NotAuthenticated",
    "NotFound",
    "NotYours",
    "ObjectExists",
    "ObjectNotFound",
    "OutOfDescriptors",
    "OutcomeUnknown",
    "Overloaded",
    "PhotoChanged",
    "PhotoNotFound",
    "PreflightRefused",
    "RangeNotSatisfiable",
    "ReapedByAnother",
    "ShuttingDown",
    "SideTooLong",
    "StartupError",
    "StillInProgress",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "ThumbnailNotFound",
    "ThumbnailNotReady",
    "TokenExpired",
    "TooLarge",
    "TooManyAttempts",
    "TooManyConnections",
    "TooManyFiles",
    "TooManyPixels",
    "TruncatedPicture",
    "Unavailable",
    "UndecodablePicture",
    "UnsupportedFormat",
    "UploadExpired",
    "UploadStalled",
    "UserNotFound",
    "UsernameTaken",
    "WrongCredentials",
    "WrongPassword",
    "WrongStore",
]
