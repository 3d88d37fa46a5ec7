"""Logging in, sessions, invitations, forged requests, headers."""

import pytest

from heedlm.feedback.errors import Refused, Throttled
from heedlm.feedback.tables import metadata

PASSWORD = "correct horse battery"


def test_a_visitor_is_sent_to_the_login_and_back(home, ok):
    visitor = home.visitor()
    sent = ok(visitor.get("/people", headers={"accept": "text/html"}), 303)
    assert sent.headers["location"] == "/login?next=/people"
    form = {"name": "olga", "password": PASSWORD, "next": "/people"}
    assert ok(visitor.post("/login", data=form), 303).headers["location"] == "/people"
    assert "olga" in ok(visitor.get("/people", headers={"accept": "text/html"})).text
    assert ok(visitor.get("/api/nothing"), 404).json()["error"]["message"] == "there is no such page"


def test_next_never_leads_to_another_site(home, ok):
    for where in ("//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nset-cookie: x=1"):
        form = {"name": "olga", "password": PASSWORD, "next": where}
        assert ok(home.visitor().post("/login", data=form), 303).headers["location"] == "/projects"


def test_a_session_is_new_at_each_login_and_ends(home, ok):
    client = home.client("olga")
    before = next(iter(client.cookies.jar)).value
    ok(client.post("/login", data={"name": "olga", "password": PASSWORD}), 303)
    after = next(iter(client.cookies.jar)).value
    assert before != after
    assert home.state.accounts.session(before) is None
    assert home.state.accounts.session("chosen by an attacker") is None
    home.clock.time += 13 * 3600
    assert home.state.accounts.session(after) is None


def test_wrong_passwords_have_to_wait(home):
    visitor = home.visitor()
    statuses = [visitor.post("/login", data={"name": "olga", "password": f"wrong {n}"}).status_code for n in range(10)]
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    right = visitor.post("/login", data={"name": "OLGA", "password": PASSWORD})
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) >= 1
    home.clock.time += 1000
    assert visitor.post("/login", data={"name": "olga", "password": PASSWORD}).status_code == 303


def test_waiting_grows(home):
    waits = []
    for number in range(9):
        try:
            home.state.accounts.login("olga", f"wrong {number}", "here")
        except Throttled as error:
            waits.append(error.seconds)
            home.clock.time += error.seconds
            with pytest.raises(Refused):
                home.state.accounts.login("olga", "wrong again", "here")
        except Refused:
            pass
    assert waits == sorted(waits)
    assert len(waits) >= 3
    assert waits[-1] >= 4 * waits[0]


def test_an_unknown_name_is_told_nothing_else_than_a_wrong_password(home):
    answers = [home.visitor().post("/login", data={"name": n, "password": "wrong one"}) for n in ("olga", "nobody")]
    assert {answer.status_code for answer in answers} == {401}
    first, second = (answer.text.replace("olga", "X").replace("nobody", "X") for answer in answers)
    assert first == second


def test_an_invitation_holds_once(home, ok):
    olga = home.client("olga")
    link = ok(olga.post("/api/invitations", json={"role": "annotator"}), 201).json()["link"]
    path = "/join/" + link.rsplit("/", 1)[1]
    assert "annotator" in ok(home.visitor().get(path)).text
    weak = home.visitor().post(path, data={"name": "ann", "password": "short"})
    assert weak.status_code == 422
    ok(home.visitor().post(path, data={"name": "ann", "password": PASSWORD}), 303)
    ok(home.visitor().get(path), 404)
    ok(home.visitor().post(path, data={"name": "eve", "password": PASSWORD, "x": "y"}), 404)
    assert home.client("ann").get("/people").status_code == 403


def test_an_invitation_grows_old(home, ok):
    token = home.state.accounts.invite(None, "owner")
    home.clock.time += 8 * 86400
    ok(home.visitor().post(f"/join/{token}", data={"name": "eve", "password": PASSWORD}), 404)


def test_forged_requests_are_refused(home, ok):
    olga = home.client("olga")
    token = olga.headers.pop("x-csrf-token")
    ok(olga.post("/api/invitations", json={"role": "chat"}), 403)
    ok(olga.post("/logout"), 403)
    ok(olga.post("/logout", data={"csrf": "made up"}), 403)
    for header in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        ok(olga.post("/api/invitations", json={"role": "chat"}, headers={"x-csrf-token": token, **header}), 403)
        ok(home.visitor().post("/login", data={"name": "olga", "password": PASSWORD}, headers=header), 403)
    own = {"x-csrf-token": token, "origin": "http://testserver", "sec-fetch-site": "same-origin"}
    ok(olga.post("/api/invitations", json={"role": "chat"}, headers=own), 201)
    ok(olga.post("/logout", data={"csrf": token}), 303)
    ok(olga.get("/account"), 401)


def test_every_answer_carries_the_headers(home):
    for path in ("/login", "/nowhere", "/static/heed.js", "/api/nothing"):
        headers = home.visitor().get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_cookies_are_out_of_reach_of_scripts(home):
    answer = home.visitor().post("/login", data={"name": "olga", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_other_hosts_and_huge_bodies_are_refused(home, ok):
    ok(home.visitor().get("/login", headers={"host": "evil.example"}), 400)
    ok(home.visitor().post("/login", content=b"x" * (65 * 2**20)), 413)


def test_who_is_shut_out_is_out_at_once(home, ok):
    ann = home.person("ann")
    client, olga = home.client("ann"), home.client("olga")
    ok(client.get("/account"))
    ok(olga.put(f"/api/users/{ann.id}/access", json={"allowed": False}))
    ok(client.get("/account"), 401)
    ok(home.visitor().post("/login", data={"name": "ann", "password": PASSWORD}), 401)
    last = ok(olga.put(f"/api/users/{home.people['olga'].id}/role", json={"role": "chat"}), 422)
    assert "last owner" in last.json()["error"]["message"]


def test_a_new_password_ends_all_sessions(home, ok):
    first, second = home.client("olga"), home.client("olga")
    new = "another long one, really"
    ok(first.post("/account/password", data={"old": "wrong", "new": new}), 422)
    ok(first.post("/account/password", data={"old": PASSWORD, "new": new}), 303)
    ok(second.get("/account"), 401)
    ok(home.visitor().post("/login", data={"name": "olga", "password": PASSWORD}), 401)
    ok(home.visitor().post("/login", data={"name": "olga", "password": new}), 303)


def test_pages_speak_both_languages(home, ok):
    assert "登录" in ok(home.visitor().get("/login", headers={"accept-language": "zh-CN"})).text
    olga = home.client("olga")
    ok(olga.post("/language", data={"to": "zh", "next": "/account"}), 303)
    assert "你的账户" in ok(olga.get("/account")).text


def test_secrets_are_not_in_the_database(home):
    client = home.client("olga")
    token = next(iter(client.cookies.jar)).value
    invitation = home.state.accounts.invite(None, "chat")
    with home.state.database.read() as connection:
        everything = str([connection.execute(table.select()).all() for table in metadata.sorted_tables])
    assert "olga" in everything
    for secret in (PASSWORD, token, invitation):
        assert secret not in everything
