"""Proves that the service loads no decoding library, and that only the image step changes one."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.launched import launched
from tests.support.pictures import jpeg
from tests.support.services import ROOT, get

DECODING = {"PIL", "pillow_heif", "thumbhash", "image_utils"}
# What Pillow has only one of in a process: the simple values of its modules, what its registries
# hold, and what its classes can do. All modules that the image step needs are loaded before.
TELL_CHANGES = """
import json, sys
import errors
import pillow_heif, pillow_heif.as_plugin, pillow_heif.options
from PIL import AvifImagePlugin, GifImagePlugin, Image, ImageCms, ImageFile, JpegImagePlugin
from PIL import PngImagePlugin, TiffImagePlugin, WebPImagePlugin

modules = {name: module for name, module in sys.modules.items()
           if name.partition(".")[0] in ("PIL", "pillow_heif")}

def look():
    seen = {}
    for module_name, module in modules.items():
        for name, value in vars(module).items():
            if isinstance(value, type):
                for attribute, member in vars(value).items():
                    seen[f"{module_name}.{name}.{attribute}"] = id(member)
            elif isinstance(value, (dict, list, set, tuple, str, int, float, type(None))):
                seen[f"{module_name}.{name}"] = repr(value)
    return seen

def tell(before, after):
    return sorted({name.removeprefix("PIL.") for name in before.keys() | after.keys()
                   if before.get(name) != after.get(name)})

first = look()
import image_utils
second = look()
try:
    image_utils.process_profile_image(b"no picture")
except errors.NotAPicture:
    third = look()
try:
    image_utils.process_profile_image(b"no picture")
except errors.NotAPicture:
    pass
print(json.dumps([tell(first, second), tell(second, third), tell(third, look())]))
"""


def run(program: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_only_the_first_call_of_the_image_step_changes_what_is_pillows() -> None:
    by_import, by_call, by_another_call = run(TELL_CHANGES)
    assert by_import == []
    changed = {name.rpartition(".")[2] for name in by_call}
    assert {"MAX_IMAGE_PIXELS", "MAX_TEXT_MEMORY", "DECODE_THREADS", "chunk_tEXt"} <= changed
    assert by_another_call == []


def test_a_service_that_has_made_a_picture_has_loaded_no_decoding_library(
    new_database: Callable[[], str], store_settings: dict[str, str], tmp_path: Path
) -> None:
    data = {"DATABASE_URL": new_database(), "DATA_DIR": str(tmp_path / "data")}
    service = launched({**data, **store_settings})
    service.command = ["env", *service.command]  # anew: the tests' warm process has loaded them
    service.start()
    try:
        alice = service.register("alice")
        assert service.patch_picture(alice, jpeg()).status_code == 200
        loaded = set(get(f"{service.url}/test/modules").json())
    finally:
        service.stop()
    assert {"main", "pictures", "sqlalchemy"} <= loaded
    assert not loaded & DECODING
