"""Which passwords are too weak: short ones, those made from the name, and those that are easy to guess.

How easy is estimated from patterns (as zxcvbn does, Wheeler 2016, "zxcvbn: Low-Budget Password Strength Estimation"):
a password is cut into the parts that are cheapest to guess, and their costs in bits are added up. The list of words
is short; it is no list of passwords that were stolen. Source of the rules: OWASP ASVS 5.0, section 6.2: at least 8
characters, at least 64 allowed, any character, no rules of composition, and none of the commonest.
"""

from __future__ import annotations

SHORTEST, LONGEST = 10, 256
ENOUGH = 38.0  # bits

# Words of this application and its field, which people who use it think of first (docs/security.md).
CONTEXT = (
    "heed heedlm rlhf feedback reward policy model annotate annotator annotation label labels owner manager".split()
)
WORDS = """
aaron abc abcd access account action adam adidas admin administrator adrian afrika alex alexander alexandra alice
amanda america american amor andre andrea andrew angel angela angelina angels animal anthony apple april arsenal asd
asdf ashley asshole august austin autumn avatar azerty babe baby babygirl backup bailey banana barbie barcelona
baseball basketball batman beach bear beautiful beauty beer bella berlin best bienvenue bigdaddy bird birthday bitch
black blessed blink blood blue bond bonjour boston boy brandon brasil brazil brian brother bubbles buddy bull business
buster butter butterfly cameron canada candy captain cash casper catherine center champion change changeme charles
charlie charlotte cheese chelsea cherry chester chicago chicken china chocolate chouchou chris christian christina
christopher cinderella classic claudia coffee college company compaq computer connect contrasena control cookie cool
cooper corvette country cowboy crazy cream cristiano cristina crystal daddy dakota dallas daniel danielle darkness
dave david death default demo denise dennis destiny devil diamond dick digital dog dolphin dolphins doudou dragon
dream dreams eagle earth east edward elephant elizabeth emily eminem emma enter eric estrella falcon family fashion
february felix fender ferrari fire fish flamengo florida flower flowers fluffy flying football ford forever france
frank freddy free freedom friday friend friends fuck fucking fuckyou fussball futbol galaxy game gamer games garden
garfield gemini general genius george german germany ghost giants ginger girl girls gizmo global goddess gold golden
golf good google gordon grace grandma great green guest guitar hacker hahaha hallo hammer hannah happiness happy
hardcore harley heart heather heaven hello hellokitty help henry hero hockey holiday home honda honey hope horses
hotmail hottie house hunter iceman iloveu iloveyou india inter internet ireland isabella jack jackson jacob jaguar
jamaica james january jasmine jason jennifer jeremy jerusalem jesse jessica jesus john johnny jonathan jordan joseph
joshua juice july june junior justice justin karate kevin killer king kings kitten kitty knight ladybug laura lauren
legend leonardo letmein liberty life light lights liverpool local login london lonely lord love lovely loveme lover
lucky lucy maddog maggie magic manchester manutd marcus maria marina mario mark marlboro marshall martin master matrix
matthew maverick max maximus maxwell mercedes merlin metallica mexico michael michelle mickey midnight mike miller
million mine minecraft mistress mobile mom money monica monkey monster montana moon morgan motdepasse mother mountain
mouse movie murphy music mustang my mypassword myspace naruto nascar natalie natasha nature network newyork next
nicholas nick nicole nihao nintendo nirvana nissan no nopassword nothing november number october office oliver olivia
one online oracle orange pacific panther paradise paris parker party pass passion passw0rd passwd password passwort
patricia patrick peace peaches peanut pepper perfect peter phantom phoenix phone pierre pink pirate playboy player
please pokemon police porsche power precious premium president prince princesa princess private project public pumpkin
purple pussy queen qwe qwer qwert qwerty qwertz rabbit rachel racing raiders rainbow ranger rangers raymond real
realmadrid rebecca red remember richard rick robert rock rocket rocknroll rocky roman romance ronaldo root rose
rosebud roses russia ryan samantha samsung samuel sandra santa sarah saturn scarface schatz school scooby scorpion
scott secret security senha september server service sexy shadow shannon shit silver simple simpsons single sister
skate skater slipknot smile smokey snoopy snow snowball soccer soleil sommer sophie spain spider spiderman spirit
sporting spring stanley star start starwars stephanie steven strawberry student success sugar summer summertime sunday
sunflower sunshine super superman superstar support susan suzuki sweet sweetheart sweetie sweetpea swimming
switzerland sydney sysadmin system taylor teacher teamo techno teddy temp temporary tequiero teresa test tester
testing thailand the theman thomas thunder tiffany tiger tigger time tinkerbell tomcat toyota travel trinity trust
trustno turtle twilight twitter united universe user vacation valentina vampire vanessa vegas veronica victor victoria
victory video viking village vincent violet virginia vision volleyball wang wangyang warcraft warrior water welcome
west what whatever white william williams willow wilson windows winner winston winter wizard woaini wolf wolverine
woman wonder world xavier xbox yahoo yamaha yankees yellow yes you young your yourself yvonne zhang zombie zxc zxcv
zxcvbn
""".split()
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
    words = {*WORDS, *CONTEXT, *(known or [])}
    forms = [text, *(text.translate(table) for table in _LEET)]
    best = [0.0]
    for end in range(1, len(text) + 1):
        costs = [best[end - 1] + _alone(text[end - 1])]
        for start in range(max(0, end - 40), end - 1):
            part = text[start:end]
            if part in words:
                costs.append(best[start] + _WORD_BITS)
            elif any(form[start:end] in words for form in forms):
                costs.append(best[start] + _WORD_BITS + _LEET_BITS)
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


def _alone(character: str) -> float:
    """Bits of a character that belongs to no pattern."""
    if character.isascii():
        return 3.3 if character.isdigit() else 4.7 if character.isalpha() else 5.0
    return 8.0


__all__ = ["CONTEXT", "ENOUGH", "LONGEST", "SHORTEST", "WORDS", "bits", "why_weak"]
