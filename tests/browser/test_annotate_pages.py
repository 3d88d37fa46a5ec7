"""The annotation pages in a real browser, for everybody: languages, widths, axe, hostile text."""

import pytest
from tests.browser.frogs import KINDS, TEXTS, content, work

from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Message

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "</script><svg onload=alert(3)>",
    "\"'><iframe srcdoc='<script>alert(4)</script>'>",
    "{{ 7 * 7 }}${alert(5)}",
    "javascript:alert(6)",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_kind_is_for_everybody(served, visit, kind, language):
    """Wide and narrow, light and dark, in both languages: nothing serious for axe, nothing sticks out."""
    served.person("ann", language=language)
    item = content(language, kind, critiques=("Says nothing of the damp.",) * KINDS[kind])
    guideline = "Prefer answers that are true.\n\nIf two are equally true, prefer the shorter."
    path = work(served, kind, [item], guideline=guideline, settings={"critiques_first": language == "zh"})
    with visit("ann", path) as ann:
        page = ann.page
        page.locator(".task-bar").wait_for()
        assert ann.axe() == []
        ann.shot(f"annotate-{kind}-{language}-1280")
        critiques = page.locator("details.critique[open]")
        assert critiques.count() == (KINDS[kind] if language == "zh" else 0)
        page.keyboard.press("c")
        assert critiques.count() == (0 if language == "zh" else KINDS[kind])
        if kind not in ("thumb", "steps"):
            page.keyboard.press("d")
            page.locator("#difference").wait_for()
            ann.shot(f"annotate-{kind}-{language}-difference")
        page.keyboard.press("?")
        assert ann.axe() == []  # with the differences beneath the dialog
        ann.shot(f"annotate-{kind}-{language}-keys", whole=False)
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 390, "height": 844})
        assert ann.wide() == 0
        ann.shot(f"annotate-{kind}-{language}-390")
        page.emulate_media(color_scheme="dark")
        assert ann.axe() == []
        ann.shot(f"annotate-{kind}-{language}-dark")
        assert ann.trouble == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_lists_warnings_and_empty_pages_are_for_everybody(served, visit, language):
    served.person("ann", language=language)
    work(served, count=3, name="Ranking frogs")
    warned = work(served, "rate", name="Frogs at war", settings={"warn": "Some answers tell of frogs being hurt."})
    topic = work(served, "thumb", [], name="Hard topics")
    olga, project = served.people["olga"], topic.rsplit("/", 1)[1]
    served.state.projects.add_items(olga, project, [content(kind="thumb")], topics=["war", "illness"])
    work(served, "pair", [], name="Nothing yet")
    with visit("ann", "/annotate") as ann:
        page = ann.page
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert ann.axe() == []
            assert ann.wide() == 0
            ann.shot(f"annotate-list-{language}-{width}")
        page.goto(warned)
        page.locator(".notice").wait_for()
        assert "frogs being hurt" in page.locator(".notice").inner_text()
        assert page.locator(".conversation").count() == 0
        assert ann.axe() == []
        ann.shot(f"annotate-warning-{language}")
        assert served.state.assigner.done(served.people["ann"], warned.rsplit("/", 1)[1]) == []
        page.locator(".notice .primary").click()
        page.locator(".conversation").wait_for()
        page.reload()  # it is asked once
        page.locator(".conversation").wait_for()
        page.goto(topic)
        page.locator(".notice").wait_for()
        assert "illness, war" in page.locator(".notice").inner_text()
        assert TEXTS["en"][0] not in page.content()
        assert ann.axe() == []
        ann.shot(f"annotate-topic-{language}")
        page.locator(".notice .primary").click()
        page.locator(".conversation").wait_for()
        page.keyboard.press("s")
        assert ann.axe() == []
        ann.shot(f"annotate-skip-{language}", whole=False)
        page.locator("#skipping input").first.check()
        page.locator("#skip-now").click()
        page.locator(".notice").wait_for()
        assert ann.axe() == []
        ann.shot(f"annotate-nothing-{language}")
        page.goto(f"{topic}/done")
        assert ann.axe() == []
        assert ann.trouble == []


def test_hostile_text_is_only_text(served, visit):
    served.person("<img src=x onerror=alert(7)>")
    name = next(person for person in served.people if person.startswith("<img"))
    with_all = Content(
        prompt=(Message(role="system", content=HOSTILE[4]), Message(role="user", content="\n".join(HOSTILE))),
        answers=tuple(Answer(text=text) for text in HOSTILE[:3]),
        critiques=tuple(HOSTILE[1:4]),
    )
    more = {"guideline": "\n".join(HOSTILE), "settings": {"warn": HOSTILE[2], "critiques_first": True}}
    path = work(served, "rank", [], name=HOSTILE[0], people=(name,), **more)
    olga, project = served.people["olga"], path.rsplit("/", 1)[1]
    served.state.projects.add_items(olga, project, [with_all], topics=HOSTILE[:2])
    with visit(name, "/annotate") as guest:
        page = guest.page
        assert HOSTILE[0] in page.locator(".work").inner_text()
        page.goto(path)
        page.locator(".notice .primary").click()
        page.get_by_role("button", name="Show it").click()
        page.locator(".tiers .answer").first.wait_for()
        shown_text = page.locator("main").inner_text()
        for text in HOSTILE:
            assert text in shown_text
        page.keyboard.press("d")
        page.locator("#difference").wait_for()
        page.keyboard.press("1")
        page.keyboard.press("Shift+ArrowDown")
        page.get_by_label("These cannot be ranked").check()
        page.get_by_label("Why can they").fill(HOSTILE[1])
        page.locator("#submit").click()
        page.get_by_text("Handed in.").first.wait_for()
        page.goto(f"{path}/done")
        assert HOSTILE[1] in page.locator("#rows").inner_text()
        assert page.locator("main img, main svg, main iframe, main script").count() == 0
        assert guest.trouble == []
