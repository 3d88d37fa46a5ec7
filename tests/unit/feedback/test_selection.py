"""Active selection: worked numbers, and the order in which items come to people."""

import math

import pytest

from heedlm.errors import BadInput
from heedlm.feedback.errors import Refused
from heedlm.feedback.selection import prioritise, read_scores, spread, store, uncertainty


def keys_of(team, project):
    with team.database.read() as connection:
        query = f"SELECT id FROM items WHERE project = '{project.id}' ORDER BY place"
        return [row[0] for row in connection.exec_driver_sql(query)]


def asked(team, person, project):
    """The places of the items in the order in which they are asked."""
    found = []
    while (task := team.assigner.next(person, project.id)) is not None:
        found.append(int(task.content.prompt[0].content.split()[1]))
        team.assigner.skip(person, task.id, "")
    return found


def test_worked_numbers():
    assert uncertainty([2.0, 1.5, -1.0]) == pytest.approx(math.exp(-0.5))
    assert uncertainty([1.0, 1.0]) == 1.0
    assert uncertainty([3.0]) == 0.0
    assert spread([[1, 3], [2, 2]]) == pytest.approx(0.5)
    assert spread([[1, 3], [11, 13]]) == 0.0  # only differences between answers count
    assert spread([[1.0], [3.0]]) == 1.0
    assert spread([[1.0, 2.0]]) == 0.0


def test_the_smallest_margin_is_asked_first_and_what_has_no_score_last(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, count=4, people=[ann])
    keys = keys_of(team, project)
    store(team.projects, owner, project.id, "rm", {keys[1]: [5, 0, 0], keys[2]: [1, 0.9, -9], keys[3]: [2, 1, 0]})
    assert prioritise(team.projects, owner, project.id, "margin") == 3
    assert asked(team, ann, project) == [2, 3, 1, 0]


def test_the_ensemble_that_differs_most_whatever_its_scales(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, count=3, people=[ann])
    keys = keys_of(team, project)
    store(team.projects, owner, project.id, "one", {keys[0]: [3, 2, 1], keys[1]: [3, 2, 1], keys[2]: [3, 2, 1]})
    with pytest.raises(BadInput, match="two reward models"):
        prioritise(team.projects, owner, project.id, "spread")
    hundred = {keys[0]: [300, 200, 100], keys[1]: [100, 200, 300], keys[2]: [200, 300, 100]}
    store(team.projects, owner, project.id, "two", hundred)
    assert prioritise(team.projects, owner, project.id, "spread") == 3
    assert asked(team, ann, project) == [1, 2, 0]


def test_what_people_differ_on_is_asked_first_and_the_order_can_be_put_back(team):
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}") for n in range(3)]
    project = team.project(owner, "pair", count=3, answers=2, overlap=3, people=people)
    for number, person in enumerate(people[:2]):
        while (task := team.assigner.next(person, project.id)) is not None:
            better = int(task.content.prompt[0].content == "question 2" and number == 1)
            shown = project.kind.shown({"better": better, "strength": "better"}, task.order)
            team.assigner.submit(person, task.id, shown, key=f"{task.id}-key", base=0, seconds=1)
    assert prioritise(team.projects, owner, project.id, "disagreement") == 3
    first = team.assigner.next(people[2], project.id)
    assert first.content.prompt[0].content == "question 2"
    team.assigner.release_all(project.id, people[2].id)
    assert prioritise(team.projects, owner, project.id, "added") == 0
    assert asked(team, people[2], project) == [0, 1, 2]


def test_what_is_refused(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, people=[ann])
    key = keys_of(team, project)[0]
    with pytest.raises(BadInput, match="rule="):
        prioritise(team.projects, owner, project.id, "best")
    with pytest.raises(BadInput, match="no such scores"):
        prioritise(team.projects, owner, project.id, "margin")
    with pytest.raises(Refused):
        prioritise(team.projects, ann, project.id, "added")
    with pytest.raises(BadInput, match="has 3 answers, but 2 scores"):
        store(team.projects, owner, project.id, "rm", {key: [1, 2]})
    with pytest.raises(BadInput, match="not in this project"):
        store(team.projects, owner, project.id, "rm", {"nothing": [1, 2]})
    with pytest.raises(BadInput, match="source"):
        store(team.projects, owner, project.id, " ", {key: [1, 2, 3]})


def test_scores_are_read_line_by_line(tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text('{"id": "a", "scores": [1, 2]}\n\n{"id": "b", "scores": [0.5, -1]}\n')
    assert read_scores(path) == {"a": [1.0, 2.0], "b": [0.5, -1.0]}
    for wrong in ('{"id": "a"}', "[1]", "nonsense", '{"id": "a", "scores": [NaN]}', '{"id": "a", "scores": []}', "7"):
        path.write_text('{"id": "x", "scores": [1]}\n' + wrong)
        with pytest.raises(BadInput, match=r"mine\.jsonl: line 2"):
            read_scores(path, "mine.jsonl")
    path.write_text("")
    with pytest.raises(BadInput, match="no scores"):
        read_scores(path)
