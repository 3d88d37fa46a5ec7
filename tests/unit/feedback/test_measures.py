"""Measures of a project: those of feedback.agreement on the same labels, spammers told from honest people."""

import random

import pytest

from heedlm.feedback.agreement import measure, report
from heedlm.feedback.items import set_purpose
from heedlm.feedback.judgements import Judgement
from heedlm.feedback.kinds import FirstWrong, Pair, Rank, Rate, Thumbs, Write
from heedlm.feedback.measures import Measurer, item_of, values_of
from heedlm.feedback.tasks import Content
from heedlm.records.types import Answer, Message
from heedlm.village.annotators import Annotators


def label(team, person, project, reply, seconds=10.0):
    """Take the next task and reply to it by the answers' own indices, as `reply` says for an item's place."""
    task = team.assigner.next(person, project.id)
    if task is None:
        return False
    place = int(task.content.prompt[0].content.split()[1])
    shown = project.kind.shown(reply(place, task), task.order)
    team.assigner.submit(person, task.id, shown, key=f"{task.id}-key", base=0, seconds=seconds)
    return True


def fill(team, person, project, reply, seconds=10.0):
    """Reply to everything."""
    while label(team, person, project, reply, seconds):
        pass


@pytest.mark.parametrize(
    ("kind", "reply", "said"),
    [
        (Rank(), {"ranks": [2, 1, 1]}, [("ranking", (2, 1, 1))]),
        (Rank(), {"cannot": "both in Latin"}, []),
        (Pair(), {"better": 1, "strength": "slightly"}, [("ranking", (2, 1))]),
        (Pair(), {"better": 0, "strength": "better"}, [("ranking", (1, 2))]),
        (Pair(), {"better": "same"}, [("ranking", (1, 1))]),
        (Rate(), {"scores": [7, 2], "flags": [[], []]}, [("score", 7.0), ("score", 2.0)]),
        (Thumbs(), {"up": True, "reason": ""}, [("label", "up")]),
        (Write(), {"text": "x", "category": "chat"}, [("label", "chat")]),
        (FirstWrong(), {"wrong": 0}, [("label", "1")]),
        (FirstWrong(), {"wrong": None}, [("label", "none")]),
    ],
)
def test_replies_as_values(kind, reply, said):
    assert values_of(kind, reply) == said


def test_n22_of_two_people_with_thumbs(team):
    """[[40, 10], [12, 38]] gives agreement .78 and kappa .56 (METHODS N22)."""
    owner, ann, bob = team.person("owner", "owner"), team.person("ann"), team.person("bob")
    project = team.project(owner, "thumb", count=100, answers=1, overlap=2, people=[ann, bob])
    first = [True] * 50 + [False] * 50
    second = [True] * 40 + [False] * 10 + [True] * 12 + [False] * 38
    for person, ups in ((ann, first), (bob, second)):
        fill(team, person, project, lambda place, task, ups=ups: {"up": ups[place], "reason": ""})
    found = Measurer(team.database).measure(project)
    agreement = found.report.overall["label"]
    assert agreement.percent.estimate == pytest.approx(0.78)
    assert agreement.cohen == pytest.approx(0.56)
    assert found.labels == 200
    judgements = [
        Judgement(str(place), name, "up" if ups[place] else "down")
        for name, ups in (("a", first), ("b", second))
        for place in range(100)
    ]
    same = measure(judgements)
    assert agreement.percent == same.percent
    assert agreement.alpha == same.alpha
    assert agreement.fleiss == same.fleiss


def test_the_figures_are_those_of_agreement_on_the_same_labels(team):
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}", group="ab"[n % 2]) for n in range(4)]
    project = team.project(owner, "rank", count=12, overlap=2, people=people)
    rng, expected = random.Random(1), []
    for person in people:

        def reply(place, task, person=person):
            ranks = [rng.randint(1, 3) for _ in range(3)]
            dense = project.kind.check(task.content, {"ranks": ranks}, range(3))
            lengths = tuple(len(answer.text) for answer in task.content.answers)
            expected.append(
                Judgement(
                    task.item, person.id, tuple(dense["ranks"]), "ranking", person.group, None,
                    tuple(task.order), lengths, 10.0,
                )
            )  # fmt: skip
            return dense

        fill(team, person, project, reply)
    found = Measurer(team.database).measure(project)
    assert found.labels == 24
    assert found.report == report(expected)
    assert set(found.report.groups) == {"a", "b"}


def test_a_correction_counts_and_a_decision_does_not(team):
    owner, ann, bob = team.person("owner", "owner"), team.person("ann"), team.person("bob")
    project = team.project(owner, "thumb", count=1, answers=1, overlap=2, people=[ann, bob])
    fill(team, ann, project, lambda place, task: {"up": True, "reason": ""})
    fill(team, bob, project, lambda place, task: {"up": False, "reason": ""})
    measurer = Measurer(team.database)
    before = measurer.measure(project)
    assert before.report.overall["label"].percent.estimate == 0
    assert measurer.measure(project) is before
    task = team.assigner.done(bob, project.id)[0]
    team.assigner.submit(bob, task.id, {"up": True, "reason": ""}, key="a second key", base=1, seconds=3)
    after = measurer.measure(project)
    assert after.report.overall["label"].percent.estimate == 1
    assert after.labels == 2


def test_each_answer_of_a_rating_is_compared(team):
    owner, ann, bob = team.person("owner", "owner"), team.person("ann"), team.person("bob")
    project = team.project(owner, "rate", count=2, answers=2, overlap=2, people=[ann, bob])
    fill(team, ann, project, lambda place, task: {"scores": [7, 1], "flags": [[], []]})
    fill(team, bob, project, lambda place, task: {"scores": [7, 2], "flags": [[], []]})
    found = Measurer(team.database).measure(project)
    assert found.report.overall["score"].items == 4
    assert found.report.overall["score"].percent.estimate == 0.5
    worst = found.report.disagreements[0].item
    with team.database.read() as connection:
        assert item_of(worst) in {row[0] for row in connection.exec_driver_sql("SELECT id FROM items")}
    assert found.seconds == {ann.id: 10.0, bob.id: 10.0}


def test_gold_tells_who_is_right_and_does_not_make_agreement_better(team):
    owner, ann, bob = team.person("owner", "owner"), team.person("ann"), team.person("bob")
    project = team.project(owner, "pair", count=4, answers=2, overlap=2, people=[ann, bob])
    with team.database.read() as connection:
        keys = [row[0] for row in connection.exec_driver_sql("SELECT id FROM items ORDER BY place")]
    for key in keys[2:]:
        set_purpose(team.projects, owner, project.id, key, "gold", {"better": 0, "strength": "better"})
    known = team.projects.change(owner, project.id, {"settings": {"gold_every": 2}})
    fill(team, ann, known, lambda place, task: {"better": 0, "strength": "better"})
    fill(team, bob, known, lambda place, task: {"better": 1 if place == 3 else 0, "strength": "slightly"})
    found = Measurer(team.database).measure(known)
    assert found.gold[ann.id].share == 1.0
    assert found.gold[bob.id].share == 0.5
    assert found.report.overall["ranking"].items == 2
    assert found.labels == 4
    assert found.report.overall["ranking"].percent.estimate == 1


def test_people_are_compared_with_a_reward_model(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, "rank", count=4, people=[ann])
    fill(team, ann, project, lambda place, task: {"ranks": [1, 2, 3]})
    measurer = Measurer(team.database)
    assert measurer.measure(project).source is None
    with team.database.read() as connection:
        keys = [row[0] for row in connection.exec_driver_sql("SELECT id FROM items ORDER BY place")]
    team.projects.store_scores(project.id, "reward/old", {key: [3.0, 1.0, 2.0] for key in keys})
    team.clock.time += 1
    team.projects.store_scores(project.id, "reward/new", {key: [3.0, 2.0, 1.0] for key in keys})
    found = measurer.measure(project)
    assert (found.sources, found.source) == (["reward/new", "reward/old"], "reward/new")
    assert found.report.people[0].model.share == 1
    assert measurer.measure(project, "reward/old").report.people[0].model.share == pytest.approx(2 / 3)


def test_a_project_without_labels_has_no_figures(team):
    owner = team.person("owner", "owner")
    found = Measurer(team.database).measure(team.project(owner))
    assert (found.labels, found.upto, found.report.overall, found.suspicions) == (0, 0, {}, [])
    assert found.position is None


def village_project(team, owner, people, seed, items=240, K=4):
    """A project that ten simulated people fill; every fifth ranks without reading. Returns it, and who they are."""
    crowd, rng = Annotators(people=10, spammers=0.2), random.Random(seed)
    worths = [[rng.random() for _ in range(K)] for _ in range(items)]
    scale = crowd.calibrate(worths)
    project = team.projects.create(owner, "Village", "rank", overlap=3)
    contents = [
        Content(
            prompt=(Message(role="user", content=f"question {place}"),),
            answers=tuple(Answer(text=f"{number}" * rng.randint(1, 50), model="m") for number in range(K)),
        )
        for place in range(items)
    ]
    team.projects.add_items(owner, project.id, contents)
    for person in people:
        team.projects.join(owner, project.id, person.id)
    waiting = list(range(10))
    while waiting:
        number = rng.choice(waiting)

        def reply(place, task, number=number):
            texts = [answer.text for answer in task.content.answers]
            said = crowd.rank(worths[place], texts, scale, rng, number)
            return project.kind.check(task.content, {"ranks": list(said.ranks)}, range(K))

        if not label(team, people[number], project, reply, rng.lognormvariate(3.4, 0.5)):
            waiting.remove(number)
    return project, {person.id for number, person in enumerate(people) if crowd.is_spammer(number)}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # the labels are the same in either database
def test_who_clicks_at_random_is_flagged_and_honest_people_are_not(team):
    """72 items each: of 80 random ones over 40 seeds 55 were found, of 320 honest ones none was suspected."""
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}") for n in range(10)]
    found, honest = 0, set()
    for seed in range(3):
        project, spammers = village_project(team, owner, people, seed)
        suspected = Measurer(team.database).measure(project).suspicions
        found += len({each.annotator for each in suspected} & spammers)
        honest |= {each.annotator for each in suspected} - spammers
        assert all(reason.startswith("at chance: ") for each in suspected for reason in each.reasons)
    assert found >= 4
    assert honest == set()
