"""A Chromium that shows one picture after the other, and gives the pixels that it shows.

A picture is handed over as bytes, so nothing is asked of any network. One that makes it hang costs
its own file only: the browser is ended and started again.
"""

import base64
import contextlib
import io
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Error, Page, Playwright, sync_playwright

from pictures.values import PICTURE_SIDE_PX
from tests.support.browser import SWITCHES

# A picture of 50 megapixels takes two or three.
MOST_SECONDS = 30.0
START_SECONDS = 30.0
_POLL_SECONDS = 0.05
# Without these colours depend on the machine's screen, and a large picture on its graphics card.
_DRAWING_SWITCHES = ["--headless=new", "--force-color-profile=srgb", "--remote-debugging-port=0"]
_PORT_FILE = "DevToolsActivePort"

_PAGE = "<!DOCTYPE html><title>Picture</title><body></body>"
# Shows a file as an <img>, turned as `image-orientation` has it by default, and draws its middle
# square at a given size; for 0 all whole pixels in which something of the square lies, as they are.
# What is clear stays so.
_SHOW = """
async ([content, side]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes]));
    const picture = new Image();
    document.body.replaceChildren(picture);
    const isShown = await new Promise((resolve) => {
        picture.onload = () => resolve(true);
        picture.onerror = () => resolve(false);
        picture.src = url;
    });
    URL.revokeObjectURL(url);
    const width = picture.naturalWidth, height = picture.naturalHeight;
    const shorter = Math.min(width, height);
    if (!isShown || !shorter)
        return null;
    const left = (width - shorter) / 2, top = (height - shorter) / 2;
    const size = [left, top].map((start) => side || shorter + Math.ceil(start % 1));
    const canvas = new OffscreenCanvas(...size);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    if (side)
        context.drawImage(picture, left, top, shorter, shorter, 0, 0, side, side);
    else
        context.drawImage(picture, -Math.floor(left), -Math.floor(top));
    const isWhole = await createImageBitmap(picture).then(() => true, () => false);
    const file = new FileReader();
    const isRead = new Promise((resolve) => { file.onload = resolve; });
    file.readAsDataURL(await canvas.convertToBlob({type: "image/png"}));
    await isRead;
    return [width, height, file.result.split(",")[1], isWhole];
}
"""


class ChromiumHangs(Exception):
    """The file took too long, or ended the browser."""


@dataclass
class Shown:
    """What the browser shows: the picture's upright sides, and its middle square as RGBA.

    Of an unscaled one the square lies between pixels where a longer side is not even with it. It
    `is_whole` where the browser has not given up while it decoded the picture.
    """

    width_px: int
    height_px: int
    square: Image.Image
    is_whole: bool


class Chromium:
    """The browser, which is started for the first picture."""

    def __init__(self, playwright: Playwright, most_seconds: float = MOST_SECONDS) -> None:
        self._playwright = playwright
        self.most_seconds = most_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._page: Page | None = None

    def show(self, content: bytes) -> Shown | None:
        """Show the file as large as we serve it; None where it is an error there.

        Raises ChromiumHangs.
        """
        return self._show(content, PICTURE_SIDE_PX)

    def show_unscaled(self, content: bytes) -> Shown | None:
        """Show the file's middle square in its own pixels. Raises ChromiumHangs."""
        return self._show(content, 0)

    def close(self) -> None:
        """End the browser, if it runs."""
        if self._process is not None:
            _kill(self._process)
            self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = None
        self._folder = None
        self._page = None

    def _show(self, content: bytes, side_px: int) -> Shown | None:
        page = self._page or self._start()
        assert self._process is not None
        # Playwright waits for a script however long it takes; a browser that ended ends the wait.
        watch = threading.Timer(self.most_seconds, _kill, [self._process])
        watch.start()
        try:
            answer: list[Any] | None = page.evaluate(
                _SHOW, [base64.b64encode(content).decode(), side_px]
            )
        except Error as err:
            self.close()
            raise ChromiumHangs from err
        finally:
            watch.cancel()
        if answer is None:
            return None
        width_px, height_px, png, is_whole = answer
        square = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
        return Shown(width_px, height_px, square, is_whole)

    def _start(self) -> Page:
        chromium = shutil.which("chromium")
        if chromium is None:
            raise FileNotFoundError("There is no chromium (Debian: apt-get install chromium).")
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        port_file = Path(self._folder.name, _PORT_FILE)
        self._process = subprocess.Popen(
            [
                *(chromium, *SWITCHES, *_DRAWING_SWITCHES),
                *(f"--user-data-dir={self._folder.name}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that all its processes are ended at once
        )
        deadline = time.monotonic() + START_SECONDS
        while not (port_file.exists() and port_file.read_text().strip()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.close()
                raise TimeoutError("Chromium did not start.")
            time.sleep(_POLL_SECONDS)
        port = port_file.read_text().split()[0]
        connected: Browser = self._playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port}")
        self._page = connected.contexts[0].new_page()
        self._page.set_content(_PAGE)
        return self._page


@contextlib.contextmanager
def open_chromium(most_seconds: float = MOST_SECONDS) -> Iterator[Chromium]:
    """Have a browser until the end of the block; its loop runs, so nothing in it may need asyncio.

    Raises FileNotFoundError at the first picture where there is no chromium.
    """
    with sync_playwright() as playwright:
        chromium = Chromium(playwright, most_seconds)
        try:
            yield chromium
        finally:
            chromium.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
