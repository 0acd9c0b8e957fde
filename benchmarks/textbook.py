"""The handler that most tutorials teach, to compare with.

`scripts/dev python -m benchmarks.textbook --port N --folder DIR` serves it.

Decode whole, turn upright, fit, save; the upload is read into memory as one piece and handled in
one of the 40 threads that the framework has. No account and no database are around it, which is in
its favour.
"""

import argparse
import io
import resource
import uuid
from pathlib import Path

import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image, ImageOps
from starlette.concurrency import run_in_threadpool

SIDE_PX = 300
JPEG_QUALITY = 85
# 32 pictures of 48 megapixels at once take some 7.5 GB: enough for them, and no danger to a machine
# of 16.
MOST_ADDRESS_SPACE_BYTES = 12_000_000_000


def textbook_image(content: bytes) -> bytes:
    """A 300 x 300 JPEG of the centre square, by way of the whole picture at its full size."""
    with Image.open(io.BytesIO(content)) as original:
        upright = ImageOps.exif_transpose(original)
        square = ImageOps.fit(upright, (SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
        if square.mode != "RGB":
            square = square.convert("RGB")
        out = io.BytesIO()
        square.save(out, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return out.getvalue()


def application(folder: Path) -> FastAPI:
    """The service around it, which keeps its pictures in `folder`."""
    app = FastAPI()

    @app.get("/health/live")
    @app.get("/health/ready")
    async def read_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.patch("/users/{user_id}/picture")
    async def replace_picture(user_id: int, file: UploadFile) -> dict[str, str]:
        content = await file.read()
        return {"image_file": await run_in_threadpool(_keep, folder, content)}

    return app


def _keep(folder: Path, content: bytes) -> str:
    name = f"{uuid.uuid4().hex}.jpg"
    (folder / name).write_bytes(textbook_image(content))
    return name


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE_BYTES, MOST_ADDRESS_SPACE_BYTES))
    uvicorn.run(application(options.folder), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
