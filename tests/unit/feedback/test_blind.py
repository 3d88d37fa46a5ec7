"""Blind comparison of two runs, from their answers to a win rate."""

import json

import pytest

from heedlm.errors import BadInput
from heedlm.evals.human import count, human_win_rate
from heedlm.feedback import blind
from heedlm.feedback.adjudication import Adjudication
from heedlm.records import Answer, Answers, Message, write


def answers_file(path, texts):
    """A file of answers: prompt number → text."""
    rows = [
        Answers(prompt=(Message(role="user", content=f"question {n}"),), answers=(Answer(text=text, model="hidden"),))
        for n, text in texts.items()
    ]
    write(path, rows)
    return path


@pytest.fixture
def compared(team, tmp_path):
    """Ten shared prompts, two of them answered alike; three people prefer the first in 6 of 8."""
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}") for n in range(3)]
    first = answers_file(tmp_path / "ppo.jsonl", {n: f"good {n}" for n in range(11)})
    texts = {n: f"good {n}" if n < 2 else f"poor {n}" for n in range(10)}
    second = answers_file(tmp_path / "sft.jsonl", {**texts, 99: "alone"})
    project, facts = blind.make(team.projects, owner, "PPO or SFT", first, second, overlap=3)
    for person in people:
        team.projects.join(owner, project.id, person.id)
    return owner, people, project, facts


def judge(team, people, project):
    for person in people:
        while (task := team.assigner.next(person, project.id)) is not None:
            number = int(task.content.prompt[0].content.split()[1])
            better = "same" if number == 9 else int(number == 8)
            reply = {"better": better} if better == "same" else {"better": better, "strength": "better"}
            shown = project.kind.shown(reply, task.order)
            team.assigner.submit(person, task.id, shown, key=f"{task.id}-key", base=0, seconds=1)


def test_it_compares_the_prompts_both_answered_differently(team, compared):
    owner, people, project, facts = compared
    assert (facts["prompts"], facts["identical"], facts["first"], facts["second"]) == (10, 2, "ppo", "sft")
    assert team.projects.progress(project)["items"] == 8
    assert blind.compared(team.projects, owner, project.id) == facts
    task = team.assigner.next(people[0], project.id)
    assert {answer.model for answer in task.content.answers} == {"ppo", "sft"}


def test_verdicts_become_a_win_rate_with_intervals(team, compared, tmp_path):
    owner, people, project, _ = compared
    with pytest.raises(BadInput, match="nobody"):
        count([{"first": "a", "second": "b", "identical": 0}, {"verdicts": []}])
    judge(team, people, project)
    path = tmp_path / "verdicts.jsonl"
    path.write_text("".join(blind.as_lines(blind.verdicts(team.projects, owner, project.id))))
    found = human_win_rate(path)
    # 6 wins, 1 loss, 1 tie and 2 prompts answered alike: (6 + 3/2) / 10.
    assert (found.win_rate.wins, found.win_rate.ties, found.win_rate.losses) == (6, 3, 1)
    assert found.win_rate.rate == pytest.approx(0.75)
    assert found.win_rate.low < 0.75 < found.win_rate.high
    assert found.verdicts.estimate == pytest.approx((18 + 1.5 + 1) / 26)
    assert found.verdicts.low < found.verdicts.estimate < found.verdicts.high
    assert (found.prompts, found.identical, found.not_judged) == (10, 2, 0)
    assert json.loads(json.dumps(found.to_dict()))["win_rate"]["rate"] == pytest.approx(0.75)


def test_the_rate_is_that_of_the_model_it_is_asked_for(tmp_path):
    path = tmp_path / "verdicts.jsonl"
    facts = {"heed": "human verdicts", "first": "a", "second": "b", "identical": 0}
    facts |= {"first_model": "ppo/one", "second_model": "sft/two"}
    path.write_text(json.dumps(facts) + "\n" + json.dumps({"verdicts": ["first"]}) + "\n")
    two = tmp_path / "sft" / "two"
    two.mkdir(parents=True)
    (two / "run.json").write_text("{}")
    for model, rate, first in ((None, 1.0, "a"), ("ppo/one", 1.0, "a"), (str(two), 0.0, "b"), ("unknown", 1.0, "a")):
        found = human_win_rate(path, model=model)
        assert (found.win_rate.rate, found.first) == (rate, first)


def test_a_decision_takes_the_place_of_the_verdicts(team, compared):
    owner, people, project, _ = compared
    judge(team, people, project)
    lines = blind.verdicts(team.projects, owner, project.id)
    eighth = next(line for line in lines[1:] if line["prompt"][0]["content"] == "question 8")
    assert eighth["verdicts"] == ["second"] * 3
    Adjudication(team.projects).decide(owner, project.id, eighth["id"], {"better": "same"})
    lines = blind.verdicts(team.projects, owner, project.id)
    assert next(line for line in lines[1:] if line["id"] == eighth["id"])["verdicts"] == ["same"]


def test_what_cannot_be_compared(team, tmp_path):
    owner = team.person("owner", "owner")
    one = answers_file(tmp_path / "one.jsonl", {1: "a", 2: "b"})
    for texts, why in (({3: "a"}, "no prompt in common"), ({1: "a", 2: "b"}, "gave the same answer")):
        other = answers_file(tmp_path / "other.jsonl", texts)
        with pytest.raises(BadInput, match=why):
            blind.make(team.projects, owner, "x", one, other)
    with pytest.raises(BadInput, match="no such file"):
        blind.make(team.projects, owner, "x", one, tmp_path / "nothing")
    assert team.projects.mine(owner) == []
    plain = team.project(owner, "pair", answers=2)
    assert blind.compared(team.projects, owner, plain.id) is None
    with pytest.raises(BadInput, match="no blind comparison"):
        blind.verdicts(team.projects, owner, plain.id)


def test_runs_of_one_name_are_told_apart(team, tmp_path):
    owner = team.person("owner", "owner")
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(answers_file(tmp_path / folder / "x.jsonl", {1: folder}))
    _, facts = blind.make(team.projects, owner, "x", *paths)
    assert (facts["first"], facts["second"]) == ("a/x", "b/x")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "is empty"),
        (['{"id": "x"}'], "line 1: is not what is compared"),
        (
            ['{"heed": "human verdicts", "first": "a", "second": "b", "identical": 0}', '{"verdicts": ["third"]}'],
            "line 2",
        ),
        (["{"], "line 1"),
    ],
)
def test_a_file_that_is_none_is_told_by_its_line(tmp_path, lines, why):
    path = tmp_path / "verdicts.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(BadInput, match=why):
        human_win_rate(path)
    with pytest.raises(BadInput, match="cannot be read"):
        human_win_rate(tmp_path / "nothing.jsonl")
