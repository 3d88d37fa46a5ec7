"""Second factor, sessions and resets in a real browser: how they are used, whether everybody can, how they look."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest
from tests.browser.serving import Served, Visit
from tests.web.conftest import PASSWORD

from heedlm.feedback.second_factor import STEP, one_time_password

Going = Callable[..., Visit]


def code_of(secret: str, drift: int = 0) -> str:
    return one_time_password(base64.b32decode(secret.replace(" ", "")), int(time.time()) // STEP + drift)


def test_a_factor_is_set_up_and_asked_for(served: Served, visit: Going) -> None:
    served.person("ann")
    with visit("ann", "/account") as ann:
        page = ann.page
        page.get_by_role("link", name="Set it up").click()
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Set it up").click()
        page.get_by_role("img", name="QR code").wait_for()
        secret = page.locator(".secret").inner_text()
        assert ann.axe() == []
        ann.shot("second-factor", whole=False)
        page.get_by_role("textbox", name="Code").fill(code_of(secret))
        page.get_by_role("button", name="Turn it on").click()
        page.get_by_role("heading", name="Recovery codes").wait_for()
        codes = page.locator(".codes .secret").all_inner_texts()
        assert len(codes) == 10
        assert ann.axe() == []
        assert ann.trouble == []
    with visit(None, "/account") as again:
        page = again.page
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Second step").wait_for()
        assert again.context.cookies() == []
        page.keyboard.type(codes[0].lower())
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Your account").wait_for()
        assert page.url.endswith("/account")
        assert again.trouble == []


def test_a_session_elsewhere_is_ended(served: Served, visit: Going) -> None:
    served.person("ann")
    with visit("ann", "/account") as here, visit("ann", "/account") as there:
        page = here.page
        page.reload()
        form = page.locator("form[action='/account/sessions']")
        assert form.get_by_role("checkbox").count() == 2
        form.get_by_label("Password").fill(PASSWORD)
        form.get_by_role("button", name="End all but this one").click()
        page.wait_for_load_state()
        assert form.get_by_role("checkbox").count() == 1
        there.page.goto("/account")
        assert there.page.url.endswith("/login?next=/account")


def test_an_owner_makes_a_link_and_ends_sessions(served: Served, visit: Going) -> None:
    served.person("ann")
    with visit("olga", "/people") as olga, visit("ann", "/account") as ann:
        page = olga.page
        page.get_by_role("button", name="Make a link").click()
        page.locator("#link").wait_for()
        assert "/join/" in page.locator("#link input").input_value()
        row = page.locator("tr", has=page.get_by_role("rowheader", name="ann"))
        row.locator("summary").focus()
        page.keyboard.press("Enter")
        row.get_by_role("button", name="End their sessions").click()
        page.get_by_text("Sessions of ann that have ended: 1.").wait_for()
        ann.page.goto("/account")
        assert "/login" in ann.page.url
        row.get_by_role("button", name="Link to a new password").click()
        link = page.locator("#reset input")
        link.wait_for()
        assert olga.axe() == []
        ann.page.goto(link.input_value())
        ann.page.get_by_label("New password").fill("password123")
        ann.page.get_by_role("button", name="Save").click()
        assert "easy to guess" in ann.page.get_by_role("alert").inner_text()
        ann.page.get_by_label("New password").fill("tuba lemon quiet")
        ann.page.get_by_role("button", name="Save").click()
        ann.page.wait_for_url("**/login")
        assert ann.axe() == []
        assert olga.trouble == []


@pytest.mark.parametrize("tongue", ["en", "zh"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out(served: Served, visit: Going, tongue: str, width: int) -> None:
    """Every page of accounts at a desk and on a telephone, in both languages, once in dark."""
    ann = served.person("ann", language=tongue)
    served.state.accounts.change(served.people["olga"].id, {"language": tongue})
    scheme = "dark" if (tongue, width) == ("zh", 1280) else "light"
    link = served.state.accounts.reset_link(served.people["olga"], ann.id)
    with visit("ann", width=width, scheme=scheme) as seen:
        page = seen.page

        def check(name: str) -> None:
            assert seen.wide() == 0, name
            assert seen.axe() == [], name
            seen.shot(f"{name}-{tongue}-{width}")

        page.goto("/account")
        check("account")
        page.goto("/account/second")
        check("second-off")
        page.locator("input[name=password]").fill(PASSWORD)
        page.locator("main button").click()
        page.locator(".qr").wait_for()
        check("second-setup")
        secret = page.locator(".secret").inner_text()
        page.locator("input[name=code]").fill("123")
        page.locator("main button").click()
        page.get_by_role("alert").wait_for()
        page.locator("input[name=code]").fill(code_of(secret))
        page.locator("main button").click()
        page.locator(".codes").wait_for()
        check("second-codes")
        page.goto("/account/second")
        check("second-on")
    with visit(None, width=width, scheme=scheme) as seen:
        page = seen.page
        seen.context.add_cookies([{"name": "heed_language", "value": tongue, "url": served.url}])
        page.goto(f"/reset/{link}")
        check("reset")
        page.goto("/reset/made-up")
        check("reset-gone")
        page.goto(f"/join/{served.state.accounts.invite(served.people['olga'], 'annotator')}")
        check("join")
        page.goto("/login")
        check("login")
        page.locator("input[name=name]").fill("ann")
        page.locator("input[name=password]").fill(PASSWORD)
        page.locator("main button").click()
        page.locator("input[name=code]").wait_for()
        check("login-code")
    with visit("olga", "/people", width=width, scheme=scheme) as seen:
        seen.page.locator("summary").first.click()
        check("people")
        seen.page.goto("/tokens")
        check("tokens-none")
        seen.page.locator("#make input[name=name]").fill("a program whose name is rather long, as names are")
        seen.page.locator("#make button.primary").click()
        seen.page.locator("#made").wait_for()
        assert seen.page.locator("tr[data-token]").count() == 1
        check("tokens-made")
        listed = seen.page.locator("tbody").inner_text()
        seen.page.reload()
        assert seen.page.locator("tbody").inner_text() == listed  # as the server draws it
        seen.page.locator("tr[data-token] button").click()
        seen.page.locator("tr[data-token]").wait_for(state="detached")
        seen.page.goto("/projects/made-up")
        check("problem")
