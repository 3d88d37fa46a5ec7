"""The pages of runs in a real browser: live curves, answers side by side, comparison, the report in its sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.browser.serving import Served, Visit
from tests.web.test_runs import training

from heedlm.runs import Input, Run

Going = Callable[..., Visit]


@pytest.fixture
def runs(served: Served) -> Iterator[dict[str, Run]]:
    """Two runs that have ended, the second made from the first, and one that goes on."""
    folder: Path = served.state.services.runs
    first = training(folder, "first")
    made = {"first": first, "second": training(folder, "second", inputs=[Input("model", first.path)], steps=300)}
    made["live"] = training(folder, "live", steps=20, status="running")
    yield made
    made["live"].finish()


def key(run: Run) -> str:
    return f"{run.info.stage}/{run.name}"


def test_runs_are_found_chosen_and_compared(served: Served, visit: Going, runs: dict[str, Run]) -> None:
    with visit("olga", "/runs") as seen:
        page = seen.page
        assert page.locator("tr[data-run]:visible").count() == 3
        page.get_by_label("Name").fill("SECOND")
        assert page.locator("tr[data-run]:visible").count() == 1
        assert "1 of 3" in page.locator("#count").inner_text()
        page.get_by_label("Name").fill("")
        page.get_by_label("State").select_option("running")
        assert page.locator("tr[data-run]:visible").count() == 1
        page.get_by_label("State").select_option("")
        page.get_by_label(f"Compare {key(runs['first'])}").check()
        assert page.locator("#compare a").get_attribute("href") is None
        page.get_by_label(f"Compare {key(runs['second'])}").check()
        page.get_by_role("link", name="Compare").click()
        page.wait_for_selector("#curves svg")
        legend = page.locator("#curves figure").first.locator(".legend").inner_text()
        assert key(runs["first"]) in legend
        assert key(runs["second"]) in legend
        page.wait_for_selector("#answers article")
        assert seen.trouble == []


def test_curves_grow_while_one_looks_and_can_be_read_by_keyboard(
    served: Served, visit: Going, runs: dict[str, Run]
) -> None:
    with visit("olga", f"/runs/{key(runs['live'])}") as seen:
        page = seen.page
        page.wait_for_selector("#curves svg")
        assert "step 20" in page.locator("#state").inner_text()
        chart = page.locator("#curves figure").filter(has_text="Reward").first
        chart.locator("svg").focus()
        page.keyboard.press("Home")
        assert chart.locator("output").inner_text() == "step 1: 0.0100"
        page.keyboard.press("ArrowRight")
        assert chart.locator("output").inner_text() == "step 2: 0.0200"
        runs["live"].metrics(21, {"reward/mean": 5.0, "kl/token_nats": 0.1, "length/mean": 20.0}, seconds=21)
        page.locator("#state:has-text('step 21')").wait_for()
        assert page.evaluate("document.activeElement.tagName") == "svg"
        assert chart.locator("output").inner_text() == "5"
        runs["live"].finish()
        page.locator("#state:has-text('complete')").wait_for()
        assert seen.trouble == []


def test_alarms_are_marked_and_answers_stand_side_by_side(served: Served, visit: Going, runs: dict[str, Run]) -> None:
    with visit("olga", f"/runs/{key(runs['first'])}") as seen:
        page = seen.page
        page.wait_for_selector("#answers article")
        assert page.locator("#curves svg").first.locator("rect.alarm.collapsed").count() == 1
        assert "S4" in page.locator("#state li").first.inner_text()
        replies = page.locator("#answers article").first.locator(".reply .said")
        assert [replies.nth(0).inner_text(), replies.nth(1).inner_text()] == ["answer 0 at 0", "answer 0 at 950"]
        page.get_by_label("Left").select_option(index=3)
        assert replies.nth(0).inner_text() != "answer 0 at 0"
        assert page.locator("main img").count() == 0
        assert seen.trouble == []


def test_thousands_of_steps_stay_two_hundred_points(served: Served, visit: Going) -> None:
    run = training(served.state.services.runs, "long", steps=5000, samples=False)
    with visit("olga", f"/runs/{key(run)}") as seen:
        seen.page.wait_for_selector("#curves svg")
        longest = seen.page.evaluate(
            "Math.max(...[...document.querySelectorAll('path.curve')]"
            ".map((path) => path.getAttribute('d').split(/[ML]/).length - 1))"
        )
        assert 150 < longest <= 200


def test_the_report_runs_its_script_and_reaches_nothing(served: Served, visit: Going, runs: dict[str, Run]) -> None:
    with visit("olga", f"/runs/{key(runs['first'])}/report") as seen:
        page = seen.page
        assert page.evaluate("location.origin === 'null' || self.origin === 'null'")
        assert page.locator("h1").count() == 1
        assert seen.trouble == []
        reached = page.evaluate(
            """async () => {
                const found = [];
                try { document.cookie; found.push("cookie"); } catch {}
                try { localStorage.length; found.push("storage"); } catch {}
                try { await fetch("/api/jobs"); found.push("fetch"); } catch {}
                return found;
            }"""
        )
        assert reached == []
        assert page.evaluate("document.querySelectorAll('svg').length") > 0


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(
    served: Served, visit: Going, runs: dict[str, Run], language: str, width: int
) -> None:
    served.state.accounts.change(served.people["olga"].id, {"language": language})
    one, two = key(runs["first"]), key(runs["second"])
    pages = {"runs": "/runs", "run": f"/runs/{one}", "compare": f"/runs/compare?run={one}&run={two}", "jobs": "/jobs"}
    with visit("olga", width=width, bypass_csp=True) as seen:
        for name, path in pages.items():
            seen.page.goto(path)
            if name in ("run", "compare"):
                seen.page.wait_for_selector("#answers article")
            assert seen.axe() == [], name
            assert seen.wide() == 0, name
            seen.shot(f"{name}-{language}-{width}")
        assert seen.trouble == []
