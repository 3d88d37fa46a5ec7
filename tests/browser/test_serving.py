"""The application's frame in a real browser: logging in, the account page, both languages, two widths."""

import pytest
from tests.web.conftest import PASSWORD


def test_a_person_logs_in_and_changes_the_language(served, visit):
    with visit(None, "/account") as ann:
        page = ann.page
        served.person("ann")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/account")
        page.get_by_role("button", name="中文").click()
        page.get_by_role("heading", name="你的账户").wait_for()
        assert ann.trouble == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_frame_is_readable_for_everybody(served, visit, language, width):
    served.person("ann", language=language)
    with visit("ann", "/account", width=width) as ann:
        assert ann.axe() == []
        assert ann.wide() == 0
        ann.shot(f"account-{language}-{width}")
        assert ann.trouble == []


def test_axe_finds_what_is_wrong(served, visit):
    with visit(None, "/login") as somebody:
        somebody.page.evaluate("document.querySelector('main').append(document.createElement('input'))")
        assert any(found.startswith("label:") for found in somebody.axe())
