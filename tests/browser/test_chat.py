"""Chat in a real browser: the whole way of an answer and its verdict, keyboard, hostile text, both languages."""

import threading

import pytest

from heedlm.feedback.verdicts import Verdicts
from heedlm.web.services import LeftOut

HOSTILE = (
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "<svg onload=window.ran=1>",
    "</script><script>window.ran = 1</script>",
    "\"><iframe srcdoc='<script>parent.ran = 1</script>'>",
    "{{ 7 * 7 }} ${7 * 7} javascript:window.ran=1",
    "<a href='javascript:window.ran=1' autofocus onfocus=window.ran=1>x</a>",
    "\u202e<b>right to left</b>\u0000",
)


class Says:
    """A model that says these, one answer after the other; what is an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def reply(self, messages, seed):
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            yield "Half an "
            raise said
        yield from said if isinstance(said, list) else [said]


@pytest.fixture
def ann(served, visit):
    """Ann's browser at a new conversation, and models that she may talk to."""
    served.person("ann", "chat")
    served.state.services.models["frog"] = Says("They croak.", "Ribbit!", "Croak, croak.")

    def go(path="/chat", **more):
        opened = visit("ann", path, **more)
        opened.page.set_default_timeout(15_000)
        return opened

    return go


def ask(page, text, model="frog"):
    page.get_by_role("combobox", name="Model").select_option(model)
    before = page.locator(".turn.model").count()
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")
    page.locator(".turn.model:not([data-state=writing])").nth(before).wait_for()


def test_chat_regenerate_judge_and_reload(served, ann):
    with ann() as visit:
        page = visit.page
        ask(page, "How do frogs sing?")
        assert page.locator(".turn.model .said").inner_text() == "They croak."
        assert page.title().startswith("How do frogs sing?")
        page.get_by_label("This conversation may train models").check()
        page.get_by_text("On: whoever runs this site").wait_for()
        page.get_by_role("button", name="Another answer").click()
        page.locator("#log").get_by_text("Is this answer better or worse than the one before?").wait_for()
        assert page.locator(".turn.model .said").inner_text() == "Ribbit!"
        page.keyboard.press("1")
        page.locator("#log").get_by_text("You said: better than the one before.").wait_for()
        ask(page, "And at night?")
        page.reload()
        page.locator("#log").get_by_text("Croak, croak.").wait_for()
        assert page.locator(".turn .said").all_inner_texts() == [
            "How do frogs sing?",
            "Ribbit!",
            "And at night?",
            "Croak, croak.",
        ]
        assert page.locator("#log").get_by_text("2/2").is_visible()
        assert page.locator("#log").get_by_text("You said: better than the one before.").is_visible()
        assert page.get_by_label("This conversation may train models").is_checked()
        page.get_by_role("button", name="The version before").click()
        assert page.locator(".turn.model .said").first.inner_text() == "They croak."
        visit.shot("chat-after-reload")
        assert visit.trouble == []
    (record,) = Verdicts(served.state.database).records()
    assert [answer.text for answer in record.answers] == ["They croak.", "Ribbit!"]
    assert record.pairs() == [(1, 0)]


def test_stop_reload_in_the_middle_and_go_on(ann):
    with ann() as visit:
        page = visit.page
        page.get_by_role("combobox", name="Model").select_option("slow parrot")
        page.get_by_label("Your message").fill("word " * 60)
        page.keyboard.press("Enter")
        page.locator(".turn.model .said", has_text="says:").wait_for()
        page.reload()
        page.locator(".turn.model[data-state=writing] .said", has_text="says:").wait_for()
        page.keyboard.press("Escape")
        page.locator("#log").get_by_text("Stopped.").wait_for()
        assert "says: word" in page.locator(".turn.model .said").inner_text()
        assert page.get_by_role("button", name="Send").is_visible()
        ask(page, "Go on")
        assert visit.trouble == []


def test_edit_versions_and_thumbs_by_keyboard(served, ann):
    with ann() as visit:
        page = visit.page
        ask(page, "How do frogs sing?")
        page.get_by_role("button", name="Edit").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Control+A")
        page.keyboard.type("How do toads sing?")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.locator("#log").get_by_text("Ribbit!").wait_for()
        page.get_by_role("button", name="The version before").focus()
        page.keyboard.press("Enter")
        page.locator("#log").get_by_text("They croak.").wait_for()
        page.get_by_role("button", name="Bad answer").focus()
        page.keyboard.press("Enter")
        page.get_by_label("What was wrong?").wait_for()
        page.keyboard.type("too short")
        page.keyboard.press("Enter")
        page.locator("[aria-pressed=true]").wait_for()
        page.get_by_label("What was wrong?").wait_for(state="detached")
        assert page.evaluate("document.activeElement.title") == "Bad answer"
        page.get_by_role("button", name="Bad answer").click()
        page.locator("[aria-pressed=true]").wait_for(state="detached")
        assert visit.trouble == []


def test_the_question_can_be_dismissed_and_a_mind_changed(ann):
    with ann() as visit:
        page = visit.page
        ask(page, "How do frogs sing?")
        page.get_by_role("button", name="Another answer").click()
        box = page.get_by_role("group", name="Compared with the answer before")
        box.wait_for()
        page.keyboard.press("Escape")
        box.wait_for(state="detached")
        page.get_by_role("button", name="Another answer").click()
        page.get_by_role("button", name="It is worse").click()
        page.get_by_role("button", name="Change").click()
        page.get_by_role("button", name="About the same").click()
        page.locator("#log").get_by_text("You said: about the same as the one before.").wait_for()
        assert visit.trouble == []


def test_nothing_is_sent_while_chinese_is_composed(ann):
    with ann() as visit:
        page = visit.page
        field = page.get_by_label("Your message")
        field.fill("猫")
        field.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
        field.dispatch_event("keydown", {"key": "Enter", "shiftKey": True, "bubbles": True})
        assert page.locator(".turn").count() == 0
        field.dispatch_event("keydown", {"key": "Enter", "bubbles": True})
        page.locator(".turn").first.wait_for()


def test_a_failure_is_told_and_tried_again(served, ann):
    served.state.services.models["broken"] = Says(RuntimeError("no memory"), "Here it is.")
    served.state.services.models["short"] = Says([LeftOut(2), "I forgot."])
    with ann() as visit:
        page = visit.page
        page.get_by_role("combobox", name="Model").select_option("broken")
        page.get_by_label("Your message").fill("Hello?")
        page.get_by_role("button", name="Send").click()
        page.locator("#log").get_by_text("There is no answer:").wait_for()
        visit.shot("chat-failed")
        page.get_by_role("button", name="Try again").click()
        page.locator("#log").get_by_text("Here it is.").wait_for()
        assert page.get_by_role("group", name="Compared with the answer before").count() == 0
        ask(page, "And then?", "short")
        assert page.locator("#log").get_by_text("it did not see the first 2 messages").is_visible()
        assert visit.trouble == []


def test_rename_search_and_delete(ann):
    with ann() as visit:
        page = visit.page
        ask(page, "How do frogs sing?")
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("Title").fill("Singing")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("heading", name="Singing", level=1).wait_for()
        page.get_by_role("link", name="New conversation").click()
        ask(page, "Where do newts live?")
        page.get_by_role("searchbox").fill("frogs")
        page.get_by_role("link", name="Where do newts live?").wait_for(state="detached")
        page.get_by_role("link", name="Singing").click()
        page.get_by_role("heading", name="Singing", level=1).wait_for()
        page.get_by_role("button", name="Delete", exact=True).click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Keep it").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        dialog.get_by_role("button", name="Delete").click()
        page.get_by_role("heading", name="New conversation", level=1).wait_for()
        page.locator("#history a").first.wait_for()
        assert page.locator("#history a").count() == 1
        page.get_by_role("button", name="Delete all my conversations").click()
        dialog.get_by_role("button", name="Delete").click()
        page.get_by_text("Nothing here yet.").wait_for()
        assert visit.trouble == []


def test_hostile_text_runs_nothing(served, ann):
    evil = "\n".join(HOSTILE)
    served.state.services.models["evil <img src=x onerror=window.ran=1>"] = Says([*HOSTILE])
    with ann() as visit:
        page = visit.page
        ask(page, evil, "evil <img src=x onerror=window.ran=1>")
        page.get_by_role("button", name="Another answer").click()
        page.get_by_role("group", name="Compared with the answer before").wait_for()
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("Title").fill(HOSTILE[1])
        page.get_by_role("button", name="Save").click()
        page.get_by_role("heading", name="<img", level=1).wait_for()
        page.reload()
        page.get_by_role("heading", name="<img", level=1).wait_for()
        page.locator(".turn.model").wait_for()
        said = page.locator(".turn.model .said")
        assert "".join(HOSTILE).replace("\0", "\ufffd") == said.evaluate("element => element.textContent")
        assert page.locator(".said *, #history img, h1 *, option *").count() == 0
        assert page.evaluate("window.ran") is None
        assert visit.trouble == []


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_chat_is_readable_for_everybody(served, visit, language, width, height):
    served.person("li", "chat", language=language)
    frog, question, more = (
        ("小青蛙", "青蛙怎么唱歌？", "晚上呢？")
        if language == "zh"
        else ("frog", "How do frogs sing, and why do so many of them sing at the same time?", "And at night?")
    )
    says = {
        "en": (
            "They croak.",
            "Males call to females by pumping air over their vocal cords.\n\nEach kind has its own call.",
        ),
        "zh": ("呱呱叫。", "雄蛙鼓动鸣囊发出叫声来吸引雌蛙。\n\n每种青蛙都有自己的叫声。"),
    }[language]
    served.state.services.models.clear()
    served.state.services.models[frog] = Says(*says)
    with visit("li", "/chat", width=width, height=height) as opened:
        page = opened.page
        assert opened.axe() == []
        opened.shot(f"chat-empty-{language}-{width}", whole=False)
        for place, text in enumerate((question, more)):
            page.locator("#question").fill(text)
            page.keyboard.press("Enter")
            page.locator(".turn.model[data-state=whole]").nth(place).wait_for()
        page.locator('[data-key^="again"]').last.click()
        page.locator(".judge").wait_for()
        page.locator('[data-key^="up"]').first.click()
        page.locator(".reason").wait_for()
        assert opened.axe() == []
        assert opened.wide() == 0
        assert page.locator("#past").bounding_box()["width"] in (272, width)
        opened.shot(f"chat-{language}-{width}", whole=False)
        page.locator("#delete").click()
        page.get_by_role("dialog").wait_for()
        assert opened.axe() == []
        opened.shot(f"chat-delete-{language}-{width}", whole=False)
        page.keyboard.press("Escape")
        assert opened.trouble == []


def test_dark_mode_keeps_its_contrast(served, ann):
    with ann(scheme="dark") as visit:
        ask(visit.page, "How do frogs sing?")
        visit.page.get_by_role("button", name="Another answer").click()
        visit.page.locator(".judge").wait_for()
        assert visit.axe() == []
        visit.shot("chat-dark", whole=False)


def test_who_waits_sees_the_place_in_the_line(served, ann, visit):
    gate = threading.Event()

    class Waits:
        def reply(self, messages, seed):
            gate.wait(20)
            yield "done"

    served.state.services.models["one"] = Waits()
    served.person("bob", "chat")
    with ann() as first, visit("bob", "/chat") as second:
        for opened in (first, second):
            opened.page.get_by_role("combobox", name="Model").select_option("one")
            opened.page.get_by_label("Your message").fill("Hello?")
            opened.page.keyboard.press("Enter")
            opened.page.locator(".turn.model").wait_for()
        second.page.locator("#log").get_by_text("you are number 1 in line").wait_for()
        gate.set()
        for opened in (first, second):
            opened.page.locator("#log").get_by_text("done").wait_for()
        assert first.trouble == second.trouble == []
