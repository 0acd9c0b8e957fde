"""The first step: which store the settings mean, and what of them cannot be.

Here is also what is shown of them; no secret is.
"""

from collections.abc import Iterator

from config import Settings
from doctor import cures
from doctor.case import mask_key
from doctor.findings import Cure, Finding, Paste, advise, failed, passed
from doctor.refusals import SETTINGS, explain_refusal, find_lines
from errors import StartupError
from storage.s3 import S3Store


def describe(settings: Settings) -> dict[str, str]:
    """Show the settings of the store, without a secret; what is unset is left out."""
    key = settings.s3_access_key_id
    shown = {
        "STORAGE": settings.storage,
        "S3_BUCKET_NAME": settings.s3_bucket_name,
        "S3_REGION": settings.s3_region,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "S3_PUBLIC_BASE_URL": settings.s3_public_base_url,
        "S3_ADDRESSING_STYLE": settings.s3_addressing_style,
        "S3_CHECKSUMS": settings.s3_checksums,
        "S3_ACCESS_KEY_ID": mask_key(key.get_secret_value()) if key else None,
        "CORS_ORIGINS": ",".join(settings.cors_origins),
    }
    return {name: value for name, value in shown.items() if value}


def find_refusal(settings: Settings) -> Finding | None:
    """Tell why there is no bucket to examine; None where there is one."""
    if settings.store_kind == "s3":
        return None
    folder = settings.stores()[settings.store_name].directory
    if settings.s3_bucket_name:
        return failed(
            SETTINGS,
            f"STORAGE=local is set: pictures go to {folder}, and not to the bucket"
            f" {settings.s3_bucket_name} that S3_BUCKET_NAME names",
            cures.set_lines("Set this for the bucket to be used.", STORAGE="s3"),
        )
    return failed(
        SETTINGS,
        f"no bucket is set: pictures go to {folder}",
        cures.set_lines("Name the bucket.", STORAGE="s3", S3_BUCKET_NAME="<the bucket's name>"),
    )


def tell_notes(store: S3Store) -> Iterator[Finding]:
    """Tell what was read otherwise than it is set, and what of the machine is not followed."""
    for note in store.notes:
        yield advise(SETTINGS, note, find_lines(note))


def tell_store(settings: Settings) -> Finding:
    """Say which bucket is examined."""
    current = settings.stores()[settings.store_name]
    where = current.endpoint_url or f"AWS, {current.region}"
    return passed(SETTINGS, f"pictures go to the bucket {current.bucket_name} at {where}")


def explain_startup_error(err: StartupError) -> Finding:
    """Tell of settings with which no client can be made."""
    cause = err.__cause__
    if type(cause).__name__ == "ProfileNotFound":
        cure = Cure(
            "Unset AWS_PROFILE, or make the profile.", (Paste("shell", "unset AWS_PROFILE"),)
        )
        return failed(SETTINGS, str(err).rstrip("."), cure)
    return explain_refusal(str(err))
