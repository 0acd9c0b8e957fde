"""Where things are: files of settings, the folder of data, the secret in it, stores, addresses.

Beside main.py is the same from wherever a service is started, and so nothing that counts may depend
on the working directory in silence.
"""

import dataclasses
import ipaddress
import os
import re
import secrets
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, PrivateAttr, SecretStr, model_validator

from errors import StartupError
from s3 import Names, Place, read_place

ROOT = Path(__file__).parent
# Names the one file of settings, in place of the two that are looked for; empty, there is none.
ENV_FILE_VARIABLE = "DARKROOM_ENV_FILE"
# What a data folder of ours has, one or the other.
OWN_NAMES = ("secret_key", "postgres", "media")
DATA_FOLDER = ".data"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 (chosen by who sets it, or where a host assigns ports)
# In characters; RFC 7518 asks HS256 for as many bytes as its hash has.
SHORTEST_SECRET = 32
# Those of S3, and the looser ones of its older buckets and of other services; of ARNs, those that
# botocore takes in the place of a bucket.
_BUCKET_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}(?<!\.)"
    r"|arn:aws[^:]*:s3(-object-lambda)?:[a-z0-9-]*:\d{12}:accesspoint[/:][A-Za-z0-9.-]{1,63}"
    r"|arn:aws[^:]*:s3-outposts:[a-z0-9-]+:\d{12}:outpost[/:][A-Za-z0-9-]{1,63}"
    r"[/:]accesspoint[/:][A-Za-z0-9-]{1,63}"
)
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_AWS_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:.*")
# How the settings of a store are called within PREVIOUS_STORES.
_NAMES = Names(
    bucket="bucket_name",
    region="region",
    endpoint="endpoint_url",
    public_base="public_base_url",
    key_id="access_key_id",
    secret="secret_access_key",  # noqa: S106 (its name)
)
# The one region whose oldest buckets have looser names.
_LOOSE_AWS_REGION = "us-east-1"


def count_from_root(path: Path) -> Path:
    """Make a path absolute; a relative one counts from main.py's folder. Raises ValueError."""
    try:
        return (ROOT / path.expanduser()).resolve()
    except RuntimeError as err:  # nobody's home is known by this name
        raise ValueError("must be a whole path, for ~ leads nowhere here") from err


def _check_bucket_name(name: str, setting: str) -> None:
    is_address = re.fullmatch(r"\d+(\.\d+){3}", name)
    if not _BUCKET_NAME.fullmatch(name) or ".." in name or is_address:
        raise ValueError(f"{setting} must be the bucket's name alone, as in my-pictures")


def check_aws_bucket_name(name: str, region: str) -> None:
    """Raise ValueError for a name that no bucket of AWS has in this region."""
    if region != _LOOSE_AWS_REGION and not _AWS_BUCKET_NAME.fullmatch(name):
        raise ValueError(
            f"the bucket's name {name} cannot be one of AWS, which has 3 to 63 small letters,"
            " digits, dots and hyphens (for another service, name its endpoint)"
        )


def _check_networks(words: str) -> str:
    for word in filter(None, (word.strip() for word in words.split(","))):
        try:
            ipaddress.ip_network(word)
        except ValueError as err:
            raise ValueError("must be addresses and networks, as in 127.0.0.1,10.0.0.0/8") from err
    return words


Networks = Annotated[str, AfterValidator(_check_networks)]
Folder = Annotated[Path, AfterValidator(count_from_root)]


def _check_origin(origin: str) -> str:
    """Return an origin as browsers send it. Raises ValueError for what is none.

    Takes `*` for every origin, and `null`, which pages without an origin send.
    """
    if origin in ("*", "null"):
        return origin
    parts = urlsplit(origin.rstrip("/"))
    if not parts.scheme or not parts.netloc or parts.path or parts.query or parts.fragment:
        raise ValueError(
            "must be origins, which have a scheme and no path, as in https://app.example.com"
        )
    try:
        port = parts.port
    except ValueError as err:
        raise ValueError("has an origin whose port is no number") from err
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    if parts.username is not None or not host:
        raise ValueError("must be origins, without a name or a password in them")
    is_default = port is None or (parts.scheme, port) in (("http", 80), ("https", 443))
    return f"{parts.scheme}://{host}" + ("" if is_default else f":{port}")


def _check_header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or name == "*":
        raise ValueError("must be names of headers, as in X-My-Header, separated by commas")
    return name


def _check_host(host: str) -> str:
    bare = host.removeprefix("[").removesuffix("]")
    if "/" in bare or (":" in bare and not _is_ipv6(bare)):
        raise ValueError(
            "must be only the address to listen on, such as 127.0.0.1, or"
            f" {EVERY_ADDRESS} for every address of this machine"
        )
    return bare


def _is_ipv6(text: str) -> bool:
    """Whether this is an address of IPv6, without brackets."""
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _check_path_prefix(prefix: str) -> str:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError("must start with a slash and not end with one, as in /api")
    return prefix


def _check_web_address(address: str) -> str:
    parts = urlsplit(address)
    is_address = parts.scheme in ("http", "https") and parts.hostname
    if not is_address or parts.query or parts.fragment:
        raise ValueError("must be an address like https://s3.example.com")
    return address.rstrip("/")


def _check_secret(secret: SecretStr) -> SecretStr:
    if _is_guessed_first(secret.get_secret_value()):
        raise ValueError("must not be white space or one letter repeated: anyone guesses that")
    return secret


def _is_guessed_first(secret: str) -> bool:
    return len(set(secret.strip())) <= 1


HeaderName = Annotated[str, AfterValidator(_check_header_name)]
Host = Annotated[str, AfterValidator(_check_host)]
Origin = Annotated[str, AfterValidator(_check_origin)]
PathPrefix = Annotated[str, AfterValidator(_check_path_prefix)]
# What signs; a part of it is told to nobody.
SigningSecret = Annotated[SecretStr, AfterValidator(_check_secret)]
WebAddress = Annotated[str, AfterValidator(_check_web_address)]


def read_pasted(
    given: BaseModel, names: Names, *, may_take_bucket: bool = False
) -> tuple[str, ...]:
    """Let the settings of a bucket be what was meant by what is pasted; return what to tell of it.

    Their fields are called as in `names`, in small letters. Raises ValueError.
    """
    fields = {field: name.lower() for field, name in dataclasses.asdict(names).items()}
    pasted = {field: _reveal(getattr(given, name)) for field, name in fields.items()}
    if fields["region"] not in given.model_fields_set:
        pasted["region"] = None
    place, notes = read_place(Place(**pasted), names, may_take_bucket=may_take_bucket)
    for field, name in fields.items():
        text: str | None = getattr(place, field)
        is_secret = field in ("key_id", "secret") and text
        default = type(given).model_fields[name].default
        setattr(given, name, SecretStr(text) if is_secret and text else text or default)
    if place.bucket:
        _check_bucket_name(place.bucket, names.bucket)
    return notes


def _reveal(value: SecretStr | str | None) -> str | None:
    return value.get_secret_value() if isinstance(value, SecretStr) else value or None


class StoreSettings(BaseModel):
    """Where one store is.

    What `previous_stores` lists for each store that is still read and deleted from.
    """

    storage: Literal["local", "s3"]
    directory: Folder | None = None
    bucket_name: str = ""
    region: str = "us-east-1"
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    endpoint_url: str | None = None
    public_base_url: str | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    checksums: Literal["when_supported", "when_required"] = "when_supported"

    # Sentences of what was pasted and read otherwise than it stands there.
    _notes: tuple[str, ...] = PrivateAttr(())

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know of how these were read, in sentences."""
        return self._notes

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.storage == "local":
            if self.directory is None:
                raise ValueError("a local store needs a directory")
            return self
        self._notes = read_pasted(self, _NAMES)
        if not self.bucket_name:
            raise ValueError("an S3 store needs a bucket_name")
        if not self.endpoint_url:
            check_aws_bucket_name(self.bucket_name, self.region)
        return self

    def with_notes(self, notes: tuple[str, ...]) -> Self:
        """Give the same store, of which this was noted when its settings were read."""
        self._notes = notes
        return self


def find_env_files() -> list[Path]:
    """Find the files of settings: the named one, or those beside main.py and here.

    What a later one says wins.
    """
    named = os.environ.get(ENV_FILE_VARIABLE)
    if named is not None:
        return [Path(named).absolute()] if named else []
    beside_main = ROOT / ".env"
    here = Path(".env").absolute()
    found = [file for file in (beside_main, here) if file.is_file()]
    if len(found) == 2 and here.samefile(beside_main):
        return [beside_main]
    return found


def check_env_files() -> None:
    """Raise StartupError for a file of settings that is named and missing, or cannot be read."""
    for file in find_env_files():
        if not file.is_file():
            raise StartupError(f"{ENV_FILE_VARIABLE} names {file}, and there is no such file.")
        try:
            file.read_text("utf-8-sig")
        except UnicodeDecodeError as err:
            raise StartupError(
                f"The settings in {file} are not in UTF-8: save that file as UTF-8."
            ) from err
        except OSError as err:
            raise StartupError(f"The settings in {file} cannot be read: {err.strerror}.") from err


def refuse_other_data() -> None:
    """Raise StartupError where the default of DATA_DIR would hide data in the working directory."""
    beside_main = ROOT / DATA_FOLDER
    here = Path(DATA_FOLDER).absolute()
    if here.is_dir() and not beside_main.exists():
        raise StartupError(
            f"There is data in {here}, but without DATA_DIR it is kept in {beside_main}:"
            " set DATA_DIR to the one that you mean."
        )


def refuse_relative_data(data_dir: Path) -> None:
    """Raise StartupError where a DATA_DIR that is given would hide data in the working directory.

    It once counted from there, and counts from the folder of main.py.
    """
    if data_dir.exists() or not data_dir.is_relative_to(ROOT):
        return
    here = Path.cwd() / data_dir.relative_to(ROOT)
    if any((here / name).exists() for name in OWN_NAMES):
        raise StartupError(
            f"There is data in {here}, but DATA_DIR counts from the folder of main.py and is"
            f" {data_dir}: set DATA_DIR to the whole path of the one that you mean."
        )


def read_or_make_secret(path: Path) -> str:
    """Read the secret that signs tokens; it is made where there is none. Raises StartupError."""
    try:
        if not path.exists():
            _make_secret(path)
        secret = path.read_text().strip()
    except OSError as err:
        raise StartupError(
            f"The secret that signs tokens cannot be kept in {path}: {err.strerror}."
            " Set SECRET_KEY, or correct DATA_DIR."
        ) from err
    if len(secret) < SHORTEST_SECRET or _is_guessed_first(secret):
        raise StartupError(f"{path} is damaged: delete it, and everyone has to log in again.")
    return secret


def _make_secret(path: Path) -> None:
    """Make the file of the secret, readable by its owner only, unless another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"secret_key.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    try:
        # Two processes may start at once: the first link wins, both read it.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
