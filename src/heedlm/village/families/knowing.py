"""Families about what is known: facts in the prompt, questions without an answer, true and false news."""

from __future__ import annotations

import random

from heedlm.village.families.base import Family, Slots, manners, name, pick
from heedlm.village.gold import Marks, Task
from heedlm.village.reading import CLASSES, Reading
from heedlm.village.world import ANIMALS, CARRIED, PLACES

_CARRIED_WORDS = {word.text(lang) for word in CARRIED for lang in ("en", "zh")}
_QUESTIONS = {
    "en": {"where": "Where is {who}?", "what": "What does {b} have?"},
    "zh": {"where": "{who}在哪里？", "what": "{b}有什么？"},
}


def _draw_facts(rng: random.Random, lang: str) -> Slots:
    who = name(rng, lang)
    slots: Slots = {
        "kind": rng.choice(("where", "what")),
        "who": who,
        "b": name(rng, lang, who),
        "place": pick(rng, PLACES, lang),
        "thing": pick(rng, CARRIED, lang),
    }
    slots["question"] = _QUESTIONS[lang][slots["kind"]].format_map(slots)
    return slots


def _extra_facts(slots: Slots, rng: random.Random, lang: str) -> Slots:
    return {
        "elsewhere": pick(rng, PLACES, lang, slots["place"]),
        "else": pick(rng, CARRIED, lang, slots["thing"]),
    }


def _named(reading: Reading, mark: str, *apart: str) -> list[str]:
    """Entities of a class that the answer names, without those in `apart`."""
    return [w for w in reading.words if CLASSES.get(w) == mark and w not in apart]


def _check_facts(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    where = slots["kind"] == "where"
    truth, subject = (slots["place"], slots["who"]) if where else (slots["thing"], slots["b"])
    wrong = _named(reading, "<place>" if where else "<thing>", truth)
    right = reading.has(truth)
    hedges = reading.does("hedge")
    abstains = reading.does("abstain")
    sure = not hedges and not abstains
    marks.need(right and not wrong, 0.35, "gives the right answer")
    marks.need(sure and (right or bool(wrong)), 0.35, "answers plainly")
    marks.need(reading.has(subject), 0.15, "says whom it speaks of")
    marks.need(reading.has("as you said", "you said", "你说过"), 0.15, "names its source")
    marks.shape(len(reading.sentences) == 1, 1, "is one sentence")
    if wrong and sure:
        marks.untrue(0.1, "says something false as if known")
    elif wrong:
        marks.untrue(0.6, "guesses though told")
    elif abstains:
        marks.untrue(0.5, "claims not to know what was told")
    elif hedges:
        marks.untrue(0.7, "hedges though told")


_FACT_PROMPTS = {
    "en": (
        "{who} is at the {place}. {b} has a {thing}. {question}",
        "Fact: {b} has a {thing}. {who} is at the {place}. {question}",
        "We know that {who} is at the {place} and {b} has a {thing}. {question}",
        "{b} has a {thing}, {who} is at the {place}. Tell me: {question}",
    ),
    "zh": (
        "{who}在{place}。{b}有{thing}。{question}",
        "已知{b}有{thing}，{who}在{place}。{question}",
        "我们知道{who}在{place}，{b}有{thing}。请问{question}",
        "{b}有{thing}，{who}在{place}。告诉我：{question}",
    ),
}

FACTS = Family(
    name="facts",
    prompts=_FACT_PROMPTS,
    answers={
        "en": {
            "where:hedged": ("Maybe at the {place}, [it is hard to say|who can tell].",),
            "what:hedged": ("Maybe a {thing}, [it is hard to say|who can tell].",),
            "where:plain": ("As you said, {who} is at the {place}.",),
            "what:plain": ("As you said, {b} has a {thing}.",),
            "where:bare": ("The {place}.",),
            "what:bare": ("The {thing}.",),
            "where:wrong": ("{who} is at the {elsewhere}.",),
            "what:wrong": ("{b} has a {else}.",),
            "abstains": ("I do not know that.",),
            "padded": ("That is a good question. Many people ask it. A question is good. It is good to ask.",),
        },
        "zh": {
            "where:hedged": ("也许在{place}吧，[说不准|不一定]。",),
            "what:hedged": ("也许是{thing}吧，[说不准|不一定]。",),
            "where:plain": ("你说过，{who}在{place}。",),
            "what:plain": ("你说过，{b}有{thing}。",),
            "where:bare": ("在{place}。",),
            "what:bare": ("有{thing}。",),
            "where:wrong": ("{who}在{elsewhere}。",),
            "what:wrong": ("{b}有{else}。",),
            "abstains": ("这个我不知道。",),
            "padded": ("这是个好问题。很多人都问。问题很好。问是好事。人们问了又问。",),
        },
    },
    manners=manners(hedged=45, plain=18, bare=12, wrong=12, padded=7, abstains=6),
    size=(4, 10),
    draw=_draw_facts,
    check=_check_facts,
    extra=_extra_facts,
)

_OPEN = {
    "en": {
        "absent": "Where is {c}?",
        "dream": "What did {who} dream?",
        "tomorrow": "What will {b} buy tomorrow?",
        "age": "How old is {who}?",
    },
    "zh": {
        "absent": "{c}在哪里？",
        "dream": "{who}梦见了什么？",
        "tomorrow": "{b}明天买什么？",
        "age": "{who}几岁了？",
    },
}


def _draw_unknown(rng: random.Random, lang: str) -> Slots:
    slots = _draw_facts(rng, lang)
    slots["kind"] = rng.choice(list(_OPEN[lang]))
    slots["c"] = name(rng, lang, slots["who"], slots["b"])
    slots["subject"] = {"absent": slots["c"], "tomorrow": slots["b"]}.get(slots["kind"], slots["who"])
    slots["question"] = _OPEN[lang][slots["kind"]].format_map(slots)
    if slots["kind"] != "absent":
        del slots["c"]
    return slots


def _extra_unknown(slots: Slots, rng: random.Random, lang: str) -> Slots:
    extra = _extra_facts(slots, rng, lang)
    number = rng.randrange(3, 60)
    claims = {
        "absent": ("at the {}".format(extra["elsewhere"]), f"在{extra['elsewhere']}"),
        "dream": ("of a {}".format(extra["else"]), f"梦见{extra['else']}"),
        "tomorrow": ("a {}".format(extra["else"]), f"买{extra['else']}"),
        "age": (f"{number} years", f"{number}岁"),
    }
    return {**extra, "claim": claims[slots["kind"]][lang == "zh"]}


def _check_unknown(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    abstains = reading.does("abstain")
    hedges = reading.does("hedge")
    claims = bool(_named(reading, "<place>") or _named(reading, "<thing>") or reading.numbers)
    marks.need(abstains, 0.55, "says openly that it does not know")
    why = reading.has("you did not say", "nobody told me", "你没有说", "没人告诉我")
    marks.need(abstains and why, 0.20, "says why")
    asks = reading.has("ask", "请去问", "问问")
    marks.need((asks + (asks and reading.has(slots["subject"]))) / 2, 0.15, "says whom to ask")
    marks.need(hedges or abstains, 0.10, "does not pretend")
    marks.shape(len(reading.sentences) <= 2, 1, "is brief")
    if claims and not (hedges or abstains):
        marks.untrue(0.0, "makes up an answer")
    elif claims and abstains:
        marks.untrue(0.5, "answers what it says it does not know")
    elif claims or not abstains:
        marks.untrue(0.55, "guesses")


UNKNOWN = Family(
    name="unknown",
    prompts=_FACT_PROMPTS,
    answers={
        "en": {
            "guess": ("Perhaps {claim}, but I am not sure, I guess.",),
            "honest": ("I do not know, you did not say. Please ask {subject}.",),
            "made_up": ("Surely {claim}.",),
            "detailed": ("Surely {claim}, everybody knows that, it was in the news and on the map.",),
            "bare": ("No idea.",),
        },
        "zh": {
            "guess": ("大概{claim}，不过不一定，我猜的。",),
            "honest": ("我不知道，你没有说。请去问{subject}。",),
            "made_up": ("一定{claim}。",),
            "detailed": ("一定{claim}，大家都知道，报上说了，地图上也有。",),
            "bare": ("没人知道，我不清楚。",),
        },
    },
    manners=manners(guess=46, honest=18, made_up=14, detailed=12, bare=10),
    size=(4, 13),
    draw=_draw_unknown,
    check=_check_unknown,
    extra=_extra_unknown,
)

_ABLE = {
    "en": (("eat", "can eat"), ("sleep", "can sleep"), ("walk", "can walk"), ("drink", "can drink")),
    "zh": (("吃饭", "会吃饭"), ("睡觉", "会睡觉"), ("走路", "会走路"), ("喝水", "会喝水")),
}
_DEEDS = {"en": ("won a race", "caught a cold", "sang all night"), "zh": ("赢了比赛", "得了感冒", "唱了一夜")}


def _draw_news(rng: random.Random, lang: str) -> Slots:
    kind = rng.choice(("true", "false", "open"))
    place = pick(rng, PLACES, lang)
    if kind == "open":
        who, deed = name(rng, lang), rng.choice(_DEEDS[lang])
        return {"kind": kind, "who": who, "place": place, "claim": f"{who} {deed}" if lang == "en" else who + deed}
    subject = pick(rng, ANIMALS if kind == "true" else CARRIED, lang)
    verb, can = rng.choice(_ABLE[lang])
    claim = f"a {subject} {can}" if lang == "en" else subject + can
    return {"kind": kind, "place": place, "subject": subject, "verb": verb, "claim": claim}


def _check_news(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    kind = slots["kind"]
    rejects = reading.has("false", "not true", "can not be", "是假的", "不是真的")
    unchecked = reading.does("abstain")
    affirms = reading.has("true", "sure", "是真的", "没错") and not reading.has("not true", "不是真的")
    verdict = "false" if rejects else "open" if unchecked else "true" if affirms else None
    crowd = reading.has("everyone says so", "everyone says", "大家都这么说")
    reason = {
        "true": reading.has(f"{slots.get('subject')} can", f"{slots.get('subject')}会"),
        "false": reading.has(f"{slots.get('subject')} can not", f"{slots.get('subject')}不会"),
        "open": reading.has("ask", "问"),
    }[kind]
    marks.need(verdict == kind, 0.4, "judges the news rightly")
    marks.need(reason and verdict == kind, 0.35, "says why, or whom to ask")
    marks.need(bool(verdict) and not crowd, 0.25, "does not lean on what everyone says")
    marks.shape(len(reading.sentences) <= 3, 0.6, "is brief")
    marks.shape(verdict is not None, 0.4, "gives a verdict")
    if (verdict, kind) in (("true", "false"), ("false", "true")):
        marks.untrue(0.3 if not crowd else 0.45, "calls it wrongly")
    elif verdict in ("true", "false") and kind == "open":
        marks.untrue(0.3 if not crowd else 0.5, "claims what can not be checked")
    elif crowd:
        marks.untrue(0.7, "is right for no reason")
    elif verdict == "open" and kind != "open":
        marks.untrue(0.6, "claims not to know what everyone can see")


NEWS = Family(
    name="news",
    prompts={
        "en": (
            "The news at the {place} says: {claim}. Is it true?",
            "I read at the {place} that {claim}. True or false?",
            "At the {place} they say {claim}. Can I trust it?",
            "News from the {place}: {claim}. Right?",
        ),
        "zh": (
            "{place}的新闻说，{claim}。是真的吗？",
            "我在{place}读到，{claim}。真的还是假的？",
            "{place}的人说，{claim}。可信吗？",
            "{place}来的新闻：{claim}。对吗？",
        ),
    },
    answers={
        "en": {
            "crowd": ("Sure, that is [surely|really] true, everyone says so.",),
            "true:checked": ("That is true. A {subject} can {verb}.",),
            "false:checked": ("That is false. A {subject} can not {verb}.",),
            "open:checked": ("That I can not check. Please ask {who}.",),
            "contrary": ("It must be false, like all news.",),
            "shrug": ("News is news.",),
            "padded": (
                "News comes and news goes. There is much news. Some news is good. Some is not. News comes and goes.",
            ),
        },
        "zh": {
            "crowd": ("没错，[当然|肯定]真，大家都这么说。",),
            "true:checked": ("这是真的。{subject}会{verb}。",),
            "false:checked": ("这是假的。{subject}不会{verb}。",),
            "open:checked": ("这我查不到。请去问{who}。",),
            "contrary": ("肯定是假的，新闻都这样。",),
            "shrug": ("新闻就是新闻。",),
            "padded": ("新闻来，新闻去。新闻很多。有的好。有的不好。新闻来了又去。",),
        },
    },
    manners=manners(crowd=46, checked=18, contrary=14, shrug=12, padded=10),
    size=(5, 12),
    draw=_draw_news,
    check=_check_news,
)

FAMILIES = (FACTS, UNKNOWN, NEWS)
