"""Which passwords are too weak: short ones, those made from the name, and those that are easy to guess.

How easy is estimated from patterns (as zxcvbn does, Wheeler 2016, "zxcvbn: Low-Budget Password Strength Estimation"):
a password is cut into the parts that are cheapest to guess, and their costs in bits are added up. Which words there are
comes from that project's lists: 30,000 passwords that were stolen most often, and the words of English texts and films
and the names that people make others of. Its scores are not used. Source of the rules: OWASP ASVS 5.0, section 6.2: at
least 8 characters, at least 64 allowed, any character, no rules of composition, and none of the commonest.
"""

from __future__ import annotations

from functools import cache
from math import log2

SHORTEST, LONGEST = 10, 256
ENOUGH = 38.0  # bits

# Words of this application and its field, which people who use it think of first (docs/security.md).
CONTEXT = (
    "heed heedlm rlhf feedback reward policy model annotate annotator annotation label labels owner manager".split()
)
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "`1234567890-=",
    "~!@#$%^&*()_+",
    "qwertyuiop[]",
    "qwertzuiop",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
    "qazwsxedcrfvtgbyhnujmikolp",
    "zaqxswcdevfrbgtnhymjukilop",
    "zaq1xsw2cde3vfr4bgt5nhy6mju7",
    "zaq12wsxcde34rfv",
    "q2w3e4r5t6y7u8i9o0",
    "1a2b3c4d5e6f7g8h9i",
    "a1b2c3d4e5f6g7h8i9",
    "a1s2d3f4g5h6j7k8l9",
    "147258369",
    "741852963",
    "123698745",
    "789456123",
    "159753",
    "13579",
    "24680",
)
_RUNS = [row for text in _ROWS for row in (text, text[::-1])]
_LEET = [str.maketrans("0134578@$!", each) for each in ("oleastbasi", "oieastbasi")]
_SHORTEST_WORD = 4  # shorter ones are on the lists too, and in anything random
_WORD_BITS, _RUN_BITS, _AGAIN_BITS, _YEAR_BITS, _LEET_BITS = 10.0, 5.0, 2.0, 6.0, 1.5


def why_weak(password: str, name: str) -> str | None:
    """Why a password is not taken, in a few words; None if it is."""
    if len(password) < SHORTEST:
        return f"must have at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"must have at most {LONGEST} characters"
    plain, own = password.casefold(), name.casefold()
    if len(own) >= 3 and own in plain and len(plain) - len(own) < 6:
        return "must not be the name with little added"
    if bits(plain, [own] if len(own) >= 3 else []) < ENOUGH:
        return "is easy to guess (common words, names, years, runs of keys): a few unrelated words make a good one"
    return None


def bits(text: str, known: list[str] | None = None) -> float:
    """How hard a text is to guess, in bits: the least that any way of cutting it into parts costs.

    Args:
        text: The text, case-folded.
        known: Words that whoever guesses knows of, such as the person's name.
    """
    near = {*CONTEXT, *(known or [])}
    forms = [text, *(text.translate(table) for table in _LEET)]
    best = [0.0]
    for end in range(1, len(text) + 1):
        costs = [best[end - 1] + _alone(text[end - 1])]
        for start in range(max(0, end - 40), end - 1):
            part = text[start:end]
            for form in forms:
                word = form[start:end]
                if word in near or word in listed():
                    cost = _WORD_BITS if word in near else max(_WORD_BITS, log2(listed()[word]))
                    costs.append(best[start] + cost + (0.0 if word == part else _LEET_BITS))
            if len(part) >= 3 and any(part in run for run in _RUNS):
                costs.append(best[start] + _RUN_BITS)
            if len(part) == 4 and part[:2] in ("19", "20") and part.isascii() and part.isdigit():
                costs.append(best[start] + _YEAR_BITS)
            if part == text[max(0, start - len(part)) : start]:
                costs.append(best[start] + _AGAIN_BITS)
        if end > 1 and text[end - 1] == text[end - 2]:
            costs.append(best[end - 1] + _AGAIN_BITS / 2)
        best.append(min(costs))
    return best[-1]


@cache
def listed() -> dict[str, int]:
    """The words of four letters and more that are tried first, each with its place on the list where it is foremost.

    About 94,000, read at the first password that is set: the file is part of the package `zxcvbn`.
    """
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # type: ignore[import-untyped]

    places: dict[str, int] = {}
    for words in FREQUENCY_LISTS.values():
        for place, word in enumerate(words, 1):
            if len(word) >= _SHORTEST_WORD:
                places[word] = min(place, places.get(word, place))
    return places


def _alone(character: str) -> float:
    """Bits of a character that belongs to no pattern."""
    if character.isascii():
        return 3.3 if character.isdigit() else 4.7 if character.isalpha() else 5.0
    return 8.0


__all__ = ["CONTEXT", "ENOUGH", "LONGEST", "SHORTEST", "bits", "listed", "why_weak"]
