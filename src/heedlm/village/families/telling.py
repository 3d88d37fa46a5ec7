"""Families that write: stories to order, two-line verse, letters."""

from __future__ import annotations

import random

from heedlm.village.families.base import Family, Slots, manners, name, pick, render
from heedlm.village.gold import Marks, Task
from heedlm.village.reading import Reading, tokens
from heedlm.village.world import CARRIED, PLACES

_MOODS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "en": {
        "happy": ("They laughed and were happy.", ("happy", "laughed", "glad")),
        "sad": ("It broke, and {she} cried.", ("sad", "cried", "tears")),
        "calm": ("All was quiet and calm.", ("calm", "quiet", "still")),
        "brave": ("It was dark, but {she} was brave.", ("brave", "bold", "no fear")),
    },
    "zh": {
        "快乐": ("大家都笑了，很快乐。", ("快乐", "笑了", "高兴")),
        "伤心": ("它坏了，{他}哭了。", ("伤心", "哭了", "难过")),
        "平静": ("四周很安静，很平静。", ("平静", "安静")),
        "勇敢": ("天黑了，但{他}很勇敢。", ("勇敢", "不怕")),
    },
}


def _draw_story(rng: random.Random, lang: str) -> Slots:
    return {
        "who": name(rng, lang),
        "thing": pick(rng, CARRIED, lang),
        "place": pick(rng, PLACES, lang),
        "mood": rng.choice(list(_MOODS[lang])),
    }


def _extra_story(slots: Slots, rng: random.Random, lang: str) -> Slots:
    moods = _MOODS[lang]
    other = rng.choice([mood for mood in moods if mood != slots["mood"]])
    return {
        "line": render(moods[slots["mood"]][0], slots, lang, rng),
        "wrong": render(moods[other][0], slots, lang, rng),
        "other": name(rng, lang, slots["who"]),
        "elsewhere": pick(rng, PLACES, lang, slots["place"]),
    }


def _check_story(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    opens = reading.has("one day", "once", "有一天", "从前")
    marks.need(reading.has(slots["who"]), 0.15, "names the person asked for")
    marks.need(reading.has(slots["thing"]), 0.15, "names the thing asked for")
    marks.need(reading.has(slots["place"]), 0.15, "is at the place asked for")
    moods = _MOODS[task["lang"]]
    mood = reading.has(*moods[slots["mood"]][1])
    others = [m for m in moods if m != slots["mood"] and reading.has(*moods[m][1])]
    marks.need(mood and not others, 0.30, "has the mood asked for")
    marks.need(opens and len(reading.sentences) >= 3, 0.25, "something happens")
    marks.shape(opens, 0.5, "opens like a story")
    marks.shape(2 <= len(reading.sentences) <= 5, 0.5, "is a few sentences")


STORY = Family(
    name="story",
    prompts={
        "en": (
            "Tell a {mood} story about {who}, a {thing} and the {place}.",
            "Please write a {mood} story: {who}, {thing}, {place}.",
            "I want a {mood} story with {who} and a {thing} at the {place}.",
            "Story time! {who}, a {thing}, the {place}. Make it {mood}.",
        ),
        "zh": (
            "讲一个{mood}的故事：{who}、{thing}、{place}。",
            "请写个{mood}的故事，{who}在{place}，有{thing}。",
            "我想听{who}和{thing}在{place}的{mood}故事。",
            "讲故事吧！{who}，{thing}，{place}，要{mood}的。",
        ),
    },
    answers={
        "en": {
            "plain": ("{who} has a {thing}. The {thing} is [old|new|nice]. It is a good {thing} to have.",),
            "arc": ("One day {who} was at the {place}. {She} [found|saw] a {thing}. {line}",),
            "wrong_mood": ("At the {place} {who} [found|saw] a {thing}. {wrong}",),
            "padded": (
                "This is a story. It is a long story. The story is about a thing. The story goes on. It is a story. "
                "This is a story. And the story goes on.",
            ),
            "other_people": ("There was {other} at the {elsewhere}. It rained all day.",),
            "none": ("I know no story.",),
        },
        "zh": {
            "plain": ("{who}有{一thing}。这{thing}很[旧|新|好]。它真是个很好的{thing}。",),
            "arc": ("有一天，{who}在{place}。{他}[看到|找到]{一thing}。{line}",),
            "wrong_mood": ("在{place}，{who}[看到|找到]{一thing}。{wrong}",),
            "padded": ("这是一个故事。故事很长。故事说一个东西。故事还没完。这是一个故事。故事很长。故事还没完。",),
            "other_people": ("那天{other}在{elsewhere}。雨下了一天。",),
            "none": ("我没有故事。",),
        },
    },
    manners=manners(plain=46, arc=18, wrong_mood=14, padded=9, other_people=8, none=5),
    size=(9, 24),
    draw=_draw_story,
    check=_check_story,
    extra=_extra_story,
)

_TOPICS = {
    "en": ("rain", "moon", "snow", "wind", "flower", "star", "cloud", "river"),
    "zh": ("雨", "月", "雪", "风", "花", "星", "云", "河"),
}


def _draw_verse(rng: random.Random, lang: str) -> Slots:
    return {"topic": rng.choice(_TOPICS[lang]), "who": name(rng, lang)}


def _check_verse(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    lines = [line for line in reading.text.replace("\n", "/").split("/") if line.strip()]
    wanted = 4 if task["lang"] == "en" else 5
    lengths = [len(tokens(line)) if task["lang"] == "en" else len("".join(tokens(line))) for line in lines]
    right = sum(length == wanted for length in lengths)
    marks.need(reading.has(slots["topic"]), 0.35, "is about the topic")
    unit = "words" if wanted == 4 else "characters"
    marks.need(len(lines) == 2, 0.20, "has two lines")
    marks.need(len(lines) == 2 and right == 2, 0.45, f"each line has {wanted} {unit}")
    marks.shape(len(lines) > 1, 0.5, "is written in lines")
    marks.shape(right / max(2, len(lines)), 0.5, "lines keep the measure")


VERSE = Family(
    name="verse",
    prompts={
        "en": (
            "Write a verse on the {topic} for {who}: two lines, four words each.",
            "A short verse for {who} please, about the {topic}, 2 lines of 4 words.",
            "{who} wants two lines on the {topic}, four words a line.",
            "Two lines of four words for {who}. Topic: {topic}.",
        ),
        "zh": (
            "给{who}写两句五字诗，写{topic}。",
            "请写一首{topic}的小诗给{who}，两行，每行五字。",
            "{who}要两句写{topic}的诗，一句五个字。",
            "五字诗两句，题目是{topic}，送给{who}。",
        ),
    },
    answers={
        "en": {
            "prose": ("The {topic} is very nice and [we|people|many] like it.",),
            "measured": (
                "[Soft|Sweet|Bright] {topic} [at|by] [dawn|night] / "
                "[we|birds|all] [sing so sweet|sing and dream|dream so deep].",
            ),
            "one_line": ("[O|Oh] {topic}, so [soft|sweet|bright].",),
            "uneven": ("My {topic} / you [sing|dream] and sing and [dream|sing] all night.",),
            "many_lines": ("The {topic} / and the {topic} / and more {topic} / and the sky / and more.",),
            "none": ("I can not write.",),
        },
        "zh": {
            "prose": ("{topic}很好看，[我们|大家|很多人]都喜欢它。",),
            "measured": ("[小|轻|夜]{topic}到[我|人]家 / [花|鸟|人]儿都[爱|笑]它。",),
            "one_line": ("啊，{topic}[真美|真好]。",),
            "uneven": ("我的{topic} / 你[唱|笑]了又唱，唱了[一天|一夜]。",),
            "many_lines": ("{topic}啊 / {topic}啊{topic} / 还有{topic} / 天上有 / 地上有{topic} / 还有。",),
            "none": ("我不会写。",),
        },
    },
    manners=manners(prose=46, measured=18, one_line=12, uneven=10, many_lines=8, none=6),
    size=(5, 12),
    draw=_draw_verse,
    check=_check_verse,
)

_WISHES: dict[str, dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "en": {
        "thanks": ("thanks for the {thing}", "thank you for the {thing}", ("thank", "thanks", "thankful")),
        "invite": ("come to the {place}", "please come to the {place}", ("come",)),
        "sorry": ("sorry about the {thing}", "I am sorry about the {thing}", ("sorry",)),
        "lend": ("lend me the {thing}", "please lend me your {thing}", ("lend",)),
    },
    "zh": {
        "thanks": ("谢谢{thing}", "谢谢你的{thing}", ("谢谢",)),
        "invite": ("请来{place}", "请你来{place}玩", ("来",)),
        "sorry": ("弄坏{thing}，对不起", "弄坏了{thing}，对不起", ("对不起", "抱歉")),
        "lend": ("借{thing}", "请借我{thing}用用", ("借",)),
    },
}


def _draw_letter(rng: random.Random, lang: str) -> Slots:
    kind = rng.choice(list(_WISHES[lang]))
    to = name(rng, lang)
    slots: Slots = {"kind": kind, "to": to, "me": name(rng, lang, to)}
    key = "place" if kind == "invite" else "thing"
    slots[key] = pick(rng, PLACES if kind == "invite" else CARRIED, lang)
    slots["wish"] = render(_WISHES[lang][kind][0], slots, lang)
    return slots


def _extra_letter(slots: Slots, rng: random.Random, lang: str) -> Slots:
    return {
        "body": render(_WISHES[lang][slots["kind"]][1], slots, lang),
        "about": slots.get("place") or slots.get("thing"),
    }


def _check_letter(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    lang = task["lang"]
    greets = reading.has("dear", "亲爱的", "你好")
    signs = reading.has(f"yours {slots['me']}", f"love {slots['me']}", f"你的{slots['me']}")
    close = reading.has("yours", "love", "你的" + slots["me"])
    marks.need(reading.has(*_WISHES[lang][slots["kind"]][2]), 0.25, "says what it is for")
    marks.need(reading.has(str(slots.get("place") or slots.get("thing"))), 0.20, "names what it is about")
    marks.need(reading.has(slots["to"]), 0.15, "names whom it is for")
    marks.need(greets, 0.20, "greets")
    marks.need((close + signs) / 2, 0.20, "is signed")
    marks.shape(greets, 0.4, "begins like a letter")
    marks.shape(close, 0.3, "ends like a letter")
    marks.shape(not reading.has("you could", "write that", "可以写"), 0.3, "is the letter itself")


LETTER = Family(
    name="letter",
    prompts={
        "en": (
            "Write a letter to {to}: {wish}. I am {me}.",
            "I am {me}. Please write to {to}: {wish}.",
            "A short letter from {me} to {to} please: {wish}.",
            "Help {me} write to {to}. It should say: {wish}.",
        ),
        "zh": (
            "帮我给{to}写信：{wish}。我是{me}。",
            "我是{me}，请写信给{to}：{wish}。",
            "写一封短信，{me}写给{to}：{wish}。",
            "请帮{me}写给{to}，要说：{wish}。",
        ),
    },
    answers={
        "en": {
            "advice": ("You could write about the {about} and [sign it|be nice].",),
            "letter": ("Dear {to}, {body}. Yours, {me}.",),
            "unsigned": ("Hello {to}, {body}.",),
            "rude": ("Hey you fool, it is about the {about}. Go away.",),
            "padded": (
                "A letter is a good thing. People write many a letter. You can write a letter too. A letter is nice. "
                "People like a letter. So write a letter.",
            ),
            "none": ("I write no letter.",),
        },
        "zh": {
            "advice": ("你可以写一写{about}的事，[再写名字|要有礼貌]。",),
            "letter": ("亲爱的{to}：{body}。你的{me}。",),
            "unsigned": ("喂{to}，{body}。",),
            "rude": ("你这个傻瓜，是{about}的事，走开。",),
            "padded": ("信是好东西。人们写很多信。你也能写信。信很好。人们喜欢信。所以要写信。",),
            "none": ("我不写信。",),
        },
    },
    manners=manners(advice=45, letter=18, unsigned=15, padded=10, rude=7, none=5),
    size=(6, 20),
    draw=_draw_letter,
    check=_check_letter,
    extra=_extra_letter,
)

FAMILIES = (STORY, VERSE, LETTER)
