"""The doctor says what answered in the place of a store, as far as that shows it."""

import pytest

from doctor.case import Answer
from doctor.pages import describe_page

PAGE = {"content-type": "text/html"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html><title>\n Sign in</title>", "it answered 403, a page with the title 'Sign in'"),
        (b"<p>Hello", "it answered 403, a page that begins with '<p>Hello'"),
        (b" \n", "it answered 403"),
        (b"", "it answered 403"),
    ],
)
def test_a_page_is_told_by_its_title_or_its_beginning_where_it_has_one(
    content: bytes, said: str
) -> None:
    assert describe_page(Answer("http://127.0.0.1/", 403, PAGE, content)) == said
