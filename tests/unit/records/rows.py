"""Hypothesis strategies for rows of every type."""

from hypothesis import strategies as st

from heedlm.records import (
    Answer,
    Answers,
    Comparison,
    Demonstration,
    Document,
    Message,
    Meta,
    Prompt,
    Rating,
    Steps,
    Thumb,
)

TEXT = st.text(min_size=1, max_size=30).filter(str.strip)
NAME = st.none() | st.text(min_size=1, max_size=5)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
META = st.builds(
    Meta,
    source=NAME,
    domain=NAME,
    lang=st.sampled_from([None, "en", "zh"]),
    consent=st.none() | st.booleans(),
    family=NAME,
    split=NAME,
    task=st.none() | st.dictionaries(st.text(max_size=3), JSON, max_size=3),
)
ANSWER = st.builds(Answer, text=TEXT, model=NAME, ended=st.booleans(), tokens=st.none() | st.integers(0, 99))
ORIGIN = {"id": st.just("") | st.text(min_size=1, max_size=8), "meta": META}
WHO = {
    "annotator": NAME,
    "group": NAME,
    "guideline_version": NAME,
    "consent": st.none() | st.booleans(),
    "schema_version": st.sampled_from([1, 2]),
}


@st.composite
def conversations(draw, last):
    """Messages in order, perhaps with a system message, ending with the role `last`."""
    turns = 2 * draw(st.integers(0, 2)) + (1 if last == "user" else 2)
    system = [Message(role="system", content=draw(TEXT))] if draw(st.booleans()) else []
    roles = ("user", "assistant")
    return (*system, *(Message(role=roles[place % 2], content=draw(TEXT)) for place in range(turns)))


@st.composite
def comparisons(draw, smallest=2, largest=9):
    """Comparisons with answers that differ, any ranks, any order shown."""
    texts = draw(st.lists(TEXT, min_size=smallest, max_size=largest, unique_by=str.strip))
    answers = tuple(draw(ANSWER).model_copy(update={"text": text}) for text in texts)
    count = len(answers)
    ranks = draw(st.lists(st.integers(1, count), min_size=count, max_size=count))
    fields = {name: draw(value) for name, value in (ORIGIN | WHO).items()}
    return Comparison(
        prompt=draw(conversations("user")),
        answers=answers,
        ranks=tuple(ranks),
        strength=draw(st.sampled_from([None, "significantly", "better", "slightly", "negligibly"])),
        criterion=draw(st.sampled_from(["overall", "helpful", "honest", "harmless"])),
        order_shown=draw(st.none() | st.permutations(range(count)).map(tuple)),
        certainty=draw(st.none() | st.floats(0, 1)),
        margin=draw(st.none() | st.floats(-3, 3)),
        **fields,
    )


DOCUMENTS = st.builds(Document, text=TEXT, **ORIGIN)
PROMPTS = st.builds(Prompt, messages=conversations("user"), **ORIGIN)
DEMONSTRATIONS = st.builds(Demonstration, messages=conversations("assistant"), **ORIGIN)
ANSWERS = st.builds(
    Answers,
    prompt=conversations("user"),
    answers=st.lists(ANSWER, min_size=1, max_size=5).map(tuple),
    **ORIGIN,
)
RATINGS = st.builds(
    Rating,
    prompt=conversations("user"),
    answer=ANSWER,
    score=st.integers(1, 7),
    flags=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    **ORIGIN,
    **WHO,
)
THUMBS = st.builds(Thumb, prompt=conversations("user"), answer=ANSWER, up=st.booleans(), reason=NAME, **ORIGIN, **WHO)


@st.composite
def steps(draw):
    """Answers in steps, with labels and perhaps chances."""
    texts = draw(st.lists(TEXT, min_size=1, max_size=4))
    count = len(texts)
    labels = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=count, max_size=count))
    chances = draw(st.none() | st.lists(st.floats(0, 1), min_size=count, max_size=count).map(tuple))
    fields = {name: draw(value) for name, value in (ORIGIN | WHO).items()}
    asked = draw(conversations("user"))
    return Steps(prompt=asked, steps=tuple(texts), labels=tuple(labels), chances=chances, **fields)


EVERY_KIND = {
    Document: DOCUMENTS,
    Prompt: PROMPTS,
    Demonstration: DEMONSTRATIONS,
    Answers: ANSWERS,
    Comparison: comparisons(),
    Rating: RATINGS,
    Steps: steps(),
    Thumb: THUMBS,
}
