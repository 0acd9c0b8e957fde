"""Every setting once, with its unit and its reason.

Values come from the environment, or from a `.env` in the working directory or beside main.py;
`.env.example` lists them all and says which one wins. Outside production whatever is unset gets a
working default; in production nothing is assumed.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import (
    AliasChoices,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

import faults
import production
from errors import StartupError
from locations import (
    DATA_FOLDER,
    EVERY_ADDRESS,
    Folder,
    HeaderName,
    Host,
    Networks,
    Origin,
    PathPrefix,
    SigningSecret,
    StoreSettings,
    WebAddress,
    check_aws_bucket_name,
    check_env_files,
    find_env_files,
    read_or_make_secret,
    read_pasted,
    refuse_other_data,
    refuse_relative_data,
)
from postgres import make_driver_options, parse_postgres_url, read_connection_limit
from s3 import Names

KIB = 1024
MIB = 1024 * KIB

# Boundaries, part headers and small fields around the
# file. A browser's form needs less than one of them.
FORM_OVERHEAD_BYTES = 64 * KIB
# The default, which grows with the largest file: beside
# one of those there is room for several small ones.
UPLOAD_BUDGET_BYTES = 64 * MIB
ROOM_BESIDE_BYTES = 8 * MIB

# The exit status that makes uvicorn's process manager give
# up instead of starting the same failing worker for ever.
STARTUP_FAILURE_STATUS = 3


Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What an operator can set.

    A field's comment says why the default is not ten times more or less.
    """

    model_config = SettingsConfigDict(
        env_file=find_env_files(),
        # With the mark that editors of Windows put first, or without.
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
    )

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    # One process keeps two cores busy, because Pillow lets go
    # of the GIL; more help only where there are many cores.
    workers: Annotated[
        int, Field(ge=1, validation_alias=AliasChoices("workers", "web_concurrency"))
    ] = 1
    # Only these proxies are believed when they say who asks; one on this machine, by default.
    forwarded_allow_ips: str = "127.0.0.1,::1"
    # Nobody's, as those of the proxies are: what many people share is no measure of one of them.
    shared_addresses: Networks = "127.0.0.0/8,::1"
    data_dir: Annotated[Folder, Field(validate_default=True)] = Path(DATA_FOLDER)
    environment: Literal["development", "production"] = "development"
    log_format: Literal["auto", "text", "json"] = "auto"
    api_prefix: PathPrefix = ""
    # The page to try the service out, and its description for programs.
    api_docs: bool = True
    # The address under which browsers reach the service, with the path below which a proxy serves
    # it. Unset: pictures of the local store and the default one are paths.
    public_url: WebAddress | None = None
    # Longer than the 60 of nginx and of load balancers: who closes an idle connection first must be
    # who sends requests over it, or one is sent into the closing and lost.
    keep_alive_seconds: Annotated[int, Field(ge=1)] = 75
    # Of one process: far more than are answered at once, and what descriptors are enough for.
    max_connections: Annotated[int, Field(ge=1)] = 1000
    # A browser opens six; so many people may share an address.
    max_connections_per_address: Annotated[int, Field(ge=1)] = 100
    cors_origins: Annotated[list[Origin], NoDecode] = []
    cors_headers: Annotated[list[HeaderName], NoDecode] = []

    database_url: str | None = None
    # Connections are held for milliseconds, never across a
    # body, a decode or a store call, so ten carry much traffic.
    database_pool_size: Annotated[int, Field(ge=1)] = 10
    # Only in production it is refused otherwise; a network of containers may be meant.
    allow_plaintext: bool = False

    secret_key: SigningSecret | None = None
    access_token_expire_minutes: Annotated[int, Field(ge=1, le=10 * 365 * 24 * 60)] = 60

    # Tries by one client; 0 counts none. More than people make, and too few to guess a password
    # that is not common; an office or a school shares an address.
    logins_per_account_per_minute: Count = 10
    logins_per_address_per_minute: Count = 60
    registrations_per_address_per_hour: Count = 60

    storage: Literal["local", "s3"] | None = None
    # Rows remember this name. A new one is needed only when
    # a store of the same kind moves to another endpoint.
    storage_name: Annotated[str, Field(max_length=50)] | None = None
    previous_stores: dict[str, StoreSettings] = {}
    # As they are pasted; `read_pasted` makes of all of them what they mean.
    s3_bucket_name: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_endpoint_url: str | None = None
    s3_public_base_url: str | None = None
    s3_addressing_style: Literal["auto", "path", "virtual"] = "auto"
    s3_checksums: Literal["when_supported", "when_required"] = "when_supported"

    # What a phone camera makes; ten times more would let a single sender fill the upload budget.
    max_upload_size_bytes: Annotated[int, Field(ge=1)] = 5 * MIB
    # What a camera makes; a photo is streamed, so memory sets no bound, only patience.
    max_photo_size_bytes: Annotated[int, Field(ge=1)] = 50 * MIB
    # What pages always use: a telephone's list, its screen, a desktop's column, a large picture.
    # In two formats they are as many as one decode makes (pictures/renditions.py).
    thumbnail_widths: Annotated[
        list[Annotated[int, Field(ge=1, le=1600)]], NoDecode, Field(max_length=8)
    ] = [160, 320, 640, 1280]
    # Of pages that sign the addresses of other sizes by themselves; the first one signs here.
    thumbnail_keys: Annotated[list[SigningSecret], NoDecode] = []
    # Whoever asks first for a thumbnail waits for it, or sees a blurred placeholder at once.
    thumbnail_on_miss: Literal["wait", "placeholder"] = "wait"
    # What was sent, with all that it says of its sender, is kept for its owner.
    keep_originals: bool = True
    # Baseline JPEG is decoded at reduced scale, and 48 megapixels are what today's phones make.
    max_image_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    # All else is decoded whole, and may hold as much memory as the dearest kind (a HEIC with ten
    # bits and transparency) does of so many: as phones write it, a HEIC may have twice as many.
    max_whole_image_pixels: Annotated[int, Field(ge=1)] = 25_000_000
    # The bodies that may be in memory at once: a dozen of the largest, some twenty phone photos.
    upload_budget_bytes: Annotated[int, Field(ge=1)] = UPLOAD_BUDGET_BYTES
    # For decoding. Unset: as much as keeps every core busy with the dearest
    # pictures, but no more than half of the memory (pictures/budget.py).
    decode_budget_bytes: Annotated[int, Field(ge=1)] | None = None
    # What is transparent in a profile picture shows white: not every program shows WebP, nor does
    # every page look well behind a drawing that was made for white.
    avatar_transparency: Literal["flatten", "keep"] = "flatten"
    # What a kernel lacks of a decoder's confinement is logged, or refused at start.
    decoder_sandbox: Literal["available", "required"] = "available"
    # Longer than a queue of 50 pictures takes on two cores, shorter than the patience of a browser.
    upload_wait_seconds: Seconds = 20.0
    # A phone in a tunnel comes back within ten seconds or not at all.
    upload_stall_seconds: Seconds = 10.0
    # While others wait for memory; a bad mobile connection makes ten times this.
    upload_lowest_bytes_per_second: Annotated[int, Field(ge=1)] = 8 * KIB
    # Under way at once: enough to keep two cores busy, and few enough that others have their turn.
    uploads_per_account: Annotated[int, Field(ge=1)] = 3
    # A household's, or a small office's.
    uploads_per_address: Annotated[int, Field(ge=1)] = 12
    # None: what nobody refers to any more is deleted at once. An hour is enough for pages that are
    # open; who wants an old picture after a month has to keep it.
    old_picture_grace_seconds: Annotated[float, Field(ge=0, le=31 * 24 * 3600)] = 0
    # Far above the longest put (STORE_DEADLINE_SECONDS),
    # so that only what a crash left is ever reaped.
    pending_expiry_seconds: Seconds = 900.0
    reaper_interval_seconds: Seconds = 5.0
    # A few queries a minute cost nothing; where many services
    # run, `cli.py worker` may do it for all of them.
    embedded_reaper: bool = True
    # What a job needs of a machine it takes from this one's; `cli.py worker` may run on another.
    embedded_jobs: bool = True

    # Sentences of what was pasted and read otherwise than it stands there.
    _s3_notes: tuple[str, ...] = PrivateAttr(())

    @field_validator(
        *("cors_origins", "cors_headers", "thumbnail_widths", "thumbnail_keys"), mode="before"
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        """Commas or a JSON list between them; both are common."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError as err:
                raise ValueError('is no JSON list, as in ["https://app.example.com"]') from err
        items = (item.strip() for item in value.split(","))
        return [item for item in items if item]

    @field_validator("database_url")
    @classmethod
    def _use_asyncpg(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = parse_postgres_url(value).render_as_string(hide_password=False)
        make_driver_options(url)  # for the files that it names
        return url

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        self._s3_notes = read_pasted(self, Names(), may_take_bucket=self.storage == "s3")
        if self.environment == "production":
            production.refuse_gaps(
                DATABASE_URL=self.database_url, SECRET_KEY=self.secret_key, STORAGE=self.storage
            )
            production.refuse_short_secret(self.secret_key)
            production.refuse_long_tokens(self.access_token_expire_minutes)
            production.refuse_every_origin(self.cors_origins)
            production.refuse_faults()
            if not self.allow_plaintext:
                production.refuse_plaintext(self.database_url, self.stores())
            self._listen_where_ports_are_assigned()
        self._check_s3()
        self._fit_pool()
        self._fit_upload_budget()
        self._check_store_names()
        return self

    def _listen_where_ports_are_assigned(self) -> None:
        """Listen on every address where a host gives PORT to the process, and sends requests there.

        Whoever writes PORT into a file of settings is no such host.
        """
        is_assigned = any(name.upper() == "PORT" and value for name, value in os.environ.items())
        if is_assigned and "host" not in self.model_fields_set:
            self.host = EVERY_ADDRESS

    def _check_s3(self) -> None:
        if self.storage == "s3" and not self.s3_bucket_name:
            raise ValueError("STORAGE=s3 needs S3_BUCKET_NAME")
        if self.s3_bucket_name and not self.s3_endpoint_url:
            check_aws_bucket_name(self.s3_bucket_name, self.s3_region)
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError(
                "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY belong together: set both or neither"
            )

    def _fit_pool(self) -> None:
        """Open no more connections than the URL allows, by Prisma's word `connection_limit`."""
        limit = read_connection_limit(self.database_url) if self.database_url else None
        if limit is not None:
            self.database_pool_size = min(self.database_pool_size, limit)

    def _fit_upload_budget(self) -> None:
        if self.upload_budget_bytes == UPLOAD_BUDGET_BYTES:
            needed_bytes = self.max_upload_size_bytes + ROOM_BESIDE_BYTES
            self.upload_budget_bytes = max(self.upload_budget_bytes, needed_bytes)
        if self.upload_budget_bytes < self.max_upload_size_bytes + MIB:
            raise ValueError(
                "UPLOAD_BUDGET_BYTES must exceed MAX_UPLOAD_SIZE_BYTES by at least 1 MiB"
            )

    def _check_store_names(self) -> None:
        if self.storage_name in {"local", "s3"} - {self.store_kind}:
            raise ValueError(
                f"STORAGE_NAME={self.storage_name} is what rows call the other kind of store"
            )
        for name, previous in self.previous_stores.items():
            if name in {"local", "s3"} - {previous.storage}:
                raise ValueError(
                    "PREVIOUS_STORES must not call a store by the name of the other kind"
                )
        if self.store_name in self.previous_stores:
            raise ValueError(f"PREVIOUS_STORES must not list the current store, {self.store_name}")

    @property
    def store_kind(self) -> Literal["local", "s3"]:
        """The kind of the current store.

        As it is set, else S3 if a bucket is named, else the local disk.
        """
        return self.storage or ("s3" if self.s3_bucket_name else "local")

    @property
    def store_name(self) -> str:
        """The name under which rows record the current store."""
        return self.storage_name or self.store_kind

    def stores(self) -> dict[str, StoreSettings]:
        """Every store that rows may refer to, by name; the current one is `store_name`."""
        local = StoreSettings(storage="local", directory=self.data_dir / "media")
        stores = dict(self.previous_stores)
        # Under another name it is another store: what rows call by the kind's own lies elsewhere.
        is_renamed = self.store_name != self.store_kind
        if not (is_renamed and self.store_kind == "local"):
            stores.setdefault("local", local)
        if self.s3_bucket_name:
            s3 = StoreSettings(
                storage="s3",
                bucket_name=self.s3_bucket_name,
                region=self.s3_region,
                access_key_id=self.s3_access_key_id,
                secret_access_key=self.s3_secret_access_key,
                endpoint_url=self.s3_endpoint_url,
                public_base_url=self.s3_public_base_url,
                addressing_style=self.s3_addressing_style,
                checksums=self.s3_checksums,
            )
            s3 = s3.with_notes(self._s3_notes)
            if not (is_renamed and self.store_kind == "s3"):
                stores.setdefault("s3", s3)
            if self.store_kind == "s3":
                stores[self.store_name] = s3
        if self.store_kind == "local":
            stores[self.store_name] = local
        return stores

    def signing_secret(self) -> str:
        """The secret that signs tokens.

        It is `secret_key`, or one that is made once and kept in `data_dir`. Raises StartupError.
        """
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        return read_or_make_secret(self.data_dir / "secret_key")


def load(**given: Any) -> Settings:
    """Load the settings, of which these are given; end the process in a sentence if they are bad.

    Empty text counts as not given, and so does None.
    """
    try:
        check_env_files()
        loaded = Settings(**{name: value for name, value in given.items() if value})
        if "data_dir" not in loaded.model_fields_set:
            refuse_other_data()
        else:
            refuse_relative_data(loaded.data_dir)
        return loaded
    except StartupError as err:
        _refuse(str(err))
    except ValidationError as err:
        problems = []
        for error in err.errors(include_input=False):
            name = ".".join(part.upper() for part in error["loc"] if isinstance(part, str))
            # The validator's words, as ours are: "Input should be a valid integer, unable to ...".
            words = error["msg"].removeprefix("Value error, ").partition(", unable to ")[0]
            problem = re.sub(r"^\w+ should ", "must ", words)
            problems.append(f"{name}: {problem}" if name else problem)
        _refuse("; ".join(problems) + ".")
    except SettingsError as err:
        _refuse(f"{err}: it must be JSON.")


def _refuse(sentence: str) -> NoReturn:
    print(f"Darkroom cannot start. {sentence}", file=sys.stderr)
    sys.exit(STARTUP_FAILURE_STATUS)


settings = load()
if settings.environment != "production":
    faults.arm_from_environment()
