"""The project pages in a real browser: making one, looking after it, both languages, every width, hostile text."""

import random
import re

import pytest

from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Message

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}<svg onload=alert(3)>"
QUESTIONS = {
    "en": ["Why do frogs croak at night?", "How do I water a cactus?", "Write a line about the sea."],
    "zh": ["青蛙为什么在夜里叫？", "仙人掌怎么浇水？", "写一句关于大海的话。"],
}
ANSWERS = {
    "en": [["To call a mate.", "They are sad.", "Because night is cool and damp, and calls carry far."],
           ["Once a month, and not at all in winter.", "Every day, a lot.", "Rarely."],
           ["The sea keeps no diary and forgets no shore.", "Sea sea sea.", "Water is wet."]],
    "zh": [["为了求偶。", "因为它们很伤心。", "夜里凉爽潮湿，叫声传得更远。"],
           ["每月一次，冬天不浇。", "天天多浇。", "很少浇。"],
           ["大海不写日记，却记得每一处岸。", "海海海。", "水是湿的。"]],
}  # fmt: skip


def contents(language, count=24):
    found = []
    for place in range(count):
        which = place % 3
        texts = ANSWERS[language][which]
        found.append(
            Content(
                prompt=(Message(role="user", content=f"{QUESTIONS[language][which]} ({place + 1})"),),
                answers=tuple(Answer(text=text, model=f"model-{number}") for number, text in enumerate(texts)),
            )
        )
    return found


def team_at_work(served, language="en", name="Frogs and cacti"):
    """A project of four people, one of whom clicks at random; gold, a disputed item, several days."""
    olga = served.people["olga"]
    names = ["Ann", "Bob", "Chen", "Dora"] if language == "en" else ["安妮", "小波", "陈晨", "朵拉"]
    people = [served.person(each, group="AB"[n % 2]) for n, each in enumerate(names)]
    settings = {"adjudicate_below": 0.5, "cost": 0.4, "gold_every": 4}
    rules = "Helpful first.\nThen honest." if language == "en" else "先看是否有用。\n再看是否诚实。"
    project = served.state.projects.create(olga, name, "rank", overlap=4, settings=settings, guideline=rules)
    listed = contents(language, 32)
    served.state.projects.add_items(olga, project.id, listed[:28])
    gold = [{"ranks": [1, 3, 2]}] * 4
    served.state.projects.add_items(olga, project.id, listed[28:], purpose="gold", expected=gold)
    served.state.projects.guide(
        olga, project.id, rules.replace("\n", "\n" + ("Short is good.\n" if language == "en" else "简短为佳。\n"))
    )
    for person in people:
        served.state.projects.join(olga, project.id, person.id)
    rng = random.Random(3)
    for number, person in enumerate(people):
        for turn in range(40):
            task = served.state.assigner.next(person, project.id)
            if task is None or (number == 0 and turn > 20):
                break
            ranks = rng.sample([1, 2, 3], 3) if number == 3 or rng.random() < 0.2 else [1, 3, 2]
            shown = project.kind.shown({"ranks": ranks}, task.order)
            seconds = 4 if number == 3 else rng.lognormvariate(3.6, 0.4)
            served.state.assigner.submit(person, task.id, shown, key=f"{task.id}-key", base=0, seconds=seconds)
    return project


def pages_of(served, project):
    with served.state.database.read() as connection:
        item = connection.exec_driver_sql("SELECT id FROM items WHERE purpose = 'ordinary' ORDER BY place").scalar()
        gold = connection.exec_driver_sql("SELECT id FROM items WHERE purpose = 'gold' ORDER BY place").scalar()
    here = f"/projects/{project.id}"
    return {
        "projects": "/projects",
        "new": "/projects/new",
        "overview": here,
        "items": f"{here}/items",
        "item": f"{here}/items/{item}",
        "gold": f"{here}/items/{gold}",
        "decision": f"{here}/items/{item}/decision",
        "members": f"{here}/members",
        "guidelines": f"{here}/guidelines",
        "agreement": f"{here}/agreement",
        "adjudication": f"{here}/adjudication",
        "settings": f"{here}/settings",
    }


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_is_sound_at_desk_and_phone(served, visit, language):
    served.state.accounts.change(served.people["olga"].id, {"language": language})
    name = "Frogs and cacti" if language == "en" else "青蛙与仙人掌"
    project = team_at_work(served, language, name)
    desk = visit("olga")
    phone = visit("olga", width=390, height=844)
    dark = visit("olga", scheme="dark")
    for title, path in pages_of(served, project).items():
        for view in (desk, phone, dark):
            view.page.goto(path)
        for view, at in ((desk, "desk"), (phone, "phone"), (dark, "dark")):
            view.page.wait_for_load_state("networkidle")  # half a second of silence, for all three at once
            view.shot(f"manage-{title}-{language}-{at}")
            assert view.wide() == 0, (title, at)
        assert desk.axe() == [], title
        assert dark.axe() == [], title
    assert desk.trouble == phone.trouble == dark.trouble == []


def test_a_project_is_made_filled_and_looked_after(served, visit):
    from playwright.sync_api import expect

    view = visit("olga", "/projects")
    page = view.page
    page.get_by_role("link", name="New project").click()
    form = page.locator("form").filter(has=page.get_by_role("button", name="Make the project"))
    form.get_by_label("Name").fill("Ponds")
    form.get_by_label("Choose the better answer").check()
    form.get_by_label("People an item").fill("2")
    form.get_by_text("More settings").click()
    form.get_by_label(re.compile("qualification test")).fill("80")
    form.get_by_role("button", name="Make the project").click()
    page.wait_for_url("**/items")
    (project,) = served.state.projects.mine(served.people["olga"])
    assert (project.kind.name, project.overlap, project.settings.qualify) == ("pair", 2, 0.8)
    rows = '{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}\nbroken <b>\n'
    page.locator("form[data-upload$=items] input[type=file]").set_input_files(
        {"name": "rows.jsonl", "mimeType": "", "buffer": rows.encode()}
    )
    page.get_by_role("button", name="Add", exact=True).first.click()
    page.get_by_text("1 new, 0 there already, 1 set aside.").wait_for()
    assert page.get_by_role("cell", name="broken <b>").count() == 1
    page.get_by_role("link", name="Show the items").click()
    page.get_by_role("link", name="Why?").click()
    page.locator("#purpose-of").select_option("gold")
    page.get_by_role("radio", name=re.compile("A is slightly better|much better")).first.click()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("gold", exact=True).first.wait_for()
    served.person("ann")
    page.get_by_role("link", name="Members").click()
    page.get_by_role("heading", name="Add somebody").locator("..").get_by_label("Name").fill("ann")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="Remove ann").wait_for()
    page.get_by_role("button", name="Make a link").click()
    expect(page.locator(".link input")).to_have_value(re.compile("/join/"))
    page.get_by_role("link", name="Guidelines").click()
    page.locator("textarea[name=text]").fill("Be exact.")
    page.get_by_role("button", name="Save as version 2").click()
    page.get_by_role("button", name="Save as version 3").wait_for()
    assert "Be exact." in page.locator("ins").inner_text()
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("button", name="Close the project").click()
    page.get_by_role("button", name="Open it again").wait_for()
    assert served.state.projects.mine(served.people["olga"])[0].closed is not None
    assert view.trouble == []


def test_a_dispute_is_decided_with_the_parts_of_the_task_page(served, visit):
    project = team_at_work(served)
    view = visit("olga", f"/projects/{project.id}/adjudication")
    waiting = view.page.locator("tbody tr").count()
    assert waiting > 0
    view.page.locator("tbody a").first.click()
    view.page.get_by_role("button", name=re.compile("Move up$")).nth(1).click()
    view.page.get_by_role("button", name="Decide").click()
    view.page.wait_for_url("**/adjudication")
    assert view.page.locator("tbody tr").count() == waiting - 1
    assert view.trouble == []


def test_hostile_text_runs_nothing(served, visit):
    olga = served.people["olga"]
    project = served.state.projects.create(
        olga, HOSTILE[:120], "pair", overlap=2, guideline=HOSTILE, settings={"warn": HOSTILE, "adjudicate_below": 1.0}
    )
    said = Content(prompt=(Message(role="user", content=HOSTILE),),
                   answers=(Answer(text=HOSTILE, model=HOSTILE), Answer(text="no", model=HOSTILE)))  # fmt: skip
    served.state.projects.add_items(olga, project.id, [said], topics=[HOSTILE[:100]])
    people = [served.person(f"{'<img src=x onerror=alert(4)>'}{n}", group="<svg onload=alert(5)>") for n in range(2)]
    for number, person in enumerate(people):
        served.state.projects.join(olga, project.id, person.id)
        task = served.state.assigner.next(person, project.id)
        shown = project.kind.shown({"better": number, "strength": "better"}, task.order)
        served.state.assigner.submit(person, task.id, shown, key=f"{task.id}-key", base=0, seconds=9)
    with served.state.database.read() as connection:
        item = connection.exec_driver_sql("SELECT id FROM items").scalar()
    here = f"/projects/{project.id}"
    ends = ["", "/items", f"/items/{item}", f"/items/{item}/decision", "/members", "/guidelines", "/agreement"]
    # The policy is a second line of defence: the first must hold without it.
    views = [visit("olga", "/projects", bypass_csp=bypassed) for bypassed in (False, True)]
    for end in [*ends, "/adjudication", "/settings"]:
        for view in views:
            view.page.goto(here + end)
        for view in views:
            view.page.wait_for_load_state("networkidle")
            assert view.page.locator("main img, main script, main svg[onload]").count() == 0, end
    assert [view.trouble for view in views] == [[], []]


def test_the_same_text_runs_where_nothing_is_escaped(served, visit):
    view = visit("olga", "/projects", bypass_csp=True)
    view.page.evaluate("text => { document.querySelector('main').innerHTML = text; }", HOSTILE)
    view.page.wait_for_timeout(300)
    assert any(each.startswith("dialog") for each in view.trouble)


def test_what_is_pressed_before_the_scripts_are_there_is_done_when_they_are(served, visit):
    """Found by a slow machine: an early press sent the form the plain way, and the page came back without its link."""
    from playwright.sync_api import expect

    project = team_at_work(served)
    view = visit("olga", "/projects")
    page = view.page
    held = []
    page.route("**/static/manage.js", lambda route: held.append(route))
    page.goto(f"/projects/{project.id}/members", wait_until="commit")
    page.get_by_role("button", name="Make a link").click()
    page.get_by_label("Role: Ann").select_option("manager")
    assert page.evaluate("document.readyState") != "complete", "the press must come before the scripts"
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator(".link input")).to_have_value(re.compile("/join/"))
    assert "?" not in page.url
    page.get_by_text("an owner has to give them another role first").wait_for()
    expect(page.get_by_label("Role: Ann")).to_have_value("annotator")
