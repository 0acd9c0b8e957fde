"""What goes in and out as JSON."""

import unicodedata
from typing import Annotated, Any, Literal

import email_validator
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from models import LONGEST_FOLDED, fold
from pictures import MetadataName

# Addresses are proven by a mail, not by their spelling:
# those of an intranet or a test machine are fine.
email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = ["arpa", "invalid", "onion"]


def _check_username(name: str) -> str:
    name = name.strip()
    if not name:
        raise ValueError("must not be empty")
    if any(unicodedata.category(character).startswith("C") for character in name):
        raise ValueError("must not contain control or invisible characters")
    return _check_folded(name)


def _check_email(address: str) -> str:
    return _check_folded(normalize_email(address))


def _check_folded(name: str) -> str:
    if len(fold(name)) > LONGEST_FOLDED:
        raise ValueError("is too long")
    return name


def _check_password(password: SecretStr) -> SecretStr:
    if not is_text(password.get_secret_value()):
        raise ValueError("must be valid text")
    return password


def is_text(value: str) -> bool:
    """Whether this can be written as UTF-8.

    JSON lets half a surrogate pair through, which cannot be hashed.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def normalize_email(address: str) -> str:
    """The one way to write an address. Raises ValueError with what is wrong with it."""
    try:
        return email_validator.validate_email(address, check_deliverability=False).normalized
    except email_validator.EmailNotValidError as err:
        raise ValueError(f"is not an e-mail address: {err}") from err


Username = Annotated[str, Field(max_length=50), AfterValidator(_check_username)]
Email = Annotated[str, Field(max_length=254), AfterValidator(_check_email)]
# The upper bound keeps hashing cheap; NIST SP 800-63B asks
# for at least eight characters and at least 64 allowed.
Password = Annotated[
    SecretStr, Field(min_length=8, max_length=256), AfterValidator(_check_password)
]

# Ids fit the database's bigint, so that no number can become a server error.
LARGEST_ID = 2**63 - 1


class Input(BaseModel):
    """What comes in. A field that is not listed is refused: it may be a typing error."""

    model_config = ConfigDict(extra="forbid")


class UserCreate(Input):
    username: Username
    email: Email
    password: Password


class UserUpdate(Input):
    """What is left out stays as it is.

    A new password of one's own needs the current one; it ends every older token.
    """

    username: Username = Field(default=None)  # type: ignore[assignment]
    email: Email = Field(default=None)  # type: ignore[assignment]
    password: Password = Field(default=None)  # type: ignore[assignment]
    current_password: SecretStr | None = Field(default=None, max_length=256)


class ImagePlaceholder(BaseModel):
    """What a page can paint before the picture arrives; `thumbhash` is in base64."""

    model_config = ConfigDict(from_attributes=True)

    width: int
    height: int
    dominant_colour: str
    thumbhash: str


class UserPublic(BaseModel):
    """An account as anyone sees it. `image_path` is what a browser loads."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    image_file: str | None
    image_path: str
    image_placeholder: ImagePlaceholder | None


class UserPrivate(UserPublic):
    """An account as its owner sees it."""

    email: str


class UserWithNewPicture(UserPrivate):
    """The answer to an upload.

    `removed_metadata` names what the original carried and the picture does not.
    """

    removed_metadata: tuple[MetadataName, ...] = ()


class Token(BaseModel):
    access_token: str
    token_type: Literal["bearer"] = "bearer"


class Health(BaseModel):
    status: Literal["live", "ready"]


class Problem(BaseModel):
    """The body of every error: RFC 9457, with a stable `code` for programs and the request's id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    errors: list[dict[str, Any]] = Field(
        default=[], description="Where input was not valid: loc, msg and type"
    )
