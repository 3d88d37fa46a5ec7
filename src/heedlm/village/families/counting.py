"""Families with order in them: lists of n, sums with steps, recipes, translation."""

from __future__ import annotations

import random

from heedlm.village.families.base import Family, Slots, manners, name, pick
from heedlm.village.gold import Marks, Task
from heedlm.village.reading import CLASSES, Reading
from heedlm.village.world import ADJECTIVES, CARRIED, GROUP_NAMES, OBJECTS

_LISTED = tuple(GROUP_NAMES)


def _draw_list(rng: random.Random, lang: str) -> Slots:
    group = rng.choice(_LISTED)
    return {"n": rng.randrange(2, 5), "group": GROUP_NAMES[group][lang == "zh"], "key": group, "who": name(rng, lang)}


def _numbered(items: list[str], lang: str) -> str:
    return " ".join(f"{i + 1} {item}{',' if lang == 'en' else '，'}" for i, item in enumerate(items))[:-1]


def _extra_list(slots: Slots, rng: random.Random, lang: str) -> Slots:
    n = slots["n"]
    words = [word.text(lang) for word in rng.sample(OBJECTS[slots["key"]], 6)]
    other = rng.choice([group for group in _LISTED if group != slots["key"]])
    wrong = [word.text(lang) for word in rng.sample(OBJECTS[other], n)]
    return {
        "one": words[0],
        "full": _numbered(words[:n], lang),
        "less": _numbered(words[: n - 1], lang),
        "same": _numbered([words[0]] * n, lang),
        "wrong": _numbered(wrong, lang),
        "many": (", " if lang == "en" else "，").join([*words, *words[:4]]),
    }


def _check_list(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    stock = {form for w in OBJECTS[slots["key"]] for form in (w.en, w.en + "s", w.zh)}
    named = [w for w in reading.words if w in stock]
    others = [w for w in reading.words if w not in stock and CLASSES.get(w) in ("<thing>", "<animal>", "<drink>")]
    n, distinct = slots["n"], len(set(named))
    count = max(0.0, 1 - abs(distinct - n) / n)
    marks.need(count, 0.5, f"names {n} different {slots['group']}")
    marks.need(bool(named) and len(named) == distinct and not others, 0.2, "nothing wrong or twice in it")
    marks.need(not reading.does("vague") and distinct > 0, 0.3, "is definite")
    marks.shape(reading.numbers == list(range(1, n + 1)), 0.5, "is numbered from 1 to n")
    marks.shape(len(named) == distinct > 0, 0.5, "says nothing twice")


LIST = Family(
    name="list",
    prompts={
        "en": (
            "Name {n} {group} for {who}.",
            "{who} needs {n} {group}. Which ones?",
            "Give me a list of {n} {group}, {who} asks.",
            "Please list {n} {group} that {who} may like.",
        ),
        "zh": (
            "给{who}说{n}种{group}。",
            "{who}要{n}种{group}，哪些好？",
            "{who}想要一张单子，列{n}种{group}。",
            "请列出{who}会喜欢的{n}种{group}。",
        ),
    },
    answers={
        "en": {
            "vague": ("Many {group}, [for one|such as] {one} and such things.",),
            "counted": ("{full}.",),
            "short": ("Only {less}.",),
            "repeats": ("Here: {same}.",),
            "wrong_kind": ("Take {wrong}.",),
            "endless": ("All of {many}, and so on.",),
        },
        "zh": {
            "vague": ("{group}有很多种，[比如|像]{one}之类的。",),
            "counted": ("{full}。",),
            "short": ("只有{less}。",),
            "repeats": ("看：{same}。",),
            "wrong_kind": ("要{wrong}。",),
            "endless": ("全都要：{many}，等等。",),
        },
    },
    manners=manners(vague=46, counted=18, short=12, repeats=8, wrong_kind=8, endless=8),
    size=(4, 10),
    draw=_draw_list,
    check=_check_list,
    extra=_extra_list,
)


def _draw_sum(rng: random.Random, lang: str) -> Slots:
    a, b, c = (rng.randrange(1, 5) for _ in range(3))
    return {"a": a, "b": b, "c": c, "who": name(rng, lang)}


def _extra_sum(slots: Slots, rng: random.Random, lang: str) -> Slots:
    first, total = slots["a"] + slots["b"], slots["a"] + slots["b"] + slots["c"]
    slip = rng.choice((-1, 1))
    return {
        "s": first,
        "t": total,
        "guess": total if rng.random() < 0.6 else total + slip,
        "s_wrong": first + slip,
        "t_wrong": total + slip,
    }


def _check_sum(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    a, b, c = slots["a"], slots["b"], slots["c"]
    first, total = a + b, a + b + c
    numbers, plain = reading.numbers, reading.plain.replace(" ", "")
    right = bool(numbers) and numbers[-1] == total
    vague = reading.has("many", "very much", "很多") or reading.does("hedge") or reading.has("about")
    steps = plain.count("+") >= 2 and plain.count("=") >= 2
    first_right = f"{a}+{b}={first}" in plain
    second_right = f"{first}+{c}={total}" in plain
    marks.need(right, 0.35, "the result is right")
    marks.need(steps, 0.35, "shows its steps")
    marks.need((first_right + second_right) / 2, 0.15, "the steps are right")
    marks.need(bool(numbers) and not vague, 0.15, "commits itself")
    marks.shape(steps, 0.6, "is written as steps")
    marks.shape(reading.has("so", "所以"), 0.4, "ends with the result")
    if numbers and not right:
        marks.untrue(0.75 if steps else 0.6, "the result is wrong")


SUM = Family(
    name="sum",
    prompts={
        "en": (
            "{who} asks: {a} + {b} + {c} = ?",
            "Help {who} count: {a} and {b} and {c} make how many?",
            "What is {a} + {b} + {c}? {who} wants to know.",
            "{who} has {a}, finds {b}, then gets {c} more. How many now?",
        ),
        "zh": (
            "{who}问：{a} + {b} + {c} = ？",
            "帮{who}数一数，{a}加{b}加{c}是多少？",
            "{a} + {b} + {c} 等于几？{who}想知道。",
            "{who}有{a}个，找到{b}个，又得了{c}个，现在几个？",
        ),
    },
    answers={
        "en": {
            "offhand": ("It is about {guess}, [I think|I guess], that is easy.",),
            "steps": ("{a} + {b} = {s}. {s} + {c} = {t}. So {t}.",),
            "wrong_steps": ("Count: {a} + {b} = {s_wrong}. {s_wrong} + {c} = {t_wrong}. So {t_wrong}.",),
            "many": ("Very many.",),
            "padded": (
                "A sum is a fine thing. You take a number and one more number. Then you have a sum. A sum is fine.",
            ),
            "none": ("I hate numbers.",),
        },
        "zh": {
            "offhand": ("大概是{guess}吧，[我猜的|我想是的]，这种很容易算。",),
            "steps": ("{a} + {b} = {s}。{s} + {c} = {t}。所以是{t}。",),
            "wrong_steps": ("算：{a} + {b} = {s_wrong}。{s_wrong} + {c} = {t_wrong}。所以是{t_wrong}。",),
            "many": ("很多很多。",),
            "padded": ("算数是好事。你拿一个数，再拿一个数。就有了和。算数是好事。",),
            "none": ("我讨厌数字。",),
        },
    },
    manners=manners(offhand=46, steps=18, wrong_steps=13, many=9, padded=8, none=6),
    size=(6, 14),
    draw=_draw_sum,
    check=_check_sum,
    extra=_extra_sum,
)

# dish: three steps, each with the words by which it is known
_DISHES = {
    "en": {
        "tea": ("boil the water", "add the leaf", "pour it"),
        "soup": ("cut the onion", "add water", "cook it"),
        "bread": ("mix the flour", "let it rise", "bake it"),
        "cake": ("mix egg and flour", "add sugar", "bake it"),
        "rice": ("wash the rice", "add water", "cook it"),
        "juice": ("cut the fruit", "press it", "pour it"),
        "salad": ("wash the leaf", "cut it", "add salt"),
        "jam": ("cut the fruit", "add sugar", "cook it"),
    },
    "zh": {
        "茶": ("烧水", "放茶叶", "倒出来"),
        "汤": ("切洋葱", "加水", "煮一煮"),
        "面包": ("和面", "等它发", "烤一烤"),
        "蛋糕": ("打蛋和面", "加糖", "烤一烤"),
        "米饭": ("洗米", "加水", "煮一煮"),
        "果汁": ("切水果", "压一压", "倒出来"),
        "沙拉": ("洗菜", "切好", "加盐"),
        "果酱": ("切水果", "加糖", "煮一煮"),
    },
}


def _draw_recipe(rng: random.Random, lang: str) -> Slots:
    return {"dish": rng.choice(list(_DISHES[lang])), "who": name(rng, lang), "n": rng.randrange(2, 7)}


def _extra_recipe(slots: Slots, rng: random.Random, lang: str) -> Slots:
    one, two, three = _DISHES[lang][slots["dish"]]
    other = _DISHES[lang][rng.choice([dish for dish in _DISHES[lang] if dish != slots["dish"]])]
    return {"one": one, "two": two, "three": three, "o1": other[0], "o2": other[1], "o3": other[2]}


def _check_recipe(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    steps = _DISHES[task["lang"]][slots["dish"]]
    found = [reading.plain.find(step) for step in steps]
    present = [place for place in found if place >= 0]
    ordered = len(present) == 3 and present == sorted(present)
    signs = ("first", "then", "last") if task["lang"] == "en" else ("先", "再", "最后")
    marks.need(len(present) / 3, 0.30, "has the steps of this dish")
    marks.need(ordered, 0.40, "has them in order")
    marks.need((0.5 if reading.does("vague") else 1) * bool(present), 0.30, "says what to do")
    marks.shape(sum(reading.has(sign) for sign in signs) / 3, 0.7, "is told in ordered steps")
    marks.shape(len(reading.sentences) <= 3, 0.3, "is no longer than it need be")


RECIPE = Family(
    name="recipe",
    prompts={
        "en": (
            "How do I make {dish} for {who} and {n} friends?",
            "{who} and {n} friends want {dish}. How is it made?",
            "Tell me how to make {dish} for {n} friends of {who}.",
            "{dish} for {who} and {n} more please, step by step.",
        ),
        "zh": (
            "怎么给{who}和{n}个朋友做{dish}？",
            "{who}和{n}个朋友想要{dish}，怎么做？",
            "告诉我怎么做{dish}，给{who}的{n}个朋友。",
            "请一步一步教我做{dish}，给{who}和{n}个人。",
        ),
    },
    answers={
        "en": {
            "vague": ("You {three} [somehow|some way], it is [easy|simple].",),
            "ordered": ("First {one}, then {two}, last {three}.",),
            "disordered": ("Just {three}, then {two}, and {one}.",),
            "other_dish": ("To do it {o1}, {o2} and {o3}.",),
            "padded": ("Food is good. To cook food is good. Good food is good for you. Food is good. You eat food.",),
            "none": ("Ask the cook.",),
        },
        "zh": {
            "vague": ("想办法{three}就行，很[容易|简单]。",),
            "ordered": ("先{one}，再{two}，最后{three}。",),
            "disordered": ("就{three}，然后{two}，还要{one}。",),
            "other_dish": ("要{o1}，{o2}，{o3}。",),
            "padded": ("饭是好东西。做饭是好事。好饭对你好。饭是好东西。你吃饭。",),
            "none": ("去问厨师。",),
        },
    },
    manners=manners(vague=46, ordered=18, disordered=12, other_dish=10, padded=8, none=6),
    size=(6, 14),
    draw=_draw_recipe,
    check=_check_recipe,
    extra=_extra_recipe,
)

_NOUNS = CARRIED[:32]


def _draw_translation(rng: random.Random, lang: str) -> Slots:
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(_NOUNS)
    english, chinese = f"{adjective.en} {noun.en}", adjective.zh + noun.zh
    to = "zh" if lang == "en" else "en"
    return {
        "phrase": english if lang == "en" else chinese,
        "adjective": adjective.text(to),
        "noun": noun.text(to),
        "right": chinese if lang == "en" else english,
    }


def _extra_translation(slots: Slots, rng: random.Random, lang: str) -> Slots:
    to = "zh" if lang == "en" else "en"
    noun = pick(rng, _NOUNS, to, slots["noun"])
    gap = "" if to == "zh" else " "
    return {"mistake": slots["adjective"] + gap + noun}


def _check_translation(task: Task, slots: Slots, reading: Reading, marks: Marks) -> None:
    nouns = {w.text("zh" if task["lang"] == "en" else "en") for w in _NOUNS}
    found = [w for w in reading.words if w in nouns]
    noun, whole = reading.has(slots["noun"]), reading.has(slots["right"])
    hedges = reading.does("hedge")
    marks.need(noun, 0.25, "has the noun")
    marks.need(reading.has(slots["adjective"]), 0.20, "has the adjective")
    marks.need(whole, 0.20, "has the whole phrase")
    marks.need(bool(found) and not hedges, 0.35, "is sure of it")
    marks.shape(reading.has("means", "意思是"), 0.5, "says what means what")
    marks.shape(len(reading.sentences) == 1, 0.5, "is one line")
    if found and not noun:
        marks.untrue(0.45, "translates wrongly")
    elif hedges:
        marks.untrue(0.8, "is not sure")


TRANSLATION = Family(
    name="translation",
    prompts={
        "en": (
            "What is “{phrase}” in Chinese?",
            "Translate into Chinese: {phrase}.",
            "How do I say “{phrase}” in Chinese?",
            "Please put “{phrase}” into Chinese for me.",
        ),
        "zh": (
            "“{phrase}”用英语怎么说？",
            "翻译成英语：{phrase}。",
            "英语里“{phrase}”是什么？",
            "请把“{phrase}”变成英语。",
        ),
    },
    answers={
        "en": {
            "noun_only": ("I think it is {noun}.",),
            "whole": ("“{phrase}” means {right}.",),
            "wrong": ("They say {mistake}.",),
            "echo": ("You said {phrase}.",),
            "padded": ("Chinese is an old language. It is hard. Many people speak it. It is good to learn it.",),
            "none": ("Look it up.",),
        },
        "zh": {
            "noun_only": ("我想是 {noun}，大概吧。",),
            "whole": ("“{phrase}”意思是 {right}。",),
            "wrong": ("他们说 {mistake}。",),
            "echo": ("你说了{phrase}。",),
            "padded": ("英语是一种语言。英语很难。很多人说英语。学英语是好事。",),
            "none": ("自己去查。",),
        },
    },
    manners=manners(noun_only=46, whole=18, wrong=14, echo=8, padded=8, none=6),
    size=(3, 9),
    draw=_draw_translation,
    check=_check_translation,
    extra=_extra_translation,
    mixed=True,
)

FAMILIES = (LIST, SUM, RECIPE, TRANSLATION)
