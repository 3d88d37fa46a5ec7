"""Evaluation: who wins against whom, by which referee, at which temperature, and what it costs."""

import json

import pytest
import torch
from tests.unit.judges.server import Endpoint as Server
from tests.unit.judges.server import serving
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.evals.winrate import win_rate
from heedlm.judges import endpoint
from heedlm.models import load_model, load_with_tokenizer, new_reward, save_model, train_tokenizer
from heedlm.rollout import Scripted
from heedlm.stages import evaluate, sft
from heedlm.village import Village


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model, one fine-tuned to end soon, a reward model, and prompts of the village and of our own."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.folder(folder / "other", seed=2)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl", 40)
    tiny.jsonl(folder / "village.jsonl", [p.model_dump(mode="json") for p in Village(0).prompts(12, "test")])
    return folder


def settings(material, **more):
    return {
        "model": material / "model",
        "against": material / "other",
        "prompts": material / "prompts.jsonl",
        "judge": {"name": "scripted"},
        "sampling__max_new_tokens": 8,
        "temperatures": [0.0, 1.0],
    } | more


def names(results):
    return [row["name"] for row in results["settings"]]


# ---------------------------------------------------------------- who wins


def test_a_model_does_not_beat_itself(material, tmp_path):
    run = tiny.run(evaluate, tmp_path, **settings(material, against=material / "model"))
    results = run.info.results
    assert names(results) == ["temperature 1", "greedy"]
    first, greedy = (row["win_rate"] for row in results["settings"])
    assert first["low"] < 0.5 < first["high"]
    assert first["ties"] < 40  # two independent samples, not one compared with itself
    assert (greedy["ties"], greedy["rate"]) == (40, 0.5)
    assert results["kl_nats"] == 0
    assert results["perplexity"] == results["perplexity_against"] > 1


def test_people_s_verdicts_are_reported_beside_the_judge_s(material, tmp_path):
    file = tmp_path / "verdicts.jsonl"
    lines = [{"heed": "human verdicts", "first": "a", "second": "b", "identical": 2}]
    lines += [{"verdicts": ["first", "first", "second"]}] * 3 + [{"verdicts": ["second"]}, {"verdicts": []}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = tiny.run(evaluate, tmp_path, **settings(material, human=file))
    found = run.info.results["human"]
    assert (found["win_rate"]["wins"], found["win_rate"]["ties"], found["win_rate"]["losses"]) == (3, 2, 1)
    assert found["win_rate"]["rate"] == pytest.approx(4 / 6)
    # Of twelve: six firsts, four seconds, and two ties for the prompts with identical answers.
    assert found["verdicts"]["estimate"] == pytest.approx(7 / 12)
    assert found["verdicts"]["low"] < 7 / 12 < found["verdicts"]["high"]
    assert "human" in {item.role for item in run.info.inputs}
    file.write_text("nothing\n")
    with pytest.raises(BadInput, match="line 1"):
        tiny.run(evaluate, tmp_path, **settings(material, human=file, seed=5))


def test_a_better_policy_wins_and_the_other_way_round_it_loses(material, tmp_path, monkeypatch):
    """Answers as scripted for each model: longer ones, which the judge prefers, against shorter ones."""
    said = {"model": ("yes, in the red house",), "other": ("no", "yes, in the red house", "no")}

    def answers(self, prompts, temperature, seed):
        which = "model" if torch.equal(self.model.lm_head.weight, ours.lm_head.weight) else "other"
        real = type(self)(
            self.model, self.chat, self.config.model_copy(update={"engine": Scripted(answers=said[which])})
        )
        return untouched(real, prompts, temperature, seed)

    ours = load_model(material / "model")
    untouched = evaluate.Contestant.answers
    monkeypatch.setattr(evaluate.Contestant, "answers", answers)
    won = tiny.run(evaluate, tmp_path / "a", **settings(material, sampling__max_new_tokens=40))
    swapped = settings(material, model=material / "other", against=material / "model", sampling__max_new_tokens=40)
    lost = tiny.run(evaluate, tmp_path / "b", **swapped)
    rate = won.info.results["win_rate"]
    # 40 prompts: every second of three answers is the same text, a tie; the others are won.
    assert (rate["wins"], rate["ties"], rate["losses"]) == (27, 13, 0)
    assert rate == pytest.approx(win_rate([1.0] * 27 + [0.5] * 13).to_dict())
    assert lost.info.results["win_rate"]["rate"] == pytest.approx(1 - rate["rate"])
    matched = won.info.results["length_matched"]
    assert (matched["n"], matched["rate"]) == (13, 0.5)  # what remains when length cannot decide
    samples = won.read_samples()
    assert len(samples) == 24
    assert (samples[0]["answer"], samples[0]["before"]) == ("yes, in the red house", "no")


def test_a_reward_model_as_referee_prefers_what_it_scores_higher(material, tmp_path):
    reward = material / "reward"
    run = tiny.run(evaluate, tmp_path, **settings(material, judge=str(reward), reward=str(reward), limit=24))
    results, samples = run.info.results, run.read_samples()
    assert results["decided_by"] == "learned"
    outcomes = [0.5 + 0.5 * ((r["reward"] > r["reward_before"]) - (r["reward"] < r["reward_before"])) for r in samples]
    assert results["settings"][-1]["win_rate"] == pytest.approx(win_rate(outcomes).to_dict())
    assert 0 < results["win_rate"]["wins"] < 24
    assert results["reward"]["std"] > 0 < results["reward_against"]["std"]
    assert {"judge", "reward_model"} <= {item.role for item in run.info.inputs}


def test_gold_decides_where_there_is_ground_truth(material, tmp_path):
    words = settings(material, prompts=material / "village.jsonl", judge="gold", max_bad_rows=0.5)
    run = tiny.run(evaluate, tmp_path, **words)
    assert run.info.results["decided_by"] == "gold"
    for row in run.info.results["settings"]:
        assert 0 <= row["gold"] <= 1
        assert 0 <= row["other_gold"] <= 1
    assert {"gold", "gold_before"} <= set(run.read_samples()[0])
    with pytest.raises(BadInput, match="no ground truth"):
        tiny.run(evaluate, tmp_path / "b", **settings(material, judge="gold"))


def test_a_function_of_ones_own_decides(material, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("def score(prompt, response):\n    return len(response)\n")
    run = tiny.run(evaluate, tmp_path / "runs", **settings(material, judge=str(code)))
    assert run.info.results["decided_by"] == "function"
    assert "judge" in {item.role for item in run.info.inputs}


def test_a_judge_is_asked_in_both_orders(material, tmp_path):
    """One that always picks what it is shown first never decides: both orders together are a tie."""
    biased = {"name": "scripted", "position_bias": 1.0}
    run = tiny.run(evaluate, tmp_path, **settings(material, judge=biased))
    for row in run.info.results["settings"]:
        assert row["win_rate"]["ties"] == row["win_rate"]["n"] == 40
    fair = {"name": "scripted", "position_bias": 0.3}
    honest = tiny.run(evaluate, tmp_path / "fair", **settings(material, judge=fair, against=material / "other"))
    assert honest.info.results["settings"][0]["win_rate"]["ties"] < 30


def test_a_judge_behind_an_endpoint_decides_and_says_what_it_costs_first(material, tmp_path, capsys):
    """It likes whatever holds the letter e; nothing is asked twice, and too high a cost is refused at once."""

    def prefers(question):
        first, second = (part.split("\n\n")[0] for part in question.split("Answer ")[1:3])
        return "A" if ("e" in first[10:]) >= ("e" in second[10:]) else "B"

    with serving(Server(prefers)) as server:
        judge = {
            "name": "endpoint", "url": server.url, "model": "m", "replies": str(tmp_path / "replies.jsonl"),
            "price": {"tokens_in": 0.0, "tokens_out": 1e6},
        }  # fmt: skip
        given = settings(material, judge=judge, limit=6)
        run = tiny.run(evaluate, tmp_path / "a", **given)
        results = run.info.results
        assert results["decided_by"] == "endpoint"
        assert results["unread_verdicts"] == 0
        assert set(results["position_consistency"]) == {"temperature 1", "greedy"}
        # Two settings of six prompts in both orders, four tokens of reply.
        assert "24 questions" in capsys.readouterr().err
        assert results["usage"]["requests"] == len(server.bodies)
        assert max(server.delivered.values()) == 1
        asked = len(server.bodies)
        endpoint._client.cache_clear()
        again = tiny.run(evaluate, tmp_path / "b", **given)
        assert len(server.bodies) == asked
        assert again.info.results["settings"] == results["settings"]
        dear = judge | {"price": judge["price"] | {"max_cost": 90.0}}
        with pytest.raises(BadInput, match=r"max_cost: up to 96\.00 would be spent and 90\.00 may be"):
            tiny.run(evaluate, tmp_path / "c", **given | {"judge": dear})
        assert not (tmp_path / "c").exists()
    endpoint._client.cache_clear()


# ---------------------------------------------------------------- temperatures


def test_each_model_answers_at_its_own_best_development_temperature(material, tmp_path):
    run = tiny.run(
        evaluate,
        tmp_path,
        **settings(
            material, prompts_dev=material / "prompts.jsonl", temperatures=[0.0, 0.7, 2.0], limit_dev=20, limit=30
        ),
    )
    results = run.info.results
    assert names(results) == ["temperature 1", "greedy", "each at its best development temperature"]
    tables = results["development_scores"]
    assert set(tables) == {"model", "against"}
    last = results["settings"][-1]
    assert last["counts"]
    assert [row["counts"] for row in results["settings"]] == [False, False, True]
    assert results["win_rate"] == last["win_rate"]
    for which, temperature in (("model", last["temperature"]), ("against", last["other_temperature"])):
        table = tables[which]
        assert set(table) == {"0.0", "0.7", "2.0"}
        assert table[str(float(temperature))] == max(table.values())
    assert all(row["win_rate"]["n"] == 30 for row in results["settings"])


def test_without_development_prompts_greedy_counts(material, tmp_path):
    results = tiny.run(evaluate, tmp_path, **settings(material)).info.results
    assert [row["counts"] for row in results["settings"]] == [False, True]
    assert results["development_scores"] == {}


# ---------------------------------------------------------------- figures


def test_kl_and_perplexity_are_those_of_the_models(material, tmp_path):
    """A model fine-tuned away from where it started: KL to it above 0, and it finds its own texts likelier."""
    tiny.demonstrations(tmp_path / "d.jsonl")
    tuned = tiny.run(
        sft, tmp_path, model=material / "model", data=tmp_path / "d.jsonl", steps=10, length=64, optim__lr=1e-2
    )
    run = tiny.run(evaluate, tmp_path, **settings(material, model=tuned.path, against=material / "model", limit=30))
    results = run.info.results
    assert results["kl_nats"] > 1
    assert results["kl_nats_per_token"] > 0.1
    assert results["perplexity"] < results["perplexity_against"]
    assert {item.role for item in run.info.inputs} == {"model", "against", "prompts"}


def test_the_same_seed_measures_the_same(material, tmp_path):
    one, two = (tiny.run(evaluate, tmp_path / name, **settings(material)).info.results for name in "ab")
    assert one == two


def test_an_overlong_prompt_is_put_aside(material, tmp_path):
    rows = [json.loads(line) for line in (material / "prompts.jsonl").read_text().splitlines()]
    rows[1]["messages"] = tiny.talk("word " * 80)
    data = tiny.jsonl(tmp_path / "p.jsonl", rows)
    run = tiny.run(evaluate, tmp_path, **settings(material, prompts=data, prompts_dev=data, max_bad_rows=0.1))
    assert run.info.results["quarantined/prompts"] == 1
    assert run.info.results["win_rate"]["n"] == 39


def test_models_with_different_vocabularies_can_be_compared_but_not_by_kl(material, tmp_path):
    tokenizer = train_tokenizer(["Quite other words make quite other tokens."] * 20, 280)
    save_model(tiny.model(4, vocabulary=len(tokenizer)), tokenizer, tmp_path / "foreign")
    run = tiny.run(evaluate, tmp_path, **settings(material, against=tmp_path / "foreign"))
    assert "kl_nats" not in run.info.results
    assert run.info.results["win_rate"]["n"] == 40
    assert load_with_tokenizer(tmp_path / "foreign")[1].get_vocab() != tiny.tokenizer().get_vocab()
    for words in ({"judge": str(material / "reward")}, {"reward": str(material / "reward")}):
        with pytest.raises(
            BadInput, match=r"foreign .* have different vocabularies.* one reward model cannot score both"
        ):
            tiny.run(evaluate, tmp_path / "scored", **settings(material, against=tmp_path / "foreign", **words))


def test_a_reward_is_put_to_the_gates_on_given_rankings_and_on_the_models_own_answers(material, tmp_path):
    """Here it is length, as the judge's taste is too: right on every pair of own answers that differ in it."""
    code = tmp_path / "mine.py"
    code.write_text("def score(prompt, response):\n    return len(response)\n")
    other = tmp_path / "judge.py"
    other.write_text("def score(prompt, response):\n    return 2 * len(response)\n")
    ranked = tiny.comparisons(tmp_path / "ranked.jsonl", [("no", "In the red house.")] * 12)
    words = settings(material, judge=str(other), reward=str(code), comparisons=ranked)
    run = tiny.run(evaluate, tmp_path / "runs", **words)
    results = run.info.results
    assert results["accuracy_policy"]["estimate"] == 1
    assert 0 < results["accuracy_policy"]["n"] <= 40
    assert results["reward_model"]["accuracy"]["estimate"] == 0
    assert not results["advice"]["start"]
    assert results["advice"]["line"].startswith("PPO should not start: held-out accuracy 0.0% [")
    assert {"judge", "reward_code", "comparisons"} <= {item.role for item in run.info.inputs}


def test_several_reward_models_score_as_one(material, tmp_path):
    paths = [str(material / "reward"), str(material / "reward")]
    one = tiny.run(evaluate, tmp_path / "one", **settings(material, reward=paths[0], limit=10)).info
    two = tiny.run(evaluate, tmp_path / "two", **settings(material, reward=",".join(paths), limit=10)).info
    assert two.results["reward"] == pytest.approx(one.results["reward"], rel=1e-5)
    assert {"reward_model_1", "reward_model_2"} <= {item.role for item in two.inputs}
