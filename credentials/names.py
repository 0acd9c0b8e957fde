"""What a name may be: it shows something, and nothing that shows as another's name.

Unicode's own properties decide, as the library regex knows them: it is younger than Python's table,
in which the emoji of the last years are unassigned. Letters of one script that look like those of
another are told apart only where one word mixes them.
"""

import unicodedata

import regex

_SPACES = regex.compile(r"\p{Zs}+")
_CONTROLS = regex.compile(r"[\p{Cc}\p{Cs}]")
_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")

# What shows nothing by itself, and changes what is beside it: joiners within a word or an emoji
# (in some scripts before a mark), the choice of a glyph, and the flags of regions.
_EMOJI = r"\p{Extended_Pictographic}\p{Emoji_Modifier}"
_USEFUL = regex.compile(
    rf"(?<=[\p{{L}}\p{{M}}{_EMOJI}])[\u200c\u200d](?=[\p{{L}}\p{{M}}{_EMOJI}])"
    r"|(?<=[\p{L}\p{N}\p{P}\p{S}])\p{Variation_Selector}"
    r"|(?<=\U0001f3f4)[\U000e0020-\U000e007e]+\U000e007f"
)
# An emoji that is newer than the table has a place among the pictures already.
_UNASSIGNED = r"[\p{Cn}--\p{Extended_Pictographic}]"
_INVISIBLE = regex.compile(
    r"[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}]"
    rf"|{_UNASSIGNED}",
    regex.VERSION1,
)
# Letters and symbols whose glyph is blank (as the code charts say; there is no property for it):
# Braille's, a musical one, those of hieroglyphs, and Khitan's filler.
_BLANKS = regex.compile("[\u2800\U0001d159\U00013441\U00013442\U00016fe4]")
_VISIBLE = regex.compile(
    r"[\p{L}\p{N}\p{P}\p{S}]|" + _UNASSIGNED.replace("--", "&&"), regex.VERSION1
)
_LOOSE_MARK = regex.compile(r"(?:^| )\p{M}")
# More than any language stacks: they cover the lines above and below (UTS 39, 5.4).
_PILED_MARKS = regex.compile(r"[\p{Mn}\p{Me}]{5}")
_WORD = regex.compile(r"[\p{L}\p{M}]+")
# The scripts whose letters look alike (the "moderately restrictive" level of UTS 39 keeps them
# apart as well).
_ALIKE = [regex.compile(rf"\p{{Script={name}}}") for name in ("Latin", "Greek", "Cyrillic")]


def fold(name: str) -> str:
    """The form in which names are compared: compatibility-normalised and case-folded.

    It is what Unicode's chapter 3.13 says; of names `fold_name` takes away what shows nothing.
    Done here and not by lower() in the database, whose idea of case depends on the locale it was
    made with.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def normalize_name(name: str) -> str:
    """The one way to write a name. Raises ValueError with a sentence for who sent it."""
    name = _SPACES.sub(" ", name.strip())
    if not name:
        raise ValueError("Please enter a name.")
    if _CONTROLS.search(name):
        raise ValueError("A name may not hold control or invisible characters.")
    return name


def fold_name(name: str) -> str:
    """The form in which names are compared: what shows alike, but for its case, is the same.

    It is Unicode's NFKC_Casefold, which ignores what shows nothing.
    """
    return fold(_IGNORABLE.sub("", fold(name)))


def check_new_name(name: str) -> str:
    """Return a normalized name, or raise ValueError. A name of old may be kept."""
    # Whoever logs in with what has an @ means an address.
    if "@" in fold(name):
        raise ValueError("A name may not hold an @: it would look like an e-mail address.")
    shown = _USEFUL.sub("", name)
    if _INVISIBLE.search(shown) or _BLANKS.search(shown):
        raise ValueError("A name may not hold control or invisible characters.")
    if not _VISIBLE.search(shown) or _LOOSE_MARK.search(shown):
        raise ValueError("A name may not begin a word with an accent that has no letter.")
    if _PILED_MARKS.search(shown):
        raise ValueError("A name may not pile accents on one letter.")
    for word in _WORD.findall(shown):
        if sum(script.search(word) is not None for script in _ALIKE) > 1:
            raise ValueError(
                "A word of a name may not mix Latin, Greek and Cyrillic letters, which look alike."
            )
    return name
