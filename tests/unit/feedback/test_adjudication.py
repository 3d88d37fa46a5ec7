"""Adjudication: which items come up, what a decision is, who may decide."""

import pytest
import sqlalchemy as sa

from heedlm.errors import BadInput
from heedlm.feedback.adjudication import Adjudication, agreement_on, decisions
from heedlm.feedback.errors import Refused
from heedlm.feedback.kinds import Pair, Rank
from heedlm.feedback.measures import newest_labels
from heedlm.feedback.tables import labels


def reply(team, person, project, choose):
    """Everything, by the answers' own indices; `choose` gets the text of the question."""
    while (task := team.assigner.next(person, project.id)) is not None:
        shown = project.kind.shown(choose(task.content.prompt[0].content), task.order)
        team.assigner.submit(person, task.id, shown, key=f"{task.id}-key", base=0, seconds=1)


def better(answer):
    return {"better": answer, "strength": "better"}


@pytest.fixture
def disputed(team):
    """Two items that three people judged: of the first they agree, of the second one differs."""
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}") for n in range(3)]
    project = team.project(
        owner, "pair", count=2, answers=2, overlap=3, people=people, settings={"adjudicate_below": 0.5}
    )
    for number, person in enumerate(people):
        reply(team, person, project, lambda text, number=number: better(int(text == "question 1" and number == 2)))
    return owner, people, project


def test_agreement_on_an_item_is_the_mean_over_two_people_at_a_time():
    assert agreement_on(Pair(), [better(0), better(0), better(1)]) == pytest.approx(1 / 3)
    assert agreement_on(Pair(), [better(0)]) is None
    # Of three pairs of answers two are ordered alike.
    assert agreement_on(Rank(), [{"ranks": [1, 2, 3]}, {"ranks": [1, 3, 2]}]) == pytest.approx(2 / 3)


def test_the_queue_holds_what_people_do_not_agree_on(team, disputed):
    owner, people, project = disputed
    (found,) = Adjudication(team.projects).queue(owner, project.id)
    assert found.content.prompt[0].content == "question 1"
    assert (found.agreement, found.replies) == (pytest.approx(1 / 3), 3)
    with pytest.raises(Refused):
        Adjudication(team.projects).queue(people[0], project.id)


def test_nothing_is_queued_without_a_bound_or_before_all_have_replied(team):
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}") for n in range(3)]
    project = team.project(owner, "pair", count=1, answers=2, overlap=3, people=people)
    for number in (0, 1):
        reply(team, people[number], project, lambda text, number=number: better(number))
    adjudication = Adjudication(team.projects)
    assert adjudication.queue(owner, project.id) == []
    project = team.projects.change(owner, project.id, {"settings": {"adjudicate_below": 1.0}})
    assert adjudication.queue(owner, project.id) == []
    reply(team, people[2], project, lambda text: better(0))
    assert len(adjudication.queue(owner, project.id)) == 1


def test_a_decision_is_a_label_of_its_own_and_the_last_one_counts(team, disputed):
    owner, people, project = disputed
    adjudication = Adjudication(team.projects)
    (found,) = adjudication.queue(owner, project.id)
    first = adjudication.decide(owner, project.id, found.item, {"better": "same"})
    second = adjudication.decide(owner, project.id, found.item, better(1))
    assert second > first
    assert adjudication.queue(owner, project.id) == []
    with team.database.read() as connection:
        assert decisions(connection, project.id)[found.item].reply == better(1)
        assert decisions(connection, project.id, upto=first)[found.item].reply == {"better": "same"}
        assert connection.execute(sa.select(sa.func.count()).select_from(labels)).scalar() == 8
        assert {row.user for row in newest_labels(connection, project.id)} == {person.id for person in people}


def test_who_labelled_an_item_may_decide_it_and_still_correct_their_label(team, disputed):
    owner, _, project = disputed
    boss = team.person("boss", "manager")
    team.projects.join(owner, project.id, boss.id, "manager")
    team.projects.change(owner, project.id, {"overlap": 4})
    reply(team, boss, project, lambda text: better(0))
    task = team.assigner.done(boss, project.id)[0]
    Adjudication(team.projects).decide(boss, project.id, task.item, better(1))
    shown = project.kind.shown(better(1), task.order)
    label = team.assigner.submit(boss, task.id, shown, key="a second key", base=1, seconds=1)
    assert label.version == 2


def test_what_cannot_be_decided(team, disputed):
    owner, people, project = disputed
    adjudication = Adjudication(team.projects)
    (found,) = adjudication.queue(owner, project.id)
    with pytest.raises(BadInput, match="better"):
        adjudication.decide(owner, project.id, found.item, {"better": 7})
    other = team.project(owner, "pair", count=1, answers=2)
    with pytest.raises(Refused):
        adjudication.decide(owner, other.id, found.item, better(0))
    with pytest.raises(Refused):
        adjudication.decide(people[0], project.id, found.item, better(0))
    team.projects.add_items(owner, other.id, [team.content(5, 2)], purpose="gold", expected=[better(0)])
    with team.database.read() as connection:
        gold = connection.exec_driver_sql("SELECT id FROM items WHERE purpose = 'gold'").scalar()
    with pytest.raises(BadInput, match="right reply already"):
        adjudication.decide(owner, other.id, gold, better(0))
