"""The service with other constants, pictures that can be held, and pages on what it holds.

`python -m tests.support.program` serves what TEST_PROGRAM describes, as main.py or as uvicorn does
it. While a file named `hold` lies in the working directory no picture is decoded; `/test/held`
tells what this process holds, `/test/renders` how often it has rendered, `/test/modules` which
packages it has loaded.
"""

import importlib
import io
import json
import os
import runpy
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import main
from ops import serving
from pictures.pool import DecoderPool

VARIABLE = "TEST_PROGRAM"


def serve() -> None:
    given = json.loads(os.environ[VARIABLE])
    for name, value in given["constants"].items():
        set_constant(name, value)
    watch()
    if given["by"] == "main.py":
        serving.serve(main.app)
    else:
        sys.argv[:1] = ["uvicorn", "main:app"]
        runpy.run_module("uvicorn", run_name="__main__")


def set_constant(dotted: str, value: object) -> None:
    """Set `module.NAME`, which must be there."""
    module, _, name = dotted.rpartition(".")
    found = importlib.import_module(module)
    assert hasattr(found, name), dotted
    setattr(found, name, value)


def watch() -> None:
    bodies: weakref.WeakSet[io.BytesIO] = weakref.WeakSet()
    decoding: list[int] = []
    renders: list[int] = []

    class Body(io.BytesIO):
        def __init__(self) -> None:
            bodies.add(self)

    decode = DecoderPool.process_profile_image
    render = DecoderPool.make_renditions

    def decode_unless_held(*arguments: Any) -> Any:
        decoding.append(1)
        while Path("hold").exists():
            time.sleep(0.01)
        decoding.pop()
        return decode(*arguments)

    def render_unless_held(*arguments: Any) -> Any:
        renders.append(1)
        while Path("hold").exists():
            time.sleep(0.01)
        return render(*arguments)

    set_constant("web.forms.BytesIO", Body)
    setattr(DecoderPool, "process_profile_image", decode_unless_held)  # noqa: B010
    setattr(DecoderPool, "make_renditions", render_unless_held)  # noqa: B010

    @main.app.get("/test/held")
    async def read_held() -> dict[str, int]:
        state = main.app.state
        return {
            "reserved": state.admission.reserved_bytes,
            "waiting": state.admission.waiting,
            "read": sum(body.tell() for body in bodies),
            "decoding": len(decoding),
            "unfinished": len(state.backends.tasks),
        }

    @main.app.get("/test/renders")
    async def count_renders() -> int:
        return len(renders)

    @main.app.get("/test/modules")
    async def read_modules() -> list[str]:
        return sorted({name.partition(".")[0] for name in sys.modules})


if __name__ == "__main__":
    serve()
