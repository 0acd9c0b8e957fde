"""What a name may be: everything that people write, and nothing that shows nothing."""

import pytest

from credentials import check_new_name, fold_name, normalize_name

ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
GOOD = {
    "two scripts": "Łukasz 李小龍",
    "two alphabets, a word each": "Анна Anna",
    "composed": "José",
    "decomposed": "Jose\u0301",
    "two accents": "Nguye\u0302\u0303n",
    "vowel points": "שָׁלוֹם",
    "Hangul": "김철수",
    "Thai": "สวัสดี",
    "Persian with a non-joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi with a joiner": "क्\u200dष",
    "Bengali with a joiner before a mark": "র\u200d্য",
    "Sinhala with a joiner": "ශ්\u200dරී",
    "Mongolian with a selector": "ᠠ\u180b",
    "Han with a selector": "葛\U000e0100城",
    "an emoji": "😀",
    "an emoji of Unicode 15": "\U0001fae8",
    "an emoji of Unicode 17": "\U0001faea",
    "a place kept for an emoji": "\U0001faff",
    "an emoji with a colour of skin": "👍🏽",
    "a family": "👨\u200d👩\u200d👧\u200d👦",
    "an astronaut": "👩🏽\u200d🚀",
    "a heart": "❤\ufe0f",
    "a heart on fire": "❤\ufe0f\u200d🔥",
    "a rainbow flag": "🏳\ufe0f\u200d🌈",
    "a flag of two letters": "🇩🇪",
    "a flag of tags": ENGLAND,
    "a key": "1\ufe0f\u20e3",
    "marks of punctuation": "o'neil; DROP TABLE users;--",
    "a star": "★",
    "a digit": "7",
}
BAD = {
    "a zero-width space": "zero\u200bwidth",
    "a word joiner": "a\u2060b",
    "a byte order mark": "\ufeffann",
    "a soft hyphen": "an\u00adn",
    "a grapheme joiner": "a\u034fb",
    "a filler of Hangul": "\u3164",
    "a filler behind a name": "ann\u115f",
    "a half-width filler": "\uffa0",
    "an inherent vowel": "\u17b4",
    "a Mongolian separator": "a\u180eb",
    "Braille's blank": "ann\u2800",
    "a null notehead": "\U0001d159",
    "a joiner alone": "\u200d",
    "a joiner at the end": "ann\u200d",
    "a non-joiner at the beginning": "\u200cann",
    "two joiners": "a\u200d\u200db",
    "a joiner between digits": "1\u200d2",
    "a joiner beside a space": "a \u200db",
    "a selector alone": "\ufe0f",
    "two selectors": "a\ufe0f\ufe0f",
    "a selector at the beginning": "\U000e0100a",
    "tags without a flag": "x\U000e0067\U000e007f",
    "tags without an end": "\U0001f3f4\U000e0067",
    "a mark of direction": "ann\u200e",
    "an Arabic mark of direction": "\u061cann",
    "an override of direction": "turned\u202eround",
    "an isolate": "\u2066ann\u2069",
    "a shaping control": "a\u206ab",
    "an annotation": "\ufff9ann",
    "private use": "\ue000",
    "private use of plane 16": "\U0010fffd",
    "no character": "ann\uffff",
    "unassigned": "ann\u0378",
    "a line separator": "ann\u2028lee",
    "a paragraph separator": "ann\u2029lee",
    "a control": "nul\x00",
    "an accent alone": "\u0301",
    "two accents alone": "\u0301\u0302",
    "an accent behind a space": "ann \u0301b",
    "piled accents": "a" + "\u0301" * 5,
    "Cyrillic among Latin": "p\u0430ypal",
    "Greek among Latin": "\u03b1lice",
    "Latin among Cyrillic": "Анн\u0061",
    "spaces": " \u00a0\u3000",
}
ALIKE = {
    "a non-joiner": ("alice", "ali\u200cce"),
    "a joiner": ("alice", "ALI\u200dCE"),
    "a selector": ("❤\ufe0f", "❤"),
    "a selector of Han": ("葛城", "葛\U000e0100城"),
    "two spaces": ("Ann Lee", "ann  lee"),
    "a no-break space": ("Ann Lee", "ann\u00a0lee"),
    "an ideographic space": ("李 小龍", "李\u3000小龍"),
    "spaces around": ("Ann Lee", " ann lee\u2003"),
    "compatibility": ("fiona", "ﬁona"),
    "case": ("straße", "STRASSE"),
}


@pytest.mark.parametrize("name", GOOD.values(), ids=list(GOOD))
def test_what_people_write_is_taken_as_it_is(name: str) -> None:
    assert normalize_name(name) == name
    assert check_new_name(name) == name


@pytest.mark.parametrize("name", BAD.values(), ids=list(BAD))
def test_what_shows_nothing_or_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^(A name|A word of a name|Please) .*\.$"):
        check_new_name(normalize_name(name))


@pytest.mark.parametrize(("one", "other"), ALIKE.values(), ids=list(ALIKE))
def test_names_that_show_alike_are_the_same(one: str, other: str) -> None:
    assert fold_name(normalize_name(one)) == fold_name(normalize_name(other))


def test_spaces_of_any_width_become_one() -> None:
    assert normalize_name("\u3000Ann \u00a0 Lee\t") == "Ann Lee"
