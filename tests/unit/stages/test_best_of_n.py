"""Best of n: the answer that is kept, the curve of every smaller n, demonstrations to clone, and what is refused."""

import json
import math

import pytest
from tests.unit.train import tiny

from heedlm.cli import main
from heedlm.errors import BadInput, NotFinite
from heedlm.models import new_reward, save_model
from heedlm.records import Answers, Demonstration, read
from heedlm.rewards.rules import Pattern
from heedlm.rewards.types import Reward
from heedlm.stages import best_of_n, sft


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model that was taught to answer and to stop."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "raw", seed=1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl", 10)
    shown = tiny.demonstrations(folder / "shown.jsonl", 48)
    (folder / "model").symlink_to(
        tiny.run(sft, folder, model=folder / "raw", data=shown, epochs=12, optim__lr=1e-2).path
    )
    return folder


def settings(material, **more):
    return {
        "model": material / "model", "prompts": material / "prompts.jsonl", "reward": {"name": "pattern", "regex": "e"},
        "n": 5, "batch": 3, "sampling__max_new_tokens": 16,
    } | more  # fmt: skip


def recorded(monkeypatch):
    """Every text and reward that the rule gives, batch by batch."""
    seen = []

    def score(self, episodes):
        total = episodes.rollouts.lengths.double() * 0 + episodes.rollouts.tokens.double().sum(1) % 97
        seen.extend(zip(episodes.texts, total.tolist(), strict=True))
        return Reward(total)

    monkeypatch.setattr(Pattern, "score", score)
    return seen


def test_the_best_is_kept_and_the_curve_is_unbiased(material, tmp_path, monkeypatch):
    seen = recorded(monkeypatch)
    run = tiny.run(best_of_n, tmp_path, **settings(material))
    kept = read(run.output("answers"), Answers).rows
    assert len(kept) == 10
    assert len(seen) == 50
    groups = [seen[i * 5 : i * 5 + 5] for i in range(10)]
    for row, group in zip(kept, groups, strict=True):
        best = max(value for _, value in group)
        assert row.answers[0].text == next(text for text, value in group if value == best)
        assert row.answers[0].tokens > 0
        assert row.answers[0].model == run.name
    curve = run.info.results["curve"]
    assert [row["n"] for row in curve] == [1, 2, 4, 5]
    values = [[value for _, value in group] for group in groups]
    assert curve[0]["reward"] == pytest.approx(sum(map(sum, values)) / 50)
    assert curve[3]["reward"] == pytest.approx(sum(map(max, values)) / 10)
    pairs = [max(a, b) for group in values for i, a in enumerate(group) for b in group[:i]]
    assert curve[1]["reward"] == pytest.approx(sum(pairs) / len(pairs))
    assert curve[2]["kl_nats"] == pytest.approx(math.log(4) - 3 / 4)
    assert "judged" not in curve[0]


def test_another_source_may_judge_what_was_kept(material, tmp_path):
    run = tiny.run(best_of_n, tmp_path, **settings(material, watch_by=material / "reward", reward=material / "reward"))
    for row in run.info.results["curve"]:
        assert row["judged"] == pytest.approx(row["reward"])
    assert {item.role for item in run.info.inputs} == {"model", "prompts", "reward_model", "judge"}


def test_winners_are_demonstrations_with_those_of_earlier_rounds_and_each_once(material, tmp_path):
    first = tiny.run(best_of_n, tmp_path / "a", **settings(material))
    again = tiny.run(best_of_n, tmp_path / "b", **settings(material, earlier=first.path))
    other = tiny.run(best_of_n, tmp_path / "c", **settings(material, earlier=first.path, seed=9))
    one, two, three = (read(run.output("demonstrations"), Demonstration).rows for run in (first, again, other))
    answers = read(first.output("answers"), Answers).rows
    assert [row.messages[-1].content for row in one] == [a.answers[0].text for a in answers if a.answers[0].ended]
    assert all(row.messages[:-1] in [a.prompt for a in answers] for row in one)
    assert [row.id for row in two] == [row.id for row in one]  # the same winners
    assert {row.id for row in one} < {row.id for row in three}
    assert other.info.results["earlier"] == len(one)
    assert other.info.results["demonstrations"] == len(three)
    assert "demonstrations" in {item.role for item in other.info.inputs}
    assert sft.Config(model="m", data=str(first.path)).data
    tiny.run(sft, tmp_path / "d", model=material / "model", data=other.path, epochs=1)


def test_an_answer_without_an_end_is_no_demonstration(material, tmp_path):
    with pytest.raises(BadInput, match="no kept answer came to its end"):
        tiny.run(best_of_n, tmp_path, **settings(material, sampling__max_new_tokens=2))


def test_an_infinite_reward_is_named(material, tmp_path, monkeypatch):
    def score(self, episodes):
        total = episodes.rollouts.lengths.float()
        total[7] = float("nan")
        return Reward(total)

    monkeypatch.setattr(Pattern, "score", score)
    with pytest.raises(NotFinite, match="an answer to prompt 2 is NaN"):
        tiny.run(best_of_n, tmp_path, **settings(material))


def test_the_command_has_a_second_spelling(material, tmp_path, capsys):
    words = [f"model={material / 'model'}", f"prompts={material / 'prompts.jsonl'}", "reward.name=pattern"]
    words += [
        "reward.regex=e",
        "n=2",
        "threads=1",
        "sampling.max_new_tokens=16",
        f"out={tmp_path}",
        "--quiet",
        "--json",
    ]
    assert main(["best-of-n", "tiny", *words]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["results"]["prompts"] == 10
    assert "/best_of_n/" in found["run"]
    assert main(["best-of-n", "--help"]) == 0
    assert "heed best_of_n" in capsys.readouterr().out
