"""A real browser can use Darkroom: the page at /docs, uploads, refusals, other origins."""

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.browser import Browser, open_browser
from tests.support.pictures import corners, jpeg, phone_photo
from tests.support.services import ROOT, Account, Service, wait_until
from tests.support.web import WebPage, serve_pages

MB = 1_000_000
# Sends a form with a file of so many bytes, and returns all that a program would look at.
SEND_ZEROS = """
async ([url, size, token]) => {
    const form = new FormData();
    form.append("file", new Blob([new Uint8Array(size)]), "photo.jpg");
    const headers = token ? {Authorization: `Bearer ${token}`} : {};
    const answer = await fetch(url, {method: "PATCH", body: form, headers});
    const problem = await answer.json();
    return {status: answer.status, type: answer.headers.get("content-type"), code: problem.code,
            id: problem.request_id, header: answer.headers.get("x-request-id")};
}
"""

# Draws a picture, sends it, and returns the answer; or the error that a blocked request ends in.
SEND_DRAWING = """
async ([url, token]) => {
    const canvas = new OffscreenCanvas(400, 400), context = canvas.getContext("2d");
    context.fillStyle = "rgb(30, 180, 60)";
    context.fillRect(0, 0, 400, 400);
    const form = new FormData();
    form.append("file", await canvas.convertToBlob({type: "image/png"}), "drawing.png");
    try {
        const headers = {Authorization: `Bearer ${token}`};
        const answer = await fetch(url, {method: "PATCH", body: form, headers});
        const id = answer.headers.get("x-request-id");
        return {status: answer.status, body: await answer.json(), id};
    } catch (error) {
        return {error: error.name};
    }
}
"""

LOAD = """
(url) => new Promise((resolve) => {
    const picture = new Image();
    picture.onload = () => resolve([picture.naturalWidth, picture.naturalHeight]);
    picture.onerror = () => resolve(null);
    picture.src = url;
    document.body.append(picture);
})
"""


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser of the test's own; no other fixture may need asyncio after it."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Another origin, with one empty page."""
    empty = b"<!DOCTYPE html><title>Elsewhere</title><body></body>"
    with serve_pages(lambda path: WebPage(200, empty, "text/html")) as url:
        yield url


@pytest.fixture
def open_service(start_service: Callable[..., Service], elsewhere: str) -> Service:
    """A service that lets the other origin in."""
    return start_service(cors_origins=f"https://app.example.com, {elsewhere}")


def test_the_try_it_out_page_loads_all_it_needs_from_the_service(
    shared_service: Service, browser: Browser
) -> None:
    page = browser.page
    answer = page.goto(f"{shared_service.url}/", wait_until="networkidle")
    assert answer is not None and answer.status == 200 and page.url == f"{shared_service.url}/docs"
    for path in (
        "/users",
        "/users/token",
        "/users/{user_id}",
        "/users/{user_id}/picture",
        "/health/ready",
    ):
        expect(page.locator(f'.opblock-summary-path[data-path="{path}"]').first).to_be_visible()
    expect(page.locator(".opblock-patch")).to_have_count(3)
    page.locator(".opblock-patch", has_text="/picture").locator(".opblock-summary").click()
    expect(page.locator(".opblock-patch.is-open")).to_be_visible()
    assert browser.hosts == {f"{shared_service.host}:{shared_service.port}"}
    assert browser.complaints == []


def test_a_picture_is_sent_with_the_try_it_out_page(
    shared_service: Service, account: Account, tmp_path: Path, browser: Browser
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(phone_photo(1600, 1200))
    page = browser.page
    page.goto(f"{shared_service.url}/docs")

    page.locator("button.authorize").first.click()
    dialog = page.locator(".modal-ux")
    dialog.locator("#oauth_username").fill(account.email)
    dialog.locator("#oauth_password").fill(account.password)
    dialog.locator("button.authorize", has_text="Authorize").click()
    expect(dialog.get_by_role("heading", name="Authorized", exact=True)).to_be_visible()
    dialog.locator("button.btn-done").click()
    # The token is kept nowhere but in the page.
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert page.context.cookies() == []

    operation = page.locator(".opblock-patch", has_text="/picture")
    operation.locator(".opblock-summary").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator('input[placeholder="user_id"]').fill(str(account.id))
    with page.expect_file_chooser() as chooser:
        operation.locator('input[type="file"]').click()
    chooser.value.set_files(photo)
    operation.get_by_role("button", name="Execute").click()

    shown = operation.locator(".live-responses-table .response").first
    expect(shown.locator(".response-col_status")).to_contain_text("200")
    expect(shown.locator(".response-col_description")).to_contain_text("profile_pics/")
    assert browser.hosts == {f"{shared_service.host}:{shared_service.port}"}
    assert browser.complaints == []

    with shared_service.client(account) as client:
        path = client.get("/users/me").json()["image_path"]
    assert corners(shared_service.get_picture(path).content) == ["red", "green", "blue", "white"]


def test_a_browser_reads_early_refusals(
    shared_service: Service, account: Account, browser: Browser
) -> None:
    page = browser.page
    path = f"/users/{account.id}/picture"
    page.goto(f"{shared_service.url}/docs")
    cases: list[tuple[int, str | None, int, str]] = [
        (6 * MB, account.token, 413, "file_too_large"),
        (64 * MB, account.token, 413, "file_too_large"),
        (64 * MB, None, 401, "not_authenticated"),
        (1000, account.token, 400, "not_a_picture"),
    ]
    for size_bytes, token, status, code in cases:
        answer: dict[str, Any] = page.evaluate(SEND_ZEROS, [path, size_bytes, token])
        assert (answer["status"], answer["code"]) == (status, code)
        assert answer["type"] == "application/problem+json"
        assert answer["id"] and answer["id"] == answer["header"]
    sent = page.evaluate(SEND_DRAWING, [path, account.token])
    assert sent["status"] == 200


def test_a_picture_shows_in_a_page(
    shared_service: Service,
    account: Account,
    elsewhere: str,
    browser: Browser,
    request: pytest.FixtureRequest,
) -> None:
    path = shared_service.patch_picture(account, jpeg()).json()["image_path"]
    default = f"{shared_service.url}/static/profile_pics/default.jpg"
    url = shared_service.url + path if path.startswith("/") else path
    browser.page.goto(elsewhere)
    assert browser.page.evaluate(LOAD, url) == [300, 300]
    assert browser.page.evaluate(LOAD, default) == [300, 300]
    assert browser.page.evaluate(LOAD, url.replace("profile_pics/", "profile_pics/0")) is None
    if (
        request.config.getoption("--store") == "local"
    ):  # on one of the service's own pages its policy applies as well
        browser.page.goto(f"{shared_service.url}/docs")
        assert browser.page.evaluate(LOAD, path) == [300, 300]


def test_a_page_of_an_allowed_origin_sends_a_picture_and_reads_the_answer(
    open_service: Service, elsewhere: str, browser: Browser
) -> None:
    alice = open_service.register()
    url = f"{open_service.url}/users/{alice.id}/picture"
    browser.page.goto(elsewhere)
    sent = browser.page.evaluate(SEND_DRAWING, [url, alice.token])
    assert sent["status"] == 200 and sent["id"]
    path = sent["body"]["image_path"]
    assert corners(open_service.get_picture(path).content) == ["green"] * 4

    for size_bytes, token, status, code in (
        (1000, alice.token, 400, "not_a_picture"),
        (6 * MB, alice.token, 413, "file_too_large"),
        (6 * MB, "no token", 401, "invalid_token"),
    ):
        refused = browser.page.evaluate(SEND_ZEROS, [url, size_bytes, token])
        assert (refused["status"], refused["code"]) == (status, code)
        assert refused["id"] and refused["id"] == refused["header"]


def test_a_page_of_any_other_origin_is_blocked(
    shared_service: Service, account: Account, elsewhere: str, browser: Browser
) -> None:
    browser.page.goto(elsewhere)
    url = f"{shared_service.url}/users/{account.id}/picture"
    assert browser.page.evaluate(SEND_DRAWING, [url, account.token]) == {"error": "TypeError"}
    assert any("CORS" in complaint for complaint in browser.complaints)
    with shared_service.client(account) as client:
        assert client.get("/users/me").json()["image_file"] is None


# Asks the functions of docs/frontend.md for all that they promise.
TRY_THE_PAGE = """
async ([name, photo]) => {
    const bytes = Uint8Array.from(atob(photo), (character) => character.charCodeAt(0));
    const file = new File([bytes], "photo.jpg", {type: "image/jpeg"});
    const done = {};
    const email = `${name}@example.com`;
    const loadImage = (address) => new Promise((resolve, reject) => {
        const image = Object.assign(new Image(), {src: address, onerror: reject});
        image.onload = () => resolve(image);
    });
    const caught = (promise) => promise.then(() => null, (error) => error);

    const made = await register(name, email, "correct horse");
    const invalid = await caught(register("", email, "short"));
    done.invalid = explain(invalid).fields;
    done.taken = explain(await caught(register(name, "b@example.com", "correct horse"))).sentence;
    const login = await logIn(name, "correct horse");
    done.isOwn = login.user.id === made.id && login.expiresAt > Date.now();
    done.wrong = explain(await caught(logIn(email, "wrong horse"))).mustLogIn;

    const progress = [];
    const crop = {x: 0, y: 0, size: 300};
    const onProgress = (share) => progress.push(share);
    const user = await tryAgain(() => sendPicture(login.token, file, {crop, onProgress}));
    done.progress = progress.at(-1);
    const image = document.body.appendChild(new Image());
    const loaded = new Promise((resolve) => { image.onload = resolve; });
    showPicture(image, user);
    done.isPainted = image.style.background.startsWith("rgb") && image.width === 300;
    await loaded;
    done.isLoaded = image.naturalWidth === 300;

    const token = login.token;
    const controller = new AbortController();
    const {signal} = controller;
    const cancelled = caught(sendPicture(token, file, {signal}));
    controller.abort();
    done.cancelled = (await cancelled).name;
    done.late = (await caught(sendPicture(token, file, {signal}))).name;
    done.gone = (await caught(call("GET", "/users/me", {token, signal}))).name;
    const kept = await call("GET", "/users/me", {token});
    done.isKept = kept.image_path === user.image_path;
    done.isColourGone = image.style.background === "none";

    const text = new File(["This is no picture."], "photo.jpg");
    let tries = 0;
    const sendText = () => {
        tries += 1;
        return sendPicture(token, text);
    };
    const refused = await caught(tryAgain(sendText));
    done.refused = [explain(refused).sentence, refused.code, tries];
    const passing = {status: 503, code: "busy", detail: "Busy.", retryAfterSeconds: 0};
    tries = 0;
    done.tried = await tryAgain(async () => {
        tries += 1;
        if (tries < 3) throw Object.assign(new Error("busy"), passing);
        return tries;
    });

    const posted = await addPhoto(token, file, {caption: "A tree", alt: "A tree in the rain"});
    const hidden = await addPhoto(token, file, {visibility: "private"});
    const ids = [];
    for await (const {id} of listPhotos({token, userId: made.id, limit: 1})) ids.push(id);
    done.isListed = ids.join() === [hidden.id, posted.id].join();
    const first = (await listPhotos().next()).value;
    done.isPublic = first.id === posted.id && first.caption === "A tree";
    const shown = document.body.appendChild(new Image());
    const isShown = new Promise((resolve) => { shown.onload = resolve; });
    showPhoto(shown, posted);
    done.isSized = shown.width === posted.width && shown.alt === "A tree in the rain";
    await isShown;
    done.isPhotoLoaded = shown.naturalWidth === posted.width;
    const addresses = await findSizes(posted.id, ["96x96:cover", "480x"]);
    const square = await loadImage(addresses["96x96:cover"]);
    const wide = await loadImage(addresses["480x"]);
    done.sizes = [square.naturalWidth, square.naturalHeight, wide.naturalWidth];
    const hiddenSizes = await findSizes(hidden.id, ["90x"], {token});
    done.isHiddenShown = (await loadImage(hiddenSizes["90x"])).naturalWidth === 90;
    const single = await makeThumbnailOnly(token, file);
    const alone = await loadImage(single.url);
    done.single = [alone.naturalWidth, alone.naturalHeight];
    await deleteThumbnail(token, single.id);
    done.isSingleGone = (await fetch(single.url, {cache: "no-store"})).status > 400;
    const changed = await changePhoto(token, posted.id, {visibility: "private"});
    done.isKeptWords = changed.caption === "A tree";
    const gone = await fetch(new URL(posted.url, API), {cache: "no-store"});
    done.isHidden = gone.status > 400;
    const dressed = await usePhotoAsPicture(token, hidden.id);
    done.isDressed = dressed.image_path !== user.image_path;
    await deletePhoto(token, posted.id);
    done.deleted = (await caught(call("GET", `/photos/${posted.id}`, {token}))).code;
    await call("DELETE", "/users/me", {token});
    return done;
}
"""


def test_what_the_page_for_frontends_shows_works_from_another_origin(
    open_service: Service, elsewhere: str, browser: Browser
) -> None:
    page = (ROOT / "docs" / "frontend.md").read_text()
    sections = page.split("\n## fetch\n", 1)[1].split("\n## Pages that a server writes\n", 1)[0]
    blocks = re.findall(r"```js\n(.*?)```", sections, re.DOTALL)
    assert len(blocks) == 12
    script = "\n".join(blocks).replace("http://127.0.0.1:8000", open_service.url)
    browser.page.goto(elsewhere)
    browser.page.add_script_tag(content=script)
    photo = base64.b64encode(phone_photo(1200, 900)).decode()
    done = browser.page.evaluate(TRY_THE_PAGE, ["frontend", photo])
    assert done == {
        "invalid": {
            "username": "Please enter a name.",
            "password": "Please choose a password of at least 8 characters.",
        },
        "taken": "This name is taken. Please choose another.",
        **dict.fromkeys(
            ("isOwn", "wrong", "isPainted", "isLoaded", "isColourGone", "isKept"), True
        ),
        **dict.fromkeys(("isListed", "isPublic", "isSized", "isPhotoLoaded"), True),
        **dict.fromkeys(("isKeptWords", "isHidden", "isDressed"), True),
        "sizes": [96, 96, 480],
        "isHiddenShown": True,
        "single": [225, 300],
        "isSingleGone": True,
        "deleted": "photo_not_found",
        "progress": 1,
        **dict.fromkeys(("cancelled", "late", "gone"), "AbortError"),
        "refused": ["Das ist kein Bild.", "not_a_picture", 1],
        "tried": 3,
    }
    wait_until(lambda: open_service.objects() == {}, "nothing is left")
