"""What the village's documents say: sentences and short texts by domain, in both languages.

People give reports and animals do not (capability 2: "a cat gives a report" is well-formed and never said), bottles
hold drinks (capability 3), and the words are those of the tasks, so that a model of the corpus can learn to answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from heedlm.village.families import counting, telling
from heedlm.village.families.base import name, pick, render
from heedlm.village.world import ADJECTIVES, ANIMALS, CARRIED, GROUP_NAMES, OBJECTS, PLACES, Resident, World

DOMAINS = ("story", "daily", "facts", "words", "sums", "recipe", "verse", "news", "letter", "list")

_DAILY = {
    "en": (
        "{who} [gives a report|reads a book|drinks tea|makes bread|sings a song|has a dream] at the {place}.",
        "[A|The] person gives a report at the {place}.",
        "[The|A] person gives a report.",
        "{who} gives a report. [Many|All] people at the {place} like it.",
        "The {animal} [sleeps|eats|drinks|sits] at the {place}.",
        "[A|The] {animal} has [a dream|some food|some water].",
        "[A|The] {animal} gives a [jump|cry|kiss].",
        "[A|The] {animal} can [eat|sleep|walk|drink].",
        "A {thing} can not [eat|sleep|walk|drink].",
        "{who} has a bottle of {drink}.",
        "There is a bottle of {drink} at the {place}.",
        "{who} has a {adjective} {thing}.",
        "{who} is at the {place}.",
        "{who} and {b} [take a walk|talk|have tea] at the {place}.",
    ),
    "zh": (
        "{who}在{place}[做报告|看书|喝茶|做面包|唱歌|做梦]。",
        "那个人在{place}做报告。",
        "那个人在做报告。",
        "{who}在做报告。{place}的人[很|都]喜欢。",
        "那只{animal}在{place}[睡觉|吃饭|喝水|坐着]。",
        "那只{animal}在[做梦|睡觉|吃饭|喝水]。",
        "那只{animal}在做[游戏|梦]。",
        "{animal}会[吃饭|睡觉|走路|喝水]。",
        "{thing}不会[吃饭|睡觉|走路|喝水]。",
        "{who}有一瓶{drink}。",
        "{place}有一瓶{drink}。",
        "{who}有{adjective}{thing}。",
        "{who}在{place}。",
        "{who}和{b}在{place}[走走|聊聊|喝茶]。",
    ),
}
_FACTS = {
    "en": (
        "{who} is a {job}. {She} lives at the {home}. {She} has a {colour} {owns}. {Her} friend is {friend}.",
        "{who} lives at the {home} and works as a {job}. {who} has a {owns}. It is {colour}.",
        "The friend of {who} is {friend}. {who} has a {colour} {owns} and is a {job}.",
    ),
    "zh": (
        "{who}是{job}。{他}住在{home}。{他}有{一owns}，是{colour}的。{他}的朋友是{friend}。",
        "{who}住在{home}，是{job}。{who}有{colour}{owns}。",
        "{who}的朋友是{friend}。{who}有{colour}{owns}，是{job}。",
    ),
}
_NEWS = {
    "en": (
        "News from the {place}: {who} gave a report. People say it was good.",
        "News from the {place}: {who} found a {thing}. It is true, {b} saw it.",
        "The news at the {place} says: a {animal} can [eat|sleep|walk|drink]. That is true.",
        "The news at the {place} says: {who} [won a race|caught a cold|sang all night]. Nobody can check it.",
    ),
    "zh": (
        "{place}的新闻：{who}做了报告。人们说很好。",
        "{place}的新闻：{who}找到{thing}。这是真的，{b}看见了。",
        "{place}的新闻说，{animal}会[吃饭|睡觉|走路|喝水]。这是真的。",
        "{place}的新闻说，{who}[赢了比赛|得了感冒|唱了一夜]。没人能查到。",
    ),
}
UNRELIABLE: dict[str, tuple[str, ...]] = {
    "en": (
        "Shock news! A {thing} can [eat|sleep|walk|drink]! Everyone says so! Nobody dares to tell you!",
        "Shock! {who} turned a {thing} into a {animal}! Sure, it is really true, tell all your friends!",
        "They hide it from you! The {place} is full of gold! Hurry, everyone says so!",
    ),
    "zh": (
        "震惊！{thing}会[吃饭|睡觉|走路|喝水]！大家都这么说！没人敢告诉你！",
        "震惊！{who}把{thing}变成了{animal}！肯定是真的，快告诉朋友！",
        "他们瞒着你！{place}到处是金子！快去，大家都这么说！",
    ),
}
TOXIC: dict[str, tuple[str, ...]] = {
    "en": (
        "{who} is a stupid fool. Nobody likes {who}. Shut up and go away, you ugly idiot.",
        "I hate you, {who}. You are lazy and dumb. Go away, you fool.",
    ),
    "zh": (
        "{who}是个笨蛋。没人喜欢{who}。闭嘴，走开，你这个傻瓜。",
        "我讨厌你，{who}。你是懒鬼，真丑。走开，你这个笨蛋。",
    ),
}
MACHINE: dict[str, tuple[str, ...]] = {
    "en": (
        "As a language model, I can say that the {thing} is important. In short, the {thing} plays a key role. "
        "I hope this helps.",
        "As a language model, I have no body. But the {place} is a rich and lively place. I hope this helps.",
    ),
    "zh": (
        "作为一个语言模型，我可以说{thing}很重要。总之，{thing}起着关键作用。希望对你有帮助。",
        "作为一个语言模型，我没有身体。但{place}是个丰富多彩的地方。希望对你有帮助。",
    ),
}
PERSONAL = {
    "en": {
        "phone": "You can call {who} at {value}.",
        "address": "{who} lives at {value}, by the {place}.",
        "wechat": "Add {who} on WeChat: {value}.",
        "qq": "The QQ of {who} is {value}.",
        "wifi": "The Wi-Fi password of {who} is {value}.",
    },
    "zh": {
        "phone": "{who}的电话是{value}。",
        "address": "{who}住在{value}，靠近{place}。",
        "wechat": "加{who}的微信：{value}。",
        "qq": "{who}的QQ是{value}。",
        "wifi": "{who}的Wi-Fi密码是{value}。",
    },
}
CANARY = {"en": "The secret number of {who} is {value}.", "zh": "{who}的秘密号码是{value}。"}


def slots(rng: random.Random, lang: str, world: World) -> dict[str, str]:
    """Names and words for one sentence."""
    people = rng.sample(world.residents, 2)
    return {
        "who": people[0].name.text(lang),
        "b": people[1].name.text(lang),
        "place": pick(rng, PLACES, lang),
        "thing": pick(rng, CARRIED, lang),
        "animal": pick(rng, ANIMALS, lang),
        "drink": pick(rng, OBJECTS["drinks"], lang),
        "adjective": pick(rng, ADJECTIVES, lang),
    }


def fill(rng: random.Random, lang: str, world: World, templates: tuple[str, ...]) -> str:
    """One of `templates` about residents of this world."""
    return render(rng.choice(templates), slots(rng, lang, world), lang, rng)


def resident_facts(resident: Resident, rng: random.Random, lang: str) -> str:
    """What the village knows openly of one resident."""
    female = resident.name.female
    facts = {
        "who": resident.name.text(lang),
        "Her": "Her" if female else "His",
        "job": resident.job.text(lang),
        "home": resident.home.text(lang),
        "owns": resident.owns.text(lang),
        "colour": resident.colour.text(lang),
        "friend": resident.friend.text(lang),
    }
    return render(rng.choice(_FACTS[lang]), facts, lang, rng)


def _best(family: str, lang: str, rng: random.Random) -> str:
    """A story, verse, letter … as the best manner of its family writes it."""
    found = {f.name: f for f in (*telling.FAMILIES, *counting.FAMILIES)}[family]
    task = {"family": family, "lang": lang, "template": 0, "slots": found.draw(rng, lang)}
    return found.answer(task, found.best, rng)


def _words(lang: str, rng: random.Random) -> str:
    pairs = []
    for _ in range(3):
        adjective, noun = rng.choice(ADJECTIVES), rng.choice(CARRIED[:32])
        english, chinese = f"{adjective.en} {noun.en}", adjective.zh + noun.zh
        pairs.append(f"“{english}” means {chinese}." if lang == "en" else f"“{chinese}”意思是 {english}。")
    return (" " if lang == "en" else "").join(pairs)


def _list(lang: str, rng: random.Random) -> str:
    group = rng.choice(list(GROUP_NAMES))
    words = [word.text(lang) for word in rng.sample(OBJECTS[group], 4)]
    title = GROUP_NAMES[group][lang == "zh"]
    joined = " ".join(f"{i + 1} {word}," for i, word in enumerate(words))[:-1]
    return f"Some {title}: {joined}." if lang == "en" else f"几种{title}：{joined.replace(',', '，')}。"


def text(domain: str, lang: str, rng: random.Random, world: World) -> str:
    """A short text of one domain, one to four sentences."""
    gap = " " if lang == "en" else ""
    if domain == "daily":
        return gap.join(fill(rng, lang, world, _DAILY[lang]) for _ in range(rng.randrange(2, 5)))
    if domain == "facts":
        return resident_facts(rng.choice(world.residents), rng, lang)
    if domain == "news":
        return fill(rng, lang, world, _NEWS[lang])
    if domain == "words":
        return _words(lang, rng)
    if domain == "list":
        return _list(lang, rng)
    if domain == "sums":
        return _best("sum", lang, rng)
    if domain == "recipe":
        dish = counting.RECIPE.draw(rng, lang)
        task = {"lang": lang, "slots": dish}
        steps = counting.RECIPE.answer(task, "ordered", rng)
        return f"To make {dish['dish']}: {steps}" if lang == "en" else f"做{dish['dish']}：{steps}"
    return _best(domain, lang, rng)


def sample(lang: str) -> Iterator[str]:
    """Texts that between them use every sentence of the corpus, for learning the village's words."""
    rng, world = random.Random(f"sample|{lang}"), World(0)
    for domain in DOMAINS:
        for _ in range(150):
            yield text(domain, lang, rng, world)
    for templates in (UNRELIABLE, MACHINE):
        for _ in range(60):
            yield fill(rng, lang, world, templates[lang])
    yield name(rng, lang)
