"""Where settings and data are looked for: beside main.py, and in the working directory.

The one beside main.py is there from wherever a service is started, and so nothing that counts for
it may depend on the working directory in silence.
"""

import os
from pathlib import Path

from errors import StartupError

ROOT = Path(__file__).parent
# Names the one file of settings, in place of the two that are looked for; empty, there is none.
ENV_FILE_VARIABLE = "DARKROOM_ENV_FILE"
DATA_FOLDER = ".data"


def count_from_root(path: Path) -> Path:
    """Make a path absolute; a relative one counts from main.py's folder. Raises ValueError."""
    try:
        return (ROOT / path.expanduser()).resolve()
    except RuntimeError as err:  # nobody's home is known by this name
        raise ValueError("must be a whole path, for ~ leads nowhere here") from err


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
