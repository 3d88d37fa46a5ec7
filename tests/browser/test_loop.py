"""The loop in a real browser: chat, regenerate, judge; rank by keyboard; train on it; export; erase."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher
from tests.browser.serving import Parrot, Served, Visit, serving
from tests.unit.train import tiny
from tests.web.conftest import PASSWORD

from heedlm.config import StageConfig
from heedlm.feedback import accounts
from heedlm.feedback.export import collect
from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Message
from heedlm.runs import Run
from heedlm.runs.launch import Launcher
from heedlm.web.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ITEMS = 12
BY_KEYBOARD = 3


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """An application that really starts commands, with a tiny model among its runs."""
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    runs = tmp_path / "runs"
    with Run.create("sft", StageConfig(out=runs, name="start"), argv=["heed"]) as run:
        tiny.folder(run.path / "model", seed=1)
        run.add_output("model", run.path / "model")
    services = Services(runs=runs, models={"parrot": Parrot()}, launcher=Launcher())
    with serving(tmp_path, services) as made:
        yield made


def a_project(served: Served) -> str:
    """Twelve questions with four answers each, for ann to rank."""
    mia, ann = served.person("mia", "manager"), served.person("ann")
    project = served.state.projects.create(mia, "Houses", "rank")
    texts = ("In the red house.", "In the house.", "I do not know.", "no")
    contents = [
        Content(
            prompt=(Message(role="user", content=f"Where does {tiny.NAMES[n % 6]} live? {n}"),),
            answers=tuple(Answer(text=text, model="start") for text in texts),
        )
        for n in range(ITEMS)
    ]
    served.state.projects.add_items(mia, project.id, contents)
    served.state.projects.join(mia, project.id, ann.id)
    return str(project.id)


def chat(browser: Browser, served: Served) -> None:
    """Ask, ask for another answer, and say that it is better."""
    served.person("cara", "chat")
    with Visit(browser, served, "cara") as seen:
        page = seen.tab("/chat")
        page.get_by_label("This conversation may train models").check()
        page.get_by_label("Your message").fill("Where does Ann live?")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("button", name="Another answer").click()
        page.get_by_role("group", name="Compared with the answer before").get_by_role("button", name="Better").click()
        page.wait_for_selector(".judged")
        assert seen.trouble == []


def rank(browser: Browser, served: Served, project: str) -> None:
    """Put the best answer on top of three items by keyboard alone; the rest is said to the store."""
    with Visit(browser, served, "ann") as seen:
        page = seen.tab(f"/annotate/{project}")
        for number in range(BY_KEYBOARD):
            page.wait_for_selector(f"#stage:has-text('live? {number}')")
            task = served.state.assigner.next(served.people["ann"], project)
            place = task.order.index(0)
            page.keyboard.press(str(place + 1))
            for _ in range(place):
                page.keyboard.press("Shift+ArrowUp")
            if place == 0:  # what nobody has moved is asked about
                page.keyboard.press("Shift+ArrowDown")
                page.keyboard.press("Shift+ArrowUp")
            page.keyboard.press("Control+Enter")
            # The page takes the next task when this one is acknowledged.
            page.locator(f"#stage:has-text('live? {number}')").wait_for(state="detached")
            reply = served.state.assigner.task(served.people["ann"], task.id).reply
            assert reply is not None
            assert reply["ranks"][0] == 1
            assert reply["ranks"].count(1) == 1
        assert seen.trouble == []
    ann = served.people["ann"]
    while (task := served.state.assigner.next(ann, project)) is not None:
        ranks = [answer + 1 for answer in task.order]
        served.state.assigner.submit(ann, task.id, {"ranks": ranks}, key=f"key {task.id}", base=0, seconds=2)


@pytest.mark.slow
def test_from_chat_and_ranks_to_a_reward_model(browser: Browser, served: Served) -> None:
    project = a_project(served)
    chat(browser, served)
    said = collect(served.state.database, "chat")
    assert [row.ranks for row in said.rows] == [(2, 1)]  # type: ignore[attr-defined]
    rank(browser, served, project)
    with Visit(browser, served, "mia") as seen:
        page = seen.page
        page.goto(f"/projects/{project}/train")
        seen.shot("train")
        page.get_by_role("button", name="Start training").click()
        page.wait_for_selector(".job[data-state=done]", timeout=180_000)
        with page.expect_download() as loading:
            page.get_by_role("button", name="Export").click()
        rows = [json.loads(line) for line in Path(loading.value.path()).read_text(encoding="utf-8").splitlines()]
        assert len(rows) == ITEMS
        assert {row["annotator"][:7] for row in rows} == {"person-"}
        seen.shot("trained")
        page.get_by_role("link", name="Curves and answers").click()
        page.wait_for_selector("#curves svg")
        assert f"{ITEMS} labels of 1 people in Houses" in page.locator("main").inner_text()
        assert seen.trouble == []
    (trained,) = (served.state.services.runs / "reward").iterdir()
    run = Run.open(trained)
    assert run.info.status == "complete"
    assert run.info.results["prompts"] == ITEMS
    with Visit(browser, served, "ann") as seen:
        page = seen.page
        page.goto("/account")
        page.get_by_role("link", name="Delete my data").click()
        page.get_by_label("Your password, to be sure that it is you").fill(PASSWORD)
        page.get_by_role("button", name="Delete everything").click()
        page.wait_for_selector("h1:has-text('The data are deleted')")
        assert f"reward/{run.name}" in page.locator("main").inner_text()
        assert seen.trouble == []
    assert collect(served.state.database, project).rows == []


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(browser: Browser, served: Served, language: str, width: int) -> None:
    project = a_project(served)
    for name in ("mia", "olga"):
        served.state.accounts.change(served.people[name].id, {"language": language})
    ann = served.people["ann"]
    pages = {
        "train": f"/projects/{project}/train",
        "train-chat": "/projects/chat/train",
        "jobs": "/jobs",
        "erase-me": "/account/erase",
        "erase": f"/people/{ann.id}/erase",
        "erasures": "/erasures",
        "account": "/account",
        "people": "/people",
    }
    with Visit(browser, served, "olga", width=width, bypass_csp=True) as seen:
        for name, path in pages.items():
            seen.page.goto(path)
            assert seen.axe() == [], name
            assert seen.wide() == 0, name
            seen.shot(f"{name}-{language}-{width}")
        assert seen.trouble == []
