"""Annotating in a real browser: keyboard, drag, drafts, two tabs, no network, Chinese input, time, leases."""

import re

from tests.browser.frogs import TEXTS, content, replies, work


def shown(page):
    """The texts of the cards from the best down."""
    return page.locator(".tiers .answer > .said").all_inner_texts()


def until(page, condition, seconds=10):
    """Wait for something outside the page."""
    for _ in range(int(seconds * 20)):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come to pass")


def settled(page):
    page.locator("#kept").get_by_text("Draft saved").wait_for()


def sent(page):
    page.get_by_text("Handed in.").first.wait_for()


def test_four_answers_are_ranked_with_the_keyboard_alone(served, visit):
    guideline = "Prefer what is true over what sounds well.\n\nIf two are equally true, prefer the shorter one."
    path = work(served, "rank", [content(critiques=("",) * 3 + ("True, and says why at night.",))], guideline=guideline)
    texts = TEXTS["en"][1]
    wanted = [texts[3], texts[0], texts[2], texts[1]]  # the last two are tied
    with visit("ann", path, height=840) as ann:
        page = ann.page
        page.locator(".tiers .answer").first.wait_for()
        for target, text in enumerate(wanted):
            card = page.locator(".answer", has_text=text)
            page.keyboard.press(str(int(card.get_attribute("data-place")) + 1))
            assert card.evaluate("card => card === document.activeElement")
            while shown(page).index(text) > target:
                page.keyboard.press("Shift+ArrowUp")
        assert shown(page) == wanted
        page.keyboard.press("=")
        assert page.locator(".tier.tie .answer").count() == 2
        page.keyboard.press("z")
        assert page.locator(".tier.tie").count() == 0
        page.keyboard.press("=")
        page.keyboard.press("ArrowUp")
        ann.shot("annotate", whole=False)  # docs/annotate.png
        page.keyboard.press("Control+Enter")
        page.get_by_role("heading", name="You have done all there is for you").wait_for()
        assert ann.trouble == []
    assert replies(served, path) == [{"ranks": [2, 3, 3, 1]}]


def test_ranking_by_dragging(served, visit):
    path = work(served)
    with visit("ann", path, height=1200) as ann:
        page = ann.page
        page.locator(".tiers .answer").first.wait_for()
        first, second, third, fourth = shown(page)

        def drag(text, place, share):
            grip = page.locator(".answer", has_text=text).locator(".grip").bounding_box()
            tier = page.locator(".tier").nth(place).bounding_box()
            page.mouse.move(grip["x"] + 8, grip["y"] + 8)
            page.mouse.down()
            page.mouse.move(grip["x"] + 20, grip["y"] + 20)
            page.mouse.move(tier["x"] + 200, tier["y"] + share * tier["height"], steps=4)
            page.mouse.up()

        drag(fourth, 0, 0.05)
        assert shown(page) == [fourth, first, second, third]
        drag(first, 0, 0.5)
        assert page.locator(".tier.tie").inner_text().count("Answer") == 2
        assert page.locator(".tier").count() == 3
        drag(fourth, 2, 0.95)
        assert shown(page) == [first, second, third, fourth]
        page.locator("#submit").click()
        sent(page)
    texts = TEXTS["en"][1]
    assert replies(served, path)[0]["ranks"] == [[first, second, third, fourth].index(text) + 1 for text in texts]


def test_a_draft_survives_a_reload_and_the_loss_of_the_network(served, visit):
    path = work(served, "write", [content(kind="write", answers=[])])
    with visit("ann", path) as ann:
        page = ann.page
        page.get_by_label("Your answer").fill("Frogs croak")
        settled(page)
        page.reload()
        box = page.get_by_label("Your answer")
        box.wait_for()
        assert box.input_value() == "Frogs croak"
        ann.context.set_offline(True)
        box.fill("Frogs croak at night")
        page.get_by_text("Kept in this browser").wait_for()
        ann.context.set_offline(False)
        settled(page)
        page.evaluate("localStorage.clear()")
        page.reload()
        page.get_by_label("Your answer").wait_for()
        assert page.get_by_label("Your answer").input_value() == "Frogs croak at night"


def test_what_is_kept_in_the_browser_is_there_without_the_server(served, visit):
    """The page is closed before the server ever got the draft."""
    path = work(served, "write", [content(kind="write", answers=[])])
    with visit("ann", path) as ann:
        page = ann.page
        page.get_by_label("Your answer").wait_for()
        ann.context.route("**/draft", lambda route: route.abort())
        page.get_by_label("Your answer").fill("unsent")
        page.get_by_text("Kept in this browser").wait_for()
        page.reload()
        page.get_by_label("Your answer").wait_for()
        assert page.get_by_label("Your answer").input_value() == "unsent"
        ann.context.unroute("**/draft")
        page.get_by_label("Your answer").fill("unsent, then sent")
        settled(page)
        assert page.evaluate("Object.keys(localStorage).filter(key => key.includes('draft')).length") == 0


def test_a_reply_is_handed_in_once_whatever_the_network_does(served, visit):
    path = work(served, "thumb", count=2)
    with visit("ann", path) as ann:
        page = ann.page
        page.get_by_role("radio", name="Bad").wait_for()
        lost = []

        def lose(route):
            """The server takes the reply; the browser never hears of it."""
            if len(lost) < 2:
                lost.append(route.fetch().status)
                route.abort()
            else:
                route.continue_()

        ann.context.route("**/submit", lose)
        page.keyboard.press("2")
        page.locator("#submit").click()
        page.get_by_text("Not handed in yet").wait_for()
        sent(page)
        page.locator(".conversation").get_by_text("question 1").wait_for()
    assert lost == [200, 200]
    assert replies(served, path) == [{"up": False, "reason": ""}]


def test_a_reply_that_was_not_acknowledged_is_sent_after_a_reload(served, visit):
    path = work(served, "thumb", count=2)
    with visit("ann", path) as ann:
        page = ann.page
        page.get_by_role("radio", name="Good").click()
        ann.context.route("**/submit", lambda route: route.abort())
        page.locator("#submit").click()
        page.get_by_text("Not handed in yet").wait_for()
        assert replies(served, path) == []
        ann.context.unroute("**/submit")
        page.reload()
        page.locator(".conversation").get_by_text("question 1").wait_for()
    assert replies(served, path) == [{"up": True, "reason": ""}]


def test_two_tabs_and_neither_is_lost(served, visit):
    path = work(served, "thumb")
    with visit("ann", path) as ann:
        one, two = ann.page, ann.tab(path)
        for tab in (one, two):
            tab.get_by_text("open in another tab as well").wait_for()
        one.get_by_role("radio", name="Good").click()
        one.locator("#submit").click()
        one.get_by_role("heading", name="You have done all").wait_for()
        two.get_by_role("radio", name="Bad").click()
        two.get_by_label("Why?").fill("I changed my mind")
        two.locator("#submit").click()
        two.get_by_role("heading", name="answered in another tab").wait_for()
        assert two.locator("#theirs-said").inner_text() == "Good"
        assert two.locator("#mine-said").inner_text() == "Bad: I changed my mind"
        assert ann.axe(two) == []
        ann.shot("annotate-conflict", page=two, whole=False)
        two.get_by_role("button", name="Keep the saved one").click()
        two.get_by_role("heading", name="You have answered this").wait_for()
        assert two.get_by_role("radio", name="Good").get_attribute("aria-checked") == "true"
        two.locator("#undo").click()
        assert two.get_by_label("Why?").input_value() == "I changed my mind"
        two.locator("#submit").click()
        two.get_by_text("Corrected: version 2.").wait_for()
        assert [text for text in ann.trouble if "409" not in text] == []
    assert replies(served, path) == [{"up": False, "reason": "I changed my mind"}]


def test_the_last_task_is_opened_again_and_corrected(served, visit):
    path = work(served, "pair", count=2)
    with visit("ann", path) as ann:
        page = ann.page
        page.locator(".pair").wait_for()
        page.keyboard.press("5")
        page.keyboard.press("Control+Enter")
        page.locator(".conversation").get_by_text("question 1").wait_for()
        page.keyboard.press("b")
        page.get_by_role("heading", name="You have answered this").wait_for()
        assert page.get_by_role("radio", name="About the same").get_attribute("aria-checked") == "true"
        page.keyboard.press("ArrowLeft")
        page.locator("summary", has_text="Versions").click()
        page.locator(".versions li").wait_for()
        ann.shot("annotate-correct")
        page.keyboard.press("Control+Enter")
        page.get_by_text("Corrected: version 2.").wait_for()
        page.goto(f"{path}/done")
        assert "A is hardly better" in page.locator("#rows").inner_text()
        page.locator("#rows a").click()
        page.get_by_role("heading", name="You have answered this").wait_for()
        assert ann.trouble == []
    (task,) = served.state.assigner.done(served.people["ann"], path.rsplit("/", 1)[1])
    assert task.reply == {"better": task.order[0], "strength": "negligibly"}
    assert task.version == 2


COMPOSE = """target => {
    const fire = (name, kind, more) => target.dispatchEvent(new kind(name, {bubbles: true, cancelable: true, ...more}));
    fire('compositionstart', CompositionEvent, {data: ''});
    for (const key of ['z', 's', '?', '1', 'b', 'd', 'x'])
        fire('keydown', KeyboardEvent, {key, isComposing: true, keyCode: 229});
    fire('keydown', KeyboardEvent, {key: 'Enter', ctrlKey: true, isComposing: true, keyCode: 229});
    fire('compositionend', CompositionEvent, {data: '在'});
}"""


def test_composing_chinese_and_typing_trigger_nothing(served, visit):
    path = work(served, "thumb")
    with visit("ann", path) as ann:
        page = ann.page
        reason = page.get_by_label("Why?")
        reason.wait_for()
        for target in (reason, page.locator("body")):
            target.evaluate(COMPOSE)
        assert page.locator("dialog[open]").count() == 0
        assert page.locator("[aria-checked=true]").count() == 0
        reason.press_sequentially("1 s z d b ? 2")
        assert page.locator("dialog[open]").count() == 0
        assert page.locator("[aria-checked=true]").count() == 0
        assert reason.input_value() == "1 s z d b ? 2"
        page.locator("#task").focus()
        page.keyboard.press("2")
        assert page.get_by_role("radio", name="Bad").get_attribute("aria-checked") == "true"
        page.keyboard.press("?")
        assert page.locator("#keys[open]").count() == 1
        page.keyboard.press("1")  # inert beneath the dialog
        page.keyboard.press("Escape")
        assert page.get_by_role("radio", name="Bad").get_attribute("aria-checked") == "true"
    assert replies(served, path) == []


def test_differences_are_by_word_and_in_chinese_by_character(served, visit):
    path = work(served)
    with visit("ann", path) as ann:
        page = ann.page
        page.locator(".task-bar").wait_for()
        found = page.evaluate("""async () => {
            const { difference } = await import("/static/annotate/difference.js");
            return [difference("Frogs sing at night.", "Frogs croak at night."),
                    difference("青蛙在夜里叫", "青蛙在夜里唱歌"), difference("same", "same"), difference("", "new"),
                    difference("a ".repeat(9000), "b ".repeat(9000)).length];
        }""")
        assert found[0] == [["both", "Frogs "], ["first", "sing"], ["second", "croak"], ["both", " at night."]]
        assert found[1] == [["both", "青蛙在夜里"], ["first", "叫"], ["second", "唱歌"]]
        assert found[2:] == [[["both", "same"]], [["second", "new"]], 2]
        page.keyboard.press("d")
        panel = page.locator("#difference")
        panel.locator("select").first.select_option("2")
        panel.locator("select").last.select_option("3")
        assert re.findall(r"Answer \d", " ".join(panel.locator("h3").all_inner_texts())) == ["Answer 3", "Answer 4"]


def test_time_counts_while_the_person_is_active(served, visit):
    path = work(served, "thumb")
    with visit("ann") as ann:
        page = ann.page
        page.clock.install(time=0)
        page.clock.pause_at(1000)  # or the time that the machine takes would count too
        page.goto(path)
        page.locator(".task-bar").wait_for()
        page.mouse.move(300, 300)
        page.clock.run_for(10_000)
        assert page.locator("#spent").inner_text() == "0:10"
        page.clock.run_for(600_000)  # nobody is there: after a minute nothing counts
        assert page.locator("#spent").inner_text() in ("0:59", "1:00")
        page.mouse.move(310, 300)
        page.keyboard.press("1")
        page.clock.run_for(3_000)
        page.locator("#submit").click()
        page.clock.run_for(1_000)
        until(page, lambda: replies(served, path))
    with served.state.database.read() as connection:
        seconds = connection.exec_driver_sql("SELECT seconds FROM labels").scalar()
    assert 60 <= seconds <= 75


def test_guidelines_that_change_are_shown_with_the_next_task(served, visit):
    path = work(served, "thumb", count=2, guideline="Be kind.")
    with visit("ann", path) as ann:
        page = ann.page
        page.get_by_role("radio", name="Good").wait_for()
        assert page.locator("#guidelines").inner_text().split("\n")[-1] == "Be kind."
        served.state.projects.guide(served.people["olga"], path.rsplit("/", 1)[1], "Be brief.")
        page.keyboard.press("g")
        page.keyboard.press("1")
        page.keyboard.press("Control+Enter")
        page.get_by_text("The guidelines have changed.").wait_for()
        assert page.locator("#guideline-text").inner_text() == "Be brief."
        assert page.locator("#guideline-version").inner_text() == "version 2"
        assert page.locator("#counts").inner_text() == "1 in this session · 1 in all · 1 left"


def test_a_lease_is_renewed_runs_out_and_is_lost(served, visit):
    path = work(served, "thumb", people=("ann", "bob"), settings={"lease_minutes": 0.1})
    project = path.rsplit("/", 1)[1]

    def lease():
        with served.state.database.read() as connection:
            return connection.exec_driver_sql("SELECT expires - leased FROM assignments").scalar()

    with visit("ann", path) as ann:
        page = ann.page
        page.get_by_role("radio", name="Bad").wait_for()
        until(page, lambda: lease() > 6.5)  # ann is here, so it was renewed
        page.get_by_text("Your time for this task ran out").wait_for()
        served.state.projects.change(served.people["olga"], project, {"settings": {"lease_minutes": 30}})
        taken = served.state.assigner.next(served.people["bob"], project)
        assert taken is not None
        page.keyboard.press("2")
        page.keyboard.press("Control+Enter")
        page.get_by_text("it went to somebody else").wait_for()
        assert page.get_by_role("radio", name="Bad").get_attribute("aria-checked") == "true"
        page.get_by_role("button", name="Next task").click()
        page.get_by_role("heading", name="Nothing for you at the moment").wait_for()
    assert replies(served, path) == []
