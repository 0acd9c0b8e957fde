"""What goes in and out as JSON."""

import re
from datetime import datetime
from typing import Annotated, Literal

import email_validator
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
)

from credentials import check_new_name, fold, fold_name, normalize_name
from models import LONGEST_FOLDED, Visibility
from pictures import MetadataName, NoteName, RenditionFormat

# Addresses are proven by a mail, not by their spelling:
# those of an intranet or a test machine are fine.
email_validator.SPECIAL_USE_DOMAIN_NAMES[:] = ["arpa", "invalid", "onion"]


def _check_username(name: str) -> str:
    name = normalize_name(name)
    _check_length(fold_name(name))
    return name


def _check_email(address: str) -> str:
    address = normalize_email(address)
    _check_length(fold(address))
    return address


def _check_length(folded: str) -> None:
    if len(folded) > LONGEST_FOLDED:
        raise ValueError("This is too long. Please choose a shorter one.")


def _check_password(password: SecretStr) -> SecretStr:
    if not is_text(password.get_secret_value()):
        raise ValueError("A password must be valid text.")
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
    """The one way to write an address. Raises ValueError with a sentence for who sent it."""
    address = address.strip()
    try:
        return email_validator.validate_email(address, check_deliverability=False).normalized
    except email_validator.EmailNotValidError as err:
        raise ValueError("Please enter an e-mail address, as in name@example.com.") from err


Username = Annotated[str, Field(max_length=50), AfterValidator(_check_username)]
Email = Annotated[str, Field(max_length=254), AfterValidator(_check_email)]
# The upper bound keeps hashing cheap; NIST SP 800-63B asks
# for at least eight characters and at least 64 allowed.
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 256
Password = Annotated[
    SecretStr,
    Field(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD),
    AfterValidator(_check_password),
    # Not as `writeOnly`: generators would make two types of the one.
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "minLength": SHORTEST_PASSWORD,
            "maxLength": LONGEST_PASSWORD,
        }
    ),
]
# A password that is compared, whatever the rules were when it was chosen.
GivenPassword = Annotated[SecretStr, WithJsonSchema({"type": "string", "format": "password"})]

# Ids fit the database's bigint, so that no number can become a server error.
LARGEST_ID = 2**63 - 1
_DECIMAL = re.compile("[1-9][0-9]*")


def _check_canonical(number: str) -> str:
    if not _DECIMAL.fullmatch(number):
        raise ValueError("An id is written in decimal digits, without a sign or a leading zero.")
    return number


# In an address. Each has one, so that what is kept or counted by address knows it again.
AddressId = Annotated[int, Field(ge=1, le=LARGEST_ID), BeforeValidator(_check_canonical)]


class Input(BaseModel):
    """What comes in. A field that is not listed is refused: it may be a typing error."""

    model_config = ConfigDict(extra="forbid")


class UserCreate(Input):
    username: Annotated[Username, AfterValidator(check_new_name)]
    email: Email
    password: Password


class UserUpdate(Input):
    """What is left out stays as it is.

    A new password or e-mail address of one's own needs the current password; a new password ends
    every older token.
    """

    username: Username = Field(default=None)  # type: ignore[assignment]
    email: Email = Field(default=None)  # type: ignore[assignment]
    password: Password = Field(default=None)  # type: ignore[assignment]
    current_password: GivenPassword | None = Field(default=None, max_length=LONGEST_PASSWORD)


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

    `removed_metadata` names what the original carried and the picture does not, `notes` what else
    was changed on the way.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    removed_metadata: tuple[MetadataName, ...] = ()
    notes: tuple[NoteName, ...] = ()


def _check_words(text: str) -> str:
    if not is_text(text) or any(
        character < " " and character not in "\t\r\n" for character in text
    ):
        raise ValueError("A text may not hold control characters.")
    return text.strip()


# Of a social network's post; a screen reader is cut off far earlier.
LONGEST_CAPTION = 2000
PhotoText = Annotated[str, Field(max_length=LONGEST_CAPTION), AfterValidator(_check_words)]


class PhotoUpdate(Input):
    """What the owner says of a photo. What is left out stays as it is."""

    caption: PhotoText = Field(default=None)  # type: ignore[assignment]
    alt: PhotoText = Field(default=None)  # type: ignore[assignment]
    visibility: Visibility = Field(default=None)  # type: ignore[assignment]


class PictureOfPhoto(Input):
    """Names a photo of the account, of which the profile picture is made."""

    photo_id: Annotated[int, Field(ge=1, le=LARGEST_ID)]
    crop: str | None = Field(default=None, max_length=50)
    background: str | None = Field(default=None, max_length=50)


class PhotoOwner(BaseModel):
    """Whose photo it is, with what a page shows beside it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    username: str
    image_path: str


class ThumbnailShown(BaseModel):
    """A thumbnail that pages always use.

    Its `url` is for ever once it is made (of a private photo: for a few minutes); before, it leads
    there, and has it made.
    """

    width: int
    height: int
    format: RenditionFormat
    url: str


class SourceSets(BaseModel):
    """What `srcset` of an `<img>` or a `<source>` takes, for each format."""

    webp: str
    jpeg: str


class PhotoPublic(BaseModel):
    """A photo as everyone sees it who may. `url` is what a browser loads.

    `filename`, `content_type` and `size_bytes` are those of the file as it was sent, `width` and
    `height` those of what `url` shows.
    """

    id: int
    owner: PhotoOwner
    url: str | None = Field(
        description="Of a private photo it is good for a few minutes;"
        " null while the settings do not know the store that holds it"
    )
    width: int
    height: int
    aspect_ratio: float = Field(description="Width by height, as CSS has it")
    placeholder: ImagePlaceholder | None
    caption: str
    alt: str
    visibility: Visibility
    filename: str
    content_type: str
    size_bytes: int
    removed_metadata: list[MetadataName]
    notes: list[NoteName]
    created_at: datetime
    thumbnails: list[ThumbnailShown]
    srcset: SourceSets
    sizes: dict[str, str] = Field(
        default_factory=dict, description="Addresses of the thumbnails that `sizes` asked for"
    )


class PhotoPrivate(PhotoPublic):
    """A photo as its owner sees it.

    `original_url` is where the file lies as it was sent.
    """

    original_url: str | None = Field(
        description="Good for a few minutes; null if the original was not kept, or to an admin"
    )


class PhotoPage(BaseModel):
    """Photos, the newest first. `next` is the `cursor` of the next page; null at the end."""

    photos: list[PhotoPublic]
    next: str | None


class SingleThumbnailShown(BaseModel):
    """A thumbnail of which nothing else was kept. `thumbnail` is what a browser loads, for ever."""

    id: int
    thumbnail: str | None = Field(
        description="Null while the settings do not know the store that holds it"
    )
    width: int
    height: int
    content_type: str
    size_bytes: int
    placeholder: ImagePlaceholder | None
    created_at: datetime


class SingleThumbnailPage(BaseModel):
    """Thumbnails, the newest first. `next` is the `cursor` of the next page; null at the end."""

    thumbnails: list[SingleThumbnailShown]
    next: str | None


class LoginForm(BaseModel):
    """The OAuth2 password form. `username` is the e-mail address or the name of the account.

    The rest of it is OAuth2's: it is taken, and changes nothing.
    """

    username: str
    password: GivenPassword
    # Without a default in the document, for which openapi-typescript would demand them.
    grant_type: Literal["password"] = Field(default=None)  # type: ignore[arg-type]
    scope: str = Field(default=None)  # type: ignore[assignment]
    client_id: str = Field(default=None)  # type: ignore[assignment]
    client_secret: GivenPassword = Field(default=None)  # type: ignore[assignment]


class Token(BaseModel):
    """A login: send `access_token` as `Authorization: Bearer`, for `expires_in` seconds."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int
    user: UserPrivate


class Health(BaseModel):
    status: Literal["live", "ready"]
