"""The report in a real browser: nothing fetched, no errors, readable at every width, charts that answer."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import pytest

from heedlm.report import write_report
from heedlm.runs import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

Scheme = Literal["light", "dark"]


def chains() -> ModuleType:
    """The made-up runs that the report's unit tests use."""
    path = Path(__file__).parents[1] / "unit" / "report" / "conftest.py"
    spec = importlib.util.spec_from_file_location("report_chains", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_chains"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs: dict[str, Path] = chains().build(tmp_path_factory.mktemp("runs"))
    return write_report(runs["ppo"])


class Visit:
    """A page with what it complained of and what it asked for."""

    def __init__(self, browser: Browser, path: Path, width: int = 1280, scheme: Scheme = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page: Page = self.context.new_page()
        self.trouble: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def _dialog(self, dialog: Dialog) -> None:
        self.trouble.append("a dialog opened")
        dialog.dismiss()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()


@pytest.mark.parametrize("width", [1280, 768, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_trouble_at_every_width(browser: Browser, report: Path, width: int, scheme: Scheme) -> None:
    with Visit(browser, report, width, scheme) as visit:
        assert visit.trouble == []
        assert visit.asked == [report.as_uri()]
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in ground[4:-1].split(",")) < 200) == (scheme == "dark")


def test_the_contents_lead_to_their_sections(browser: Browser, report: Path) -> None:
    with Visit(browser, report) as visit:
        visit.page.get_by_role("link", name="What went in").click()
        box = visit.page.locator("#inputs").bounding_box()
        assert box is not None
        assert -5 <= box["y"] <= 60


def test_chinese_answers_are_on_the_page(browser: Browser, report: Path) -> None:
    with Visit(browser, report, 375) as visit:
        answer = visit.page.get_by_text("王奶奶，您一定很担心").first
        assert answer.is_visible()
        assert answer.get_attribute("lang") == "zh"


def test_pointing_at_a_chart_names_its_values(browser: Browser, report: Path) -> None:
    with Visit(browser, report) as visit:
        plot = visit.page.locator("#curves .plot").first
        plot.scroll_into_view_if_needed()
        box = plot.locator(".field").bounding_box()
        assert box is not None
        visit.page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 40)
        tip = visit.page.locator(".tip")
        assert "step 200" in tip.inner_text()
        assert "by gold score: 0.7000" in tip.inner_text()
        visit.page.mouse.move(2, 2)
        assert visit.page.locator(".tip").count() == 0
        assert visit.trouble == []


def test_a_chart_is_read_with_the_keyboard(browser: Browser, report: Path) -> None:
    with Visit(browser, report, 375) as visit:
        plot = visit.page.locator("#curves .plot").first
        plot.focus()
        visit.page.keyboard.press("Home")
        assert "step 20" in visit.page.locator(".tip").inner_text()
        visit.page.keyboard.press("ArrowRight")
        assert "step 40" in visit.page.locator(".tip").inner_text()
        box = visit.page.locator(".tip").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375
        outline = plot.evaluate("each => getComputedStyle(each).outlineStyle")
        assert outline == "solid"
        visit.page.keyboard.press("Escape")
        assert visit.page.locator(".tip").count() == 0


def test_every_chart_has_words_and_a_table(browser: Browser, report: Path) -> None:
    with Visit(browser, report) as visit:
        plots = visit.page.locator(".plot")
        assert plots.count() > 25
        for place in range(plots.count()):
            label = plots.nth(place).get_attribute("aria-label")
            assert label is not None
            assert "at step" in label
        assert visit.page.locator("figure.chart table").count() == plots.count()
        table = visit.page.locator("figure.chart").first
        table.locator("summary").click()
        assert table.locator("table").is_visible()


def test_hostile_text_does_nothing(browser: Browser, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    module = chains()
    run = module.make(tmp_path, "ppo", [])
    run.metrics(1, {evil: 1.0})
    run.metrics(2, {evil: 2.0})
    run.samples(1, [{"prompt": evil, "answer": evil, "before": evil}])
    run.note(**{evil: evil})
    (run.path / "config.json").write_text(json.dumps({evil: evil}), encoding="utf-8")
    run.fail(evil)
    with Visit(browser, write_report(run.path)) as visit:
        visit.page.locator(".plot").first.focus()
        visit.page.keyboard.press("End")
        assert evil in visit.page.locator(".tip").inner_text()
        assert visit.trouble == []
        assert len(visit.asked) == 1
        assert visit.page.locator("img").count() == 0


def test_it_prints_with_its_settings_open(browser: Browser, report: Path) -> None:
    with Visit(browser, report) as visit:
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert visit.page.locator("#inputs details:not([open])").count() == 0
        visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert visit.page.locator("#inputs details[open]").count() == 0
        assert len(visit.page.pdf(format="A4")) > 50_000


def test_a_run_without_numbers_needs_no_script(browser: Browser, tmp_path: Path) -> None:
    run = chains().make(tmp_path, "village", [])
    run.finish()
    with Visit(browser, write_report(Run.open(run.path).path)) as visit:
        assert visit.trouble == []
        assert visit.page.get_by_role("heading", level=1).inner_text() == "This run recorded no figures."


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that was warned, collapsed at step 150 and went back to step 100."""
    module = chains()
    run = module.make(tmp_path_factory.mktemp("saved"), "ppo", [])
    module.ppo_curves(run, 200, module.random.Random(3))
    lost = run.path / "abandoned" / "1"
    lost.mkdir(parents=True)
    rows = [row for row in run.read_metrics() if 100 < row["step"] <= 150]
    (lost / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for path, step, state in ((run.path, 60, "warn"), (run.path, 80, "healthy"), (lost, 140, "collapsed")):
        alarms = [] if state == "healthy" else [{"signal": "S4", "level": "on", "reason": f"KL of step {step} " * 9}]
        with (path / "alarms.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "state": state, "alarms": alarms}) + "\n")
    run.note(guard={"state": "healthy", "off": [], "rollbacks": [{"at": 150, "to": 100, "reasons": ["KL"]}]})
    run.finish()
    return write_report(run.path)


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_alarms_are_seen_and_read(browser: Browser, saved: Path, width: int, scheme: Scheme) -> None:
    with Visit(browser, saved, width, scheme) as visit:
        page = visit.page
        assert page.evaluate("document.documentElement.scrollWidth") == width
        section = page.locator("#stability")
        assert "The guard went back from step 150 to step 100" in section.locator(".story").inner_text()
        boxes = [section.locator(each).first.bounding_box() for each in (".field .zone", ".field .back", ".gone")]
        assert all(box is not None and box["height"] > 5 for box in boxes)
        grounds = {
            state: section.locator(f".lanes .zone.{state}").first.evaluate("each => getComputedStyle(each).fill")
            for state in ("warn", "collapsed")
        }
        assert len(set(grounds.values())) == 2
        plot = section.locator(".plot").first
        plot.focus()
        page.keyboard.press("Home")
        for _ in range(69):
            page.keyboard.press("ArrowRight")
        tip = page.locator(".tip")
        assert "step 70" in tip.inner_text()
        assert "warning; S4: KL of step 60" in tip.inner_text()
        box = tip.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert visit.trouble == []


def test_lanes_and_charts_share_their_axis(browser: Browser, saved: Path) -> None:
    with Visit(browser, saved) as visit:
        lane = visit.page.locator("#stability .lanes .path").first.bounding_box()
        fields = visit.page.locator("#stability .field")
        assert lane is not None
        assert fields.count() == 5
        for place in range(5):
            field = fields.nth(place).bounding_box()
            assert field is not None
            assert abs(field["x"] - lane["x"]) <= 1.5
