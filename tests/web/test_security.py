"""The second factor, sessions and resets over HTTP; the headers of every answer; what docs/security.md names."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import pytest

from heedlm.feedback.second_factor import STEP, one_time_password
from heedlm.feedback.tokens import Tokens
from heedlm.web.access import roles
from heedlm.web.app import CONTENT_POLICY, HEADERS

PASSWORD = "correct horse battery"
HTML = {"accept": "text/html"}
DOCS = Path(__file__).parents[2] / "docs" / "security.md"


def routes(app):
    """Every route of the application: method, path with made-up keys, roles, whether open before a factor is set up."""
    for path, methods in app.openapi()["paths"].items():
        for method, said in methods.items():
            yield method, re.sub(r"{(\w+)(:path)?}", "x" * 24, path), said["x-roles"], said["x-without-factor"]


def secret_in(page):
    return re.search(r'class="secret">([A-Z2-7 ]+)<', page.text).group(1).replace(" ", "")


def code_of(home, secret):
    return one_time_password(base64.b32decode(secret), int(home.clock.time) // STEP)


def set_up(home, client, ok):
    """A second factor for who is logged in here; returns its secret and recovery codes."""
    secret = secret_in(ok(client.post("/account/second", data={"password": PASSWORD})))
    page = ok(client.post("/account/second/confirm", data={"code": code_of(home, secret)}))
    home.clock.time += 2 * STEP
    return secret, re.findall(r'class="secret">([A-Z2-7-]{29})<', page.text)


# ---------------------------------------------------------------- the second factor


def test_logging_in_takes_two_steps_once_a_factor_is_set_up(home, ok):
    home.person("ann")
    secret, codes = set_up(home, home.client("ann"), ok)
    assert len(codes) == 10
    visitor = home.visitor()
    step = ok(visitor.post("/login", data={"name": "ann", "password": PASSWORD, "next": "/chat"}))
    assert not visitor.cookies
    ticket = re.search(r'name="ticket" value="([^"]+)"', step.text).group(1)
    wrong = ok(visitor.post("/login/code", data={"ticket": ticket, "code": "nonsense", "next": "/chat"}), 401)
    assert "the code is wrong" in wrong.text
    assert not visitor.cookies
    form = {"ticket": ticket, "code": code_of(home, secret), "next": "/chat"}
    assert ok(visitor.post("/login/code", data=form), 303).headers["location"] == "/chat"
    ok(visitor.get("/account"))
    ok(home.visitor().post("/login/code", data=form), 401)  # neither ticket nor code holds twice


def test_wrong_codes_are_throttled_by_the_tenth(home, ok):
    home.person("ann")
    set_up(home, home.client("ann"), ok)
    visitor = home.visitor()
    step = visitor.post("/login", data={"name": "ann", "password": PASSWORD})
    ticket = re.search(r'name="ticket" value="([^"]+)"', step.text).group(1)
    answers = [visitor.post("/login/code", data={"ticket": ticket, "code": f"{n:06}x"}) for n in range(10)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 5
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_setting_up_and_removing_take_the_password(home, ok):
    home.person("ann")
    ann = home.client("ann")
    ok(ann.post("/account/second", data={"password": "wrong"}), 422)
    secret, codes = set_up(home, ann, ok)
    for path in ("/account/second/codes", "/account/second/remove"):
        ok(ann.post(path, data={"password": "wrong", "code": codes[0]}), 422)
        ok(ann.post(path, data={"password": PASSWORD, "code": "wrong"}), 422)
    assert home.state.accounts.second.has(home.people["ann"].id)
    new = ok(ann.post("/account/second/codes", data={"password": PASSWORD, "code": codes[1]}))
    assert codes[2] not in new.text
    home.clock.time += 2 * STEP
    ok(ann.post("/account/second/remove", data={"password": PASSWORD, "code": code_of(home, secret)}), 303)
    assert not home.state.accounts.second.has(home.people["ann"].id)


def test_setting_up_ends_other_sessions(home, ok):
    home.person("ann")
    here, there = home.client("ann"), home.client("ann")
    set_up(home, here, ok)
    ok(here.get("/account"))
    ok(there.get("/account"), 401)


def test_who_must_have_a_factor_is_led_to_it_and_nowhere_else(home, ok):
    home.person("mia", "manager")
    olga, mia = home.client("olga"), home.client("mia")
    token = Tokens(home.state.database).make(home.people["olga"], "a program")
    home.state.site = replace(home.state.site, second_factor=("owner",))
    assert ok(olga.get("/people", headers=HTML), 303).headers["location"] == "/account/second"
    tried = 0
    for method, path, allowed, without in routes(home.app):
        if "public" in allowed or without:
            continue
        headers = {"authorization": f"Bearer {token}"} if path.startswith("/v1/") else {}
        answer = olga.request(method, path, headers=headers)
        assert answer.status_code == 403, f"{method} {path}: {answer.status_code}"
        assert "set up a second factor first" in answer.text
        tried += 1
    assert tried >= 40
    ok(mia.get("/projects"))
    assert "needs a second factor" in ok(olga.get("/account/second")).text
    set_up(home, olga, ok)
    ok(olga.get("/people"))
    ok(olga.get("/v1/models", headers={"authorization": f"Bearer {token}"}))


def test_only_setup_and_leaving_are_open_without_the_factor(home):
    found = {f"{method} {path}" for method, path, allowed, without in routes(home.app) if without}
    assert found == {"get /account/second", "post /account/second", "post /account/second/confirm", "post /logout"}
    with pytest.raises(ValueError, match="unknown roles"):
        roles("visitor")


def test_an_owner_removes_a_lost_factor(home, ok):
    ann = home.person("ann")
    client, olga = home.client("ann"), home.client("olga")
    set_up(home, client, ok)
    assert "two factors" in ok(olga.get("/people")).text
    ok(client.delete(f"/api/users/{ann.id}/second"), 403)
    assert ok(olga.delete(f"/api/users/{ann.id}/second")).json() == {"removed": True}
    ok(client.get("/account"), 401)
    home.client("ann")  # one step again


# ---------------------------------------------------------------- sessions and forgotten passwords


def test_own_sessions_are_seen_and_ended_with_the_password(home, ok):
    ann = home.person("ann")
    first, second = home.client("ann"), home.client("ann")
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    visitor = home.visitor()
    visitor.headers["user-agent"] = firefox
    ok(visitor.post("/login", data={"name": "ann", "password": PASSWORD}), 303)
    page = ok(first.get("/account")).text
    assert "Firefox, Linux" in page
    assert "rv:140.0" not in page
    keys = re.findall(r'name="key" value="([0-9a-f]+)"', page)
    assert len(keys) == 3
    ok(first.post("/account/sessions", data={"which": "others", "password": "wrong"}), 422)
    ok(second.get("/account"))
    ok(first.post("/account/sessions", data={"which": "others", "password": PASSWORD}), 303)
    ok(second.get("/account"), 401)
    ok(first.get("/account"))
    own = home.state.accounts.session(first.cookies["heed_session"]).key
    left = ok(first.post("/account/sessions", data={"which": "chosen", "key": own, "password": PASSWORD}), 303)
    assert left.headers["location"] == "/login"
    ok(first.get("/account"), 401)
    assert ann.name == "ann"


def test_passwords_asked_for_again_are_throttled_too(home):
    home.person("ann")
    ann = home.client("ann")
    for path, more in (("/account/password", {"new": "tuba lemon quiet"}), ("/account/sessions", {"which": "others"})):
        home.clock.time += 1000
        field = "old" if "password" in path else "password"
        answers = [ann.post(path, data={field: f"wrong {n}", **more}) for n in range(10)]
        assert [answer.status_code for answer in answers] == [422] * 5 + [429] * 5


def test_an_owner_ends_the_sessions_of_a_person(home, ok):
    ann = home.person("ann")
    client, olga = home.client("ann"), home.client("olga")
    ok(client.post(f"/api/users/{ann.id}/logout"), 403)
    assert ok(olga.post(f"/api/users/{ann.id}/logout")).json() == {"ended": 1}
    ok(client.get("/account"), 401)
    ok(olga.post(f"/api/users/{'x' * 24}/logout"), 404)


def test_an_owner_makes_a_link_to_a_new_password(home, ok):
    ann = home.person("ann")
    client, olga = home.client("ann"), home.client("olga")
    ok(client.post(f"/api/users/{ann.id}/reset"), 403)
    link = ok(olga.post(f"/api/users/{ann.id}/reset"), 201).json()["link"]
    path = "/reset/" + link.rsplit("/", 1)[1]
    assert "For ann." in ok(home.visitor().get(path)).text
    assert "easy to guess" in ok(home.visitor().post(path, data={"password": "password123"}), 422).text
    visitor = home.visitor()
    assert ok(visitor.post(path, data={"password": "tuba lemon quiet"}), 303).headers["location"] == "/login"
    assert not visitor.cookies  # nobody is logged in by it
    ok(client.get("/account"), 401)
    ok(home.visitor().get(path), 404)
    ok(home.visitor().post(path, data={"password": "lemon quiet tuba"}), 404)
    ok(home.visitor().post("/login", data={"name": "ann", "password": "tuba lemon quiet"}), 303)


def test_an_erasure_by_password_is_throttled_and_leaves_no_session(home):
    ann = home.person("ann")
    client = home.client("ann")
    answers = [client.post("/account/erase", data={"password": f"wrong {n}"}) for n in range(10)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429] * 5
    home.clock.time += 1000
    assert client.post("/account/erase", data={"password": PASSWORD}).status_code == 200
    assert all(person["id"] != ann.id for person in home.state.accounts.everybody())


# ---------------------------------------------------------------- every answer


def missing(answer):
    """The headers that an answer lacks, or has with another value."""
    return [name for name, value in HEADERS.items() if answer.headers.get(name) != value]


# The page of a run's report is a document of its own, with a policy of its own; docs/security.md says why.
OWN_POLICY = re.compile(r"/runs/.*report|/report")


def test_every_answer_of_every_route_carries_the_headers(home):
    olga, visitor, seen = home.client("olga"), home.visitor(), 0
    for client in (visitor, olga):
        for method, path, _, _ in routes(home.app):
            if client is olga and path in ("/logout", "/account/erase"):
                continue
            for headers in ({}, HTML):
                answer = client.request(method, path, headers=headers)
                lacking = missing(answer)
                if OWN_POLICY.search(path) and answer.status_code == 200:
                    lacking = [name for name in lacking if name != "content-security-policy"]
                assert not lacking, f"{method} {path} {answer.status_code}: {lacking}"
                assert answer.headers["cache-control"] == "no-store", path
                if answer.headers.get("content-type", "").startswith("text/"):
                    assert "charset=utf-8" in answer.headers["content-type"].lower(), path
                seen += 1
    assert seen >= 300


def test_refusals_outside_of_the_routes_carry_the_headers(home, monkeypatch):
    from starlette.testclient import TestClient

    visitor = home.visitor()
    answers = {
        "no page": visitor.get("/nowhere"),
        "wrong method": visitor.request("PATCH", "/login"),
        "trace": visitor.request("TRACE", "/login"),
        "another host": visitor.get("/login", headers={"host": "evil.example"}),
        "too large": visitor.post("/login", content=b"x" * (65 * 2**20)),
        "static": visitor.get("/static/heed.js"),
        "folder": visitor.get("/static/"),
        "outside": visitor.get("/static/..%2fapp.py"),
        "forged": visitor.post("/login", data={}, headers={"origin": "https://evil.example"}),
    }

    def broken(*_):
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(home.state.accounts, "invitation", broken)
    fault = TestClient(home.app, raise_server_exceptions=False).get("/join/x")
    assert fault.status_code == 500
    assert "42" not in fault.text
    answers["fault"] = fault
    for name, answer in answers.items():
        assert not missing(answer), f"{name}: {missing(answer)}"
    for name in ("no page", "wrong method", "trace", "another host", "too large", "folder", "outside", "forged"):
        assert answers[name].status_code >= 400, name


def test_the_policy_forbids_what_it_should():
    told = dict(part.split(" ", 1) for part in CONTENT_POLICY.split("; "))
    for name in ("default-src", "object-src", "base-uri", "frame-ancestors", "trusted-types"):
        assert told[name] == "'none'"
    assert told["script-src"] == told["style-src"] == told["form-action"] == told["connect-src"] == "'self'"
    assert "unsafe" not in CONTENT_POLICY
    assert "access-control-allow-origin" not in HEADERS


def test_over_https_cookies_are_bound_to_host_and_scheme(home, ok):
    home.state.site = replace(home.state.site, https=True)
    visitor = home.visitor()
    answer = ok(visitor.post("https://testserver/login", data={"name": "olga", "password": PASSWORD}), 303)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-heed_session=")
    for part in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


def test_leaving_clears_the_browser(home, ok):
    olga = home.client("olga")
    left = ok(olga.post("/logout"), 303)
    assert "storage" in left.headers["clear-site-data"]
    assert "heed_session=" in left.headers["set-cookie"]
    ok(olga.get("/account", headers=HTML), 303)


def test_nothing_but_the_pages_is_served(home):
    for path in ("/docs", "/redoc", "/openapi.json", "/.git/config", "/metrics", "/static/../app.py"):
        assert home.client("olga").get(path).status_code == 404, path


def test_every_page_has_a_way_out(home, ok):
    olga = home.client("olga")
    for method, path, allowed, _ in routes(home.app):
        if (
            method == "get"
            and "x" * 24 not in path
            and "public" not in allowed
            and not path.startswith(("/api", "/v1"))
        ):
            answer = olga.get(path, headers=HTML)
            if answer.status_code == 200 and answer.headers["content-type"].startswith("text/html"):
                assert 'action="/logout"' in answer.text, path


def test_logins_are_written_down_without_secrets(home):
    from heedlm.feedback.tables import events

    home.person("ann")
    home.visitor().post("/login", data={"name": "ann", "password": "a wrong password"})
    home.client("ann")
    with home.state.database.read() as connection:
        rows = connection.execute(events.select()).all()
    assert {"user created", "login failed", "login"} <= {row.what for row in rows}
    assert "a wrong password" not in str(rows)


# ---------------------------------------------------------------- the document


def test_every_test_that_the_document_names_exists():
    text = DOCS.read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text))
    assert len(named) >= 40
    root = DOCS.parents[1]
    for file, test in sorted(named):
        assert (root / file).is_file(), file
        if test:
            assert re.search(rf"^def {test}\(", (root / file).read_text(encoding="utf-8"), re.M), f"{file}::{test}"


def test_the_document_lists_every_requirement_of_the_levels_promised():
    text = DOCS.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| (\d+\.\d+\.\d+) \|", text, re.M))
    sections = {  # chapter 6, 7 and 8: how many requirements of level 1 and 2 each section has
        "6.1": 3, "6.2": 11, "6.3": 3, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4,
        "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "7.6": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1,
    }  # fmt: skip
    for section, count in sections.items():
        assert len([row for row in rows if row.startswith(f"{section}.")]) >= count, section


def test_the_document_says_who_may_call_what(home):
    text = DOCS.read_text(encoding="utf-8")
    for path, methods in home.app.openapi()["paths"].items():
        for method, said in methods.items():
            row = f"| `{method.upper()} {path}` | {', '.join(said['x-roles'])} |"
            assert row in text, f"docs/security.md lacks {row}: run python docs/make_security.py"
