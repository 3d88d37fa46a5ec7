"""heed denoise: flipped labels are found and mended. heed steps: labels by checking and by completing."""

import json

import pytest
from tests.unit.train import tiny

from heedlm.config import load
from heedlm.errors import BadInput, Interrupted
from heedlm.evals.strength import Strength
from heedlm.models.chat import Chat
from heedlm.records import Comparison, Steps, read
from heedlm.stages import denoise, reward, steps
from heedlm.stages.denoise import Pair, mended

GOOD, POOR = "In the red house.", "no"


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """80 comparisons, of which every fifth is the wrong way round."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.comparisons(folder / "pairs.jsonl", [(POOR, GOOD) if i % 5 == 0 else (GOOD, POOR) for i in range(80)])
    return folder


def words(material, **more):
    settings = {"model": material / "model", "data": material / "pairs.jsonl", "models": 2, "groups": 5}
    return settings | {"batch": 8, "epochs": 3, "flip": 0.2, "optim__lr": 1e-2} | more


def test_the_weakest_fifth_is_what_was_turned_round_and_is_turned_back(material, tmp_path):
    run = tiny.run(denoise, tmp_path, **words(material, remedies="flip,margin"))
    rows = [json.loads(line) for line in run.output("strengths").read_text().splitlines()]
    assert [row["group"] for row in rows] == [0 if i % 5 == 0 else row["group"] for i, row in enumerate(rows)]
    assert all("flip" in row["remedies"] for row in rows[::5])
    cleaned = read(run.output("comparisons"), Comparison).rows
    assert all(row.answers[row.ranks.index(1)].text == GOOD for row in cleaned)
    assert all(row.margin > 0 for row in cleaned)
    results = run.info.results
    assert (results["pairs"], results["reward_models"], results["remedies"]["flip"]) == (80, 4, 16)
    assert results["groups"][0]["negative"] == 1
    assert results["groups"][0]["high"] <= results["groups"][1]["low"]


def test_no_model_scores_a_prompt_it_was_trained_on(material, tmp_path, monkeypatch):
    seen = []
    member = denoise._member

    def spy(this, config, policy, training, out, number):
        seen.append(({tuple(r.rows[0].ids) for r in training}, {tuple(r.rows[0].ids) for r in out}))
        return member(this, config, policy, training, out, number)

    monkeypatch.setattr(denoise, "_member", spy)
    tiny.run(denoise, tmp_path, **words(material, epochs=0.2, folds=4, models=1))
    assert len(seen) == 4
    assert all(not training & out for training, out in seen)
    assert sum(len(out) for _, out in seen) == 80


def test_an_interrupted_run_trains_no_model_twice(material, tmp_path, monkeypatch):
    config = words(material, epochs=0.2)
    whole = tiny.run(denoise, tmp_path / "whole", **config)
    trained = []
    member = denoise._member

    def stops(*given):
        trained.append(given[-1])
        if len(trained) == 2:
            monkeypatch.setattr(denoise.runs, "stop_requested", lambda: 15)
        return member(*given)

    monkeypatch.setattr(denoise, "_member", stops)
    with pytest.raises(Interrupted):
        tiny.run(denoise, tmp_path / "cut", **config)
    monkeypatch.setattr(denoise.runs, "stop_requested", lambda: None)
    (cut,) = (tmp_path / "cut" / "denoise").iterdir()
    settings = [f"out={tmp_path / 'cut'}", "threads=1", *tiny.words_of(config)]
    done = denoise.run(load(denoise.Config, settings, stage="denoise"), resume=cut)
    assert trained == [0, 1, 2, 3]
    assert done.output("strengths").read_bytes() == whole.output("strengths").read_bytes()


def ranking(count=3):
    texts = [{"text": text} for text in ("a", "b", "c")[:count]]
    return Comparison(prompt=tiny.talk("which?"), answers=texts, ranks=(2, 1, 3)[:count], id="x", order_shown=None)


@pytest.mark.parametrize(
    ("remedies", "mean", "weak", "best", "certainty", "margin"),
    [
        ("flip", -0.5, True, "a", None, None),
        ("flip", -0.5, False, "b", None, None),
        ("flip", 0.5, True, "b", None, None),
        ("smooth", -0.5, True, "b", 0.6, None),
        ("smooth", 0.5, True, "b", None, None),
        ("margin", -0.5, True, "b", None, -0.5),
        ("flip,margin", -0.5, True, "a", None, 0.5),
        ("flip,smooth", -0.5, True, "a", None, None),
        ("flip,smooth", -0.5, False, "b", 0.6, None),
    ],
)
def test_remedies(remedies, mean, weak, best, certainty, margin):
    config = load(denoise.Config, ["model=m", "data=d", f"remedies={remedies}"], stage="denoise")
    row, done = mended(ranking(), Pair(0, 1, 0, Strength(mean, 0.1)), config, weak=weak)
    assert row.answers[row.ranks.index(1)].text == best
    assert (row.certainty, row.margin, row.id) == (certainty, margin, "x-1-0")
    assert ("flip" in done) == (best == "a")
    pair, _ = mended(ranking(2), Pair(0, 1, 0, Strength(mean, 0.1)), config, weak=weak)
    assert pair.id == "x"
    assert [answer.text for answer in pair.answers] == ["a", "b"]
    assert pair.answers[pair.ranks.index(1)].text == best


def test_ties_and_held_out_comparisons_go_on_as_they_were(material, tmp_path):
    rows = [json.loads(line) for line in (material / "pairs.jsonl").read_text().splitlines()]
    rows[3]["ranks"] = [1, 1]
    tied = tiny.jsonl(tmp_path / "tied.jsonl", rows)
    run = tiny.run(denoise, tmp_path, **words(material, data=tied, epochs=0.2, remedies="margin"))
    cleaned = read(run.output("comparisons"), Comparison).rows
    assert sum(row.ranks == (1, 1) for row in cleaned) == 1
    assert len(cleaned) == 80
    follows = tiny.run(reward, tmp_path, model=material / "model", data=run.path, batch=8)
    assert follows.info.results["prompts"] >= 75  # of 80, a twentieth held out


def test_too_few_prompts_are_told(material, tmp_path):
    data = tiny.comparisons(tmp_path / "one.jsonl", [(GOOD, POOR)])
    with pytest.raises(BadInput, match="1 prompts for folds=2"):
        tiny.run(denoise, tmp_path, **words(material, data=data))
    with pytest.raises(BadInput, match="80 preferences for groups=90"):
        tiny.run(denoise, tmp_path, **words(material, groups=90, epochs=0.2))


# ---------------------------------------------------------------- steps

SUMS = ["1 + 1 = 2. So 2.", "1 + 1 = 3. So 3.", "1 + 1 = 3. So 2.", "many"]


def sums(path):
    rows = [
        {"prompt": tiny.talk(f"{tiny.NAMES[i % 6]} {i}: 1 + 1 = ?"), "answers": [{"text": text} for text in SUMS]}
        for i in range(20)
    ]
    return tiny.jsonl(path, rows)


def test_steps_are_labelled_by_checking_them(tmp_path):
    run = tiny.run(steps, tmp_path, answers=sums(tmp_path / "a.jsonl"))
    parts = {role: read(run.output(role), Steps).rows for role in ("steps", "steps_dev", "steps_test")}
    assert {role: len(rows) for role, rows in parts.items()} == {"steps": 68, "steps_dev": 4, "steps_test": 8}
    prompts = {role: {row.prompt for row in rows} for role, rows in parts.items()}
    assert not prompts["steps"] & prompts["steps_test"]
    labels = {"".join(row.steps): row.labels for row in parts["steps"]}
    assert labels == {SUMS[0]: (1, 1), SUMS[1]: (-1, -1), SUMS[2]: (-1, 1), SUMS[3]: (0,)}
    assert run.info.results["steps"] == 20 * 7


def test_steps_are_labelled_by_completing_from_each(tmp_path):
    """The completions are always the same: right behind a right beginning, and never behind a wrong one."""
    tiny.folder(tmp_path / "model", seed=1)
    settings = {
        "answers": sums(tmp_path / "a.jsonl"),
        "how": "rollouts",
        "model": tmp_path / "model",
        "completions": 4,
        "limit": 5,
        "sampling__max_new_tokens": 12,
        "engine": {"name": "scripted", "answers": [" So 2.", " So 5."]},
        "test_share": 0,
        "dev_share": 0,
    }
    run = tiny.run(steps, tmp_path, **settings)
    found = {"".join(row.steps): row for row in read(run.output("steps"), Steps)}
    assert found[SUMS[0]].chances == (0.5, 1.0)
    assert found[SUMS[0]].labels == (1, 1)
    assert found[SUMS[2]].chances == (0.0, 0.0)  # a lucky result with a wrong step is not right
    assert found[SUMS[3]].labels == (-1,)
    with pytest.raises(BadInput, match="name the model that completes"):
        tiny.run(steps, tmp_path, **{**settings, "model": None})


def test_a_process_reward_model_prefers_the_right_chain_to_a_lucky_one(tmp_path):
    """From labels to a model to best-of-n: the chain whose steps hold beats one that is right by luck."""
    from tests.unit.rewards.test_sources import episodes

    from heedlm.rewards import ProcessReward

    tiny.folder(tmp_path / "model", seed=1)
    labelled = tiny.run(steps, tmp_path, answers=sums(tmp_path / "a.jsonl"))
    run = tiny.run(
        reward, tmp_path, model=tmp_path / "model", data=labelled.path, objective={"name": "process"}, batch=8,
        epochs=8, optim__lr=1e-2,
    )  # fmt: skip
    found = run.info.results["step_accuracy"]
    assert found["accuracy"] > 0.9
    assert found["answers"] == 8
    judge = ProcessReward(path=str(run.path)).open(Chat(tiny.tokenizer()))
    assert judge.score(episodes(SUMS[:3])).total.argmax() == 0
    with pytest.raises(BadInput, match="process: imitation"):
        tiny.run(
            reward, tmp_path, model=tmp_path / "model", data=labelled.path, objective={"name": "process"}, imitation=1
        )
