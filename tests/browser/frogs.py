"""Projects about frogs that browser tests let people work in."""

from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Message

TEXTS = {
    "en": (
        "Why do frogs croak at night?",
        [
            "Frogs croak to call a mate.",
            "Because they are sad and want fish.",
            "Frogs sing.",
            "They call a mate, and night is cool and damp.",
        ],
    ),
    "zh": (
        "青蛙为什么在夜里叫？",
        ["青蛙叫是为了求偶。", "因为它们很伤心。", "青蛙会唱歌。", "它们在求偶，夜里又凉又湿。"],
    ),
}
STEPS = ("There are 3 ponds with 4 frogs each.", "So there are 3 + 4 = 7 frogs.", "Half of them croak: 3.5.")
KINDS = {"rank": 4, "rate": 2, "pair": 2, "thumb": 1, "write": 1, "steps": 1}


def content(language="en", kind="rank", answers=None, **more):
    prompt, texts = TEXTS[language]
    steps = STEPS if kind == "steps" else ()
    chosen = texts[: KINDS[kind]] if answers is None else answers
    return Content(
        prompt=(Message(role="user", content=prompt),),
        answers=tuple(Answer(text=text) for text in chosen),
        steps=steps,
        **more,
    )


def work(served, kind="rank", contents=None, *, count=1, name="Frogs", people=("ann",), **more):
    """A project of olga's in which ann works."""
    olga = served.people["olga"]
    made = served.state.projects.create(olga, name, kind, **more)
    if contents is None:
        contents = [
            content(kind=kind),
            *(served.content(place, KINDS[kind], steps=STEPS if kind == "steps" else ()) for place in range(1, count)),
        ]
    served.state.projects.add_items(olga, made.id, contents)
    for person in people:
        known = served.people.get(person) or served.person(person)
        served.state.projects.join(olga, made.id, known.id)
    return f"/annotate/{made.id}"


def replies(served, path, name="ann"):
    """What a person has said in a project, newest first, by the answers' own places."""
    project = path.rsplit("/", 1)[1]
    return [task.reply for task in served.state.assigner.done(served.people[name], project)]
