"""Passwords that everybody tries first are not taken; long ones of unrelated words are, whatever they are made of."""

from math import log2

import pytest

from heedlm.feedback.passwords import CONTEXT, ENOUGH, LONGEST, SHORTEST, bits, listed, why_weak

# Of ten characters and more: seen again and again near the top of published lists, or the commonest patterns on them.
COMMON = """
1234567890 0123456789 0987654321 9876543210 12345678910 123456789a 123456789q 1234567891 123456789123 1234567899
1111111111 0000000000 1212121212 1231231231 123123123123 1122334455 11223344556 9999999999 5555555555 1010101010
1q2w3e4r5t 1q2w3e4r5t6y q1w2e3r4t5 q1w2e3r4t5y6 1qaz2wsx3edc 1qaz2wsx3edc4rfv zaq12wsxcde3 zaq1zaq1zaq1 qazwsxedcrfv
qwertyuiop qwertyuiop123 qwertyuiop[] qwerty123456 qwerty12345 qwerty1234 qwertyqwerty qwerty1234567 qweasdzxc123
asdfghjkl1 asdfghjkl123 asdfghjkl; asdfasdfasdf asdf1234asdf asdfqwer1234 zxcvbnm123 zxcvbnm,./ qweqweqwe1 asdasdasd1
qazwsx123456 poiuytrewq lkjhgfdsa1 mnbvcxz123 azertyuiop azerty12345 abcdefghij abcdefg123 abcd123456 abc123456789
abc1234567 a123456789 aa123456789 a1b2c3d4e5 a1b2c3d4e5f6 aaaaaaaaaa aaaaaaaaaa1 abcabcabc1 zzzzzzzzzz qq123456789
password12 password123 password1234 password12345 passwordpassword password01 password1! p@ssw0rd123 p@ssword123
passw0rd123 pa55word123 mypassword mypassword1 password2020 password2024 password!23 passwort123 motdepasse1 contrasena1
iloveyou12 iloveyou123 iloveyou1234 iloveyou22 iloveyou!! iloveyou2024 iloveyouforever loveyou123 loveme1234
princess12 princess123 princess1234 sunshine12 sunshine123 sunshine1234 football12 football123 baseball12 baseball123
basketball basketball1 basketball23 volleyball volleyball1 superman12 superman123 batman1234 spiderman1 spiderman123
michael123 michael1234 jennifer12 jessica123 michelle12 christopher christopher1 alexander1 alexander123 elizabeth1
elizabeth12 charlie123 daniel1234 andrew1234 jordan1234 jordan2323 nicholas12 stephanie1 samantha12 victoria12
liverpool1 liverpool123 manchester manchester1 manutd1234 arsenal123 chelsea123 barcelona1 barcelona123 realmadrid1
juventus123x chocolate1 chocolate12 strawberry strawberry1 butterfly1 butterfly12 tinkerbell tinkerbell1 cinderella
hellokitty hellokitty1 sweetheart sweetheart1 sunflower1 superstar1 babygirl12 babygirl123 beautiful1 beautiful12
welcome123 welcome1234 welcome2024 welcome2024! changeme123 letmein123 letmein1234 admin12345 admin123456
administrator administrator1 adminadmin root123456 rootroot123 test123456 testtest123 tester1234 default123 login12345
guest12345 user123456 secret1234 secret12345 master1234 dragon1234 monkey1234 shadow1234 hunter1234 killer1234
summer2023 summer2024! winter2023 winter2024! spring2024 autumn2024 january2024 february2024 sommer2024 qwerty2024
computer12 computer123 internet12 internet123 samsung123 google1234 facebook12x minecraft1 minecraft123 pokemon123
starwars12 starwars123 naruto1234 metallica1 mercedes12 ferrari123 trustno1trustno1 whatever12 whatever123 freedom123
woaini1314 woaini1314520 woaini520520 5201314520 wangyang123 zhang123456 wang123456 q123456789 qwe123456789 asd123456789
zxc123456789 147258369a 14725836900 7894561230 789456123a 1597534682 159753159753 741852963a 123654789a 1357924680
Password123 PASSWORD123 Passw0rd!1 P@$$w0rd123 Qwerty123! Summer2024! Welcome@123 Admin@1234 QWERTYUIOP Iloveyou1!
""".split()


def test_the_commonest_are_not_taken():
    assert len(COMMON) >= 150
    assert min(map(len, COMMON)) >= 10
    assert [password for password in COMMON if why_weak(password, "somebody else") is None] == []


def test_none_of_the_lists_is_taken():
    """Stolen passwords and single words: whatever of them is long enough to get as far."""
    long = [word for word in listed() if len(word) >= SHORTEST]
    assert len(listed()) > 90_000
    assert len(long) > 13_000
    assert {"usuckballz1", "mailcreated5240", "pufunga7782", "california", "university", "washington"} <= set(long)
    for word in long[::7]:
        assert why_weak(word, "ann") is not None, word
        assert why_weak(word.upper(), "ann") is not None, word


@pytest.mark.parametrize(
    "password", ["harrypotter7", "Terminator77", "mailcreated52401", "salamander2024!", "P1aystat1on3"]
)
def test_nor_with_a_little_added(password):
    assert why_weak(password, "ann") is not None


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "another long one, really",
        "tuba-lemon-quiet-96",
        "vK3#pw9!Lq",
        "kxqvbzmtrw",
        "我爱吃北京烤鸭和豆浆",
        "der Fuchs springt selten",
        "     leading and trailing     ",
        "8302917465520",
        "x" * 3 + "ünïcödé strîng" + "😀",
    ],
)
def test_what_is_hard_to_guess_is_taken_whatever_it_is_made_of(password):
    assert why_weak(password, "ann") is None


def test_long_ones_are_taken_up_to_the_bound():
    long = "the quick brown fox jumps over a lazy dog; " * 6
    assert why_weak(long[:64], "ann") is None
    assert why_weak(long[:LONGEST], "ann") is None
    assert "at most" in why_weak(long[: LONGEST + 1], "ann")
    assert "at least" in why_weak("vK3#pw9!L", "ann")


def test_the_name_helps_nobody():
    assert "name" in why_weak("Maximilian12", "maximilian")
    assert why_weak("maximilianmaximilian2024", "Maximilian") is not None
    assert why_weak("tuba maximilian lemon 96", "Maximilian") is None


@pytest.mark.parametrize("word", CONTEXT)
def test_words_of_this_application_help_nobody(word):
    assert why_weak(f"{word}{word}123", "ann") is not None
    assert why_weak(f"{word}2024!!!!!"[:16], "ann") is not None


def test_the_estimate_adds_the_cheapest_parts():
    assert bits("password") == 10
    assert bits("zombie345") == 10 + 5
    assert bits("password123") == 10  # on a list as it is
    assert bits("passwordpassword") == 10 + 2
    assert bits("p@ssw0rd") == 10 + 1.5
    assert bits("zj") == pytest.approx(2 * 4.7)
    assert bits("zj2024") == pytest.approx(2 * 4.7 + 6)
    assert bits("tuba", ["tuba"]) == 10
    assert bits("salamander") == pytest.approx(log2(2830))  # the place on its list: rarer words cost more
    assert "tub" not in listed()  # parts this short are in anything
    assert ENOUGH / 4.7 < 10  # ten random letters are enough
