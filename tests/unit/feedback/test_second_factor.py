"""One-time passwords against the vectors of the RFCs; each code once; recovery; tickets; waiting; sessions."""

import base64

import pytest

from heedlm.feedback import sessions, tickets
from heedlm.feedback.accounts import PATIENCE, PATIENCE_NAME
from heedlm.feedback.errors import BadInput, CodeNeeded, Conflict, Refused, Throttled
from heedlm.feedback.second_factor import RECOVERY_CODES, STEP, SecondFactors, address, one_time_password
from heedlm.feedback.tables import metadata

PASSWORD = "correct horse battery"
DIGITS = b"1234567890" * 7
KEYS = {"sha1": DIGITS[:20], "sha256": DIGITS[:32], "sha512": DIGITS[:64]}
# RFC 6238, appendix B: seconds, and the eight digits for SHA-1, SHA-256 and SHA-512.
VECTORS = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
# RFC 4226, appendix D: the first ten codes of the same key.
COUNTED = "755224 287082 359152 969429 338314 254676 287922 162583 399871 520489".split()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector[0]))
def test_codes_are_those_of_rfc_6238(vector):
    for algorithm, wanted in zip(KEYS, vector[1:], strict=True):
        assert one_time_password(KEYS[algorithm], vector[0] // STEP, 8, algorithm) == wanted


def test_codes_are_those_of_rfc_4226():
    assert [one_time_password(KEYS["sha1"], step) for step in range(10)] == COUNTED


def test_the_address_is_what_apps_read():
    told = address("JBSWY3DPEHPK3PXP", "Ann & 安", "Heed")
    assert told == "otpauth://totp/Heed:Ann%20%26%20%E5%AE%89?secret=JBSWY3DPEHPK3PXP&issuer=Heed"


def code_of(team, secret, drift=0):
    return one_time_password(base64.b32decode(secret), int(team.clock.time) // STEP + drift)


@pytest.fixture
def ann(team):
    return team.person("ann")


@pytest.fixture
def second(team, ann):
    """Ann's second factor, set up; the clock has moved on by two steps."""
    store = SecondFactors(team.database)
    secret = store.begin(ann.id)
    store.codes = store.confirm(ann.id, code_of(team, secret))
    store.secret = secret
    team.clock.time += 2 * STEP
    return store


def test_a_secret_counts_once_a_code_was_seen(team, ann):
    store = SecondFactors(team.database)
    secret = store.begin(ann.id)
    assert len(base64.b32decode(secret)) == 20
    assert store.pending(ann.id) == secret
    assert not store.has(ann.id)
    with pytest.raises(Refused):
        store.confirm(ann.id, "000000" if code_of(team, secret) != "000000" else "111111")
    codes = store.confirm(ann.id, code_of(team, secret)[:3] + " " + code_of(team, secret)[3:])
    assert store.has(ann.id)
    assert store.pending(ann.id) is None
    assert len(set(codes)) == RECOVERY_CODES == store.codes_left(ann.id)
    with pytest.raises(Conflict):
        store.begin(ann.id)


def test_each_code_is_taken_once(team, ann, second):
    code = code_of(team, second.secret)
    second.check(ann.id, code)
    with pytest.raises(Refused):
        second.check(ann.id, code)
    with pytest.raises(Refused):  # one that was shown before the one that was used
        second.check(ann.id, code_of(team, second.secret, -1))
    second.check(ann.id, code_of(team, second.secret, 1))


@pytest.mark.parametrize(("drift", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_clocks_may_be_off_by_one_step(team, ann, second, drift, taken):
    team.clock.time += 10 * STEP
    code = code_of(team, second.secret, drift)
    if taken:
        second.check(ann.id, code)
    else:
        with pytest.raises(Refused):
            second.check(ann.id, code)


def test_recovery_codes_are_taken_once_and_belong_to_one_person(team, ann, second):
    ben = team.person("ben")
    other = SecondFactors(team.database)
    other.confirm(ben.id, code_of(team, other.begin(ben.id)))
    first, *rest = second.codes
    with pytest.raises(Refused):
        second.check(ben.id, first)
    second.check(ann.id, first.lower().replace("-", " "))
    with pytest.raises(Refused):
        second.check(ann.id, first)
    assert second.codes_left(ann.id) == RECOVERY_CODES - 1
    new = second.new_codes(ann.id)
    with pytest.raises(Refused):
        second.check(ann.id, rest[0])
    second.check(ann.id, new[0])
    assert len(new[0].replace("-", "")) * 5 >= 112  # bits, so that a plain hash is enough


@pytest.mark.parametrize("nonsense", ["", " ", "12345", "1234567", "١٢٣٤٥٦", "１２３４５６", "abcdef", "-" * 50])
def test_nonsense_is_no_code(ann, second, nonsense):
    with pytest.raises(Refused):
        second.check(ann.id, nonsense)


def test_wrong_codes_have_to_wait(team, ann, second):
    refused = throttled = 0
    for _ in range(10):
        try:
            second.check(ann.id, "not a code")
        except Refused:
            refused += 1
        except Throttled:
            throttled += 1
    assert (refused, throttled) == (5, 5)
    with pytest.raises(Throttled):
        second.check(ann.id, code_of(team, second.secret))
    team.clock.time += 1000
    second.check(ann.id, code_of(team, second.secret))


def test_no_session_before_the_second_step(team, ann, second):
    with pytest.raises(CodeNeeded) as needed:
        team.accounts.login("ann", PASSWORD, "here")
    assert sessions.mine(team.database, ann.id) == []
    ticket = needed.value.ticket
    assert team.accounts.session(ticket) is None
    with pytest.raises(Refused):
        team.accounts.login_with_code(ticket, "not a code", "here")
    with pytest.raises(Refused):
        team.accounts.login_with_code("made up", code_of(team, second.secret), "here")
    token, session = team.accounts.login_with_code(ticket, code_of(team, second.secret), "here", "Firefox, Linux")
    assert team.accounts.session(token).user == session.user
    with pytest.raises(Refused):  # it is used up
        team.accounts.login_with_code(ticket, second.codes[0], "here")


def test_the_second_step_must_come_soon_and_before_a_new_password(team, ann, second):
    def first_step():
        with pytest.raises(CodeNeeded) as needed:
            team.accounts.login("ann", PASSWORD, "here")
        return needed.value.ticket

    late = first_step()
    team.clock.time += tickets.LIFETIME["code"] + 1
    with pytest.raises(Refused):
        team.accounts.login_with_code(late, second.codes[0], "here")
    before = first_step()
    team.accounts.set_password(ann.id, "tuba lemon quiet")
    with pytest.raises(Refused):
        team.accounts.login_with_code(before, second.codes[0], "here")


def test_removing_it_ends_sessions(team, ann, second):
    with pytest.raises(CodeNeeded) as needed:
        team.accounts.login("ann", PASSWORD, "here")
    token, _ = team.accounts.login_with_code(needed.value.ticket, second.codes[0], "here")
    assert second.remove(ann.id, None)
    assert team.accounts.session(token) is None
    team.accounts.login("ann", PASSWORD, "here")
    assert not second.remove(ann.id, None)


def test_a_link_to_a_new_password_holds_once_and_a_day(team, ann):
    olga = team.person("olga", "owner")
    with pytest.raises(Refused):
        team.accounts.reset_link(ann, olga.id)
    with pytest.raises(Refused):
        team.accounts.reset_link(olga, "nobody")
    token, _ = team.accounts.login("ann", PASSWORD, "here")
    older, link = team.accounts.reset_link(olga, ann.id), team.accounts.reset_link(olga, ann.id)
    assert team.accounts.reset_for(older) is None  # a newer one was made
    assert team.accounts.reset_for(link) == "ann"
    with pytest.raises(BadInput):
        team.accounts.reset(link, "password123")
    team.accounts.reset(link, "tuba lemon quiet")
    assert team.accounts.session(token) is None
    with pytest.raises(Refused):
        team.accounts.reset(link, "lemon quiet tuba")
    team.accounts.login("ann", "tuba lemon quiet", "here")
    late = team.accounts.reset_link(olga, ann.id)
    team.clock.time += 86401
    with pytest.raises(Refused):
        team.accounts.reset(late, "lemon quiet tuba")
    team.accounts.disable(olga, ann.id)
    with pytest.raises(Refused):
        team.accounts.reset_link(olga, ann.id)


def test_a_link_to_a_new_password_does_not_pass_by_the_second_factor(team, ann, second):
    olga = team.person("olga", "owner")
    team.accounts.reset(team.accounts.reset_link(olga, ann.id), "tuba lemon quiet")
    with pytest.raises(CodeNeeded):
        team.accounts.login("ann", "tuba lemon quiet", "here")


def test_nobody_elsewhere_makes_a_person_wait_at_their_usual_place(team, ann):
    team.accounts.login("ann", PASSWORD, "at home")
    refused = 0
    for place in range(200):  # a try from each of many addresses
        try:
            team.accounts.login("ann", "wrong", f"far away {place}")
        except Refused:
            refused += 1
        except Throttled:
            pass
    assert refused == PATIENCE_NAME
    with pytest.raises(Throttled):
        team.accounts.login("ann", PASSWORD, "a new place")
    team.accounts.login("ann", PASSWORD, "at home")


def test_an_account_of_ones_own_does_not_help_in_guessing_others(team, ann):
    """A right password in between does not make the failures of an address forgotten."""
    team.person("eve")
    throttled = 0
    for number in range(60):
        try:
            team.accounts.login(f"person {number}", "wrong", "eve's")
        except Refused:
            pass
        except Throttled:
            throttled += 1
        try:
            team.accounts.login("eve", PASSWORD, "eve's")
        except Throttled:
            throttled += 1
    assert throttled >= 60


def test_right_passwords_from_one_address_do_not_wait(team, ann):
    for _ in range(60):
        team.accounts.login("ann", PASSWORD, "the office")


def test_wrong_passwords_for_one_name_wait_before_the_tenth(team, ann):
    outcomes = []
    for _ in range(10):
        with pytest.raises((Refused, Throttled)) as failed:
            team.accounts.check("ann", "wrong", "here")
        outcomes.append(failed.type)
    assert outcomes == [Refused] * PATIENCE + [Throttled] * (10 - PATIENCE)


def test_own_sessions_are_listed_and_ended(team, ann):
    first, _ = team.accounts.login("ann", PASSWORD, "here", "Firefox, Linux")
    team.clock.time += 100
    second, kept = team.accounts.login("ann", PASSWORD, "there", "Safari, iPhone")
    ben = team.person("ben")
    others, _ = team.accounts.login("ben", PASSWORD, "here")
    listed = sessions.mine(team.database, ann.id)
    assert [each.browser for each in listed] == ["Safari, iPhone", "Firefox, Linux"]
    assert listed[0].key == kept.key
    assert all(each.key not in (first, second) for each in listed)
    assert sessions.end(team.database, ben.id, [kept.key]) == 0  # nobody else's
    assert sessions.end_all(team.database, ann.id, ann.id, kept.key) == 1
    assert team.accounts.session(first) is None
    assert team.accounts.session(second) is not None
    assert sessions.end(team.database, ann.id, [kept.key]) == 1
    assert team.accounts.session(second) is None
    assert team.accounts.session(others) is not None


def test_a_person_has_a_bounded_number_of_sessions(team, ann):
    opened = []
    for _ in range(sessions.MOST + 3):
        team.clock.time += 61
        opened.append(team.accounts.login("ann", PASSWORD, "here")[0])
    assert len(sessions.mine(team.database, ann.id)) == sessions.MOST
    assert team.accounts.session(opened[2]) is None
    assert team.accounts.session(opened[3]) is not None


def test_no_secret_that_lets_one_in_is_kept_readable(team, ann, second):
    olga = team.person("olga", "owner")
    link = team.accounts.reset_link(olga, ann.id)
    with pytest.raises(CodeNeeded) as needed:
        team.accounts.login("ann", PASSWORD, "here")
    with team.database.read() as connection:
        everything = str([connection.execute(table.select()).all() for table in metadata.sorted_tables])
    assert second.secret in everything  # codes are made from it; docs/security.md says so
    for secret in (link, needed.value.ticket, *second.codes, *(code.replace("-", "") for code in second.codes)):
        assert secret not in everything
