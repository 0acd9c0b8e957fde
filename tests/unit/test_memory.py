"""Proves that an upload's bytes end with their reservation, without the garbage collector."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from functools import partial

import pytest
from fastapi import Request
from starlette.types import Message

from config import Settings
from errors import BrokenPicture, MalformedForm
from files.streams import STREAM_BYTES
from pictures.costs import Cost
from pictures.slots import PictureSlots
from tests.support.services import BOUNDARY, form, part
from web import forms
from web.admission import Admission


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Content:
    """What a picture step is given; bytes themselves cannot be watched."""


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "cut short"])
def test_the_reader_of_a_form_lets_go_of_the_file(
    uncollected: None, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    readers: list[weakref.ref[object]] = []

    class Watched(forms.PictureFormReader):
        def __init__(self, content_type: str, max_file_bytes: int) -> None:
            super().__init__(content_type, max_file_bytes)
            readers.append(weakref.ref(self))

    monkeypatch.setattr(forms, "PictureFormReader", Watched)
    body = form(part(b"x" * 100_000))[: None if is_whole else -20]

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def read() -> int:
        content_type = f"multipart/form-data; boundary={BOUNDARY}".encode()
        scope = {"type": "http", "headers": [(b"content-type", content_type)]}
        settings = Settings()
        admission = Admission.from_settings(settings, STREAM_BYTES)
        request = Request(scope, receive)
        async with forms.admit_picture_form(request, admission, settings, 1, None) as read_form:
            return len(read_form.content)

    async def read_and_look() -> None:
        try:
            assert await read() == 100_000
        except MalformedForm:
            assert not is_whole
        assert [reader() for reader in readers] == [None]

    asyncio.run(read_and_look())


def test_a_refused_picture_is_let_go_of_with_its_refusal(uncollected: None) -> None:
    slots = PictureSlots(1, 0, wait_seconds=1)
    given: list[weakref.ref[Content]] = []

    def refuse(content: Content) -> None:
        decoder = [content]
        try:
            raise ValueError("a file that no decoder likes", id(decoder))
        except ValueError as err:
            raise BrokenPicture from err

    async def send() -> None:
        content = Content()
        given.append(weakref.ref(content))
        work = slots.run(Cost(0, 0), partial(refuse, content))
        del content
        await work

    async def send_and_look() -> None:
        try:
            await send()
        except BrokenPicture:
            pass
        else:
            pytest.fail("it was not refused")
        for _ in range(200):  # its thread lets go of it a moment after it has answered
            await asyncio.sleep(0.01)
            if given[0]() is None:
                return
        pytest.fail("the bytes wait for the garbage collector")

    asyncio.run(send_and_look())
