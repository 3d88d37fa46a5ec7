"""Which passwords are too weak: short ones, common ones, and those made from the name.

Source: OWASP ASVS 5.0, 6.2: at least 8 characters, at least 64 allowed, any character, no rules of composition, and
none of the commonest.
"""

from __future__ import annotations

from itertools import pairwise

SHORTEST, LONGEST = 10, 256

_COMMON_STEMS = """
password passwort passw0rd p@ssword p@ssw0rd qwerty qwertz qwertyuiop azerty asdfgh asdfghjkl zxcvbnm letmein welcome
iloveyou woaini admin administrator root master dragon monkey sunshine princess football baseball superman batman
trustno1 shadow michael jennifer jordan harley ranger hunter buster soccer hockey killer george andrew charlie
thomas robert daniel hannah jessica starwars pokemon whatever freedom flower secret summer winter spring autumn
computer internet samsung google facebook changeme default guest login access hello test temp demo heed heedlm
nihao wangyang zhang chelsea liverpool arsenal barcelona realmadrid matrix mustang corvette mercedes ferrari
abc abcd abcde abcdef abcdefg abcdefgh abcdefghi abcdefghij a1b2c3 aa q1w2e3 q1w2e3r4 q1w2e3r4t5 1q2w3e 1q2w3e4r
1q2w3e4r5t zaq12wsx qazwsx qazwsxedc
""".split()
_ENDINGS = str.maketrans("", "", "0123456789!@#$%^&*().,?-_+= ")
_LEET = str.maketrans("013457@$!", "oleastasi")


def why_weak(password: str, name: str) -> str | None:
    """Why a password is not taken, in a few words; None if it is."""
    if len(password) < SHORTEST:
        return f"must have at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"must have at most {LONGEST} characters"
    plain = password.casefold()
    if len(set(plain)) < 5:
        return "must hold at least 5 different characters"
    if len(name) >= 3 and name.casefold() in plain and len(plain) - len(name) < 6:
        return "must not be the name with little added"
    if _is_common(plain):
        return "is among the commonest; a few unrelated words make a good one"
    return None


def _is_common(plain: str) -> bool:
    """A common word, however often, with digits and marks around it; or a run of neighbouring characters."""
    for text in (plain, plain.translate(_LEET)):
        core = text.translate(_ENDINGS)
        for stem in _COMMON_STEMS:
            bare = stem.translate(_ENDINGS)
            if text.strip("0123456789!.?") == stem or (len(bare) >= 4 and core and core.replace(bare, "") == ""):
                return True
    steps = {ord(after) - ord(before) for before, after in pairwise(plain)}
    digits = plain.isdigit()
    return steps <= {1} or steps <= {-1} or (digits and len(plain) < 14)
