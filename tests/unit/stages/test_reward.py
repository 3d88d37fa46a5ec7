"""Reward models: what the stage trains, centres, reports and puts aside."""

import json

import pytest
import torch
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models import load_model, load_reward, load_with_tokenizer, new_reward
from heedlm.models.chat import Chat
from heedlm.models.scalar import fresh_weights
from heedlm.objectives import BradleyTerry
from heedlm.records import Comparison, read
from heedlm.stages import reward
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim
from heedlm.train.ranking import RankingTraining, pairwise_accuracy, ranking_scores, rankings_of

GOOD, FAIR, POOR = "In the red house.", "I do not know.", "no"


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.comparisons(folder / "pairs.jsonl", [(GOOD, POOR)] * 12)
    tiny.comparisons(folder / "mixed.jsonl", [(GOOD, FAIR, POOR), (GOOD, POOR), (FAIR, POOR)] * 8)
    return folder


def settings(material, **more):
    return {
        "model": material / "model",
        "data": material / "mixed.jsonl",
        "batch": 6,
        "epochs": 1,
        "held_out_share": 0.25,
        "optim__lr": 5e-3,
    } | more


def scores_of(run, path):
    """What the finished run's model gives to the rankings of a file."""
    model, (_, tokenizer) = load_reward(run.output("model")), load_with_tokenizer(path.parent / "model")
    _, rankings = rankings_of(Chat(tokenizer), read(path, Comparison), 64)
    return ranking_scores(model, rankings), rankings


def test_scores_are_centred_over_the_training_answers_and_only_shifted(material, tmp_path):
    centred = tiny.run(reward, tmp_path, **settings(material, held_out_share=0))
    plain = tiny.run(reward, tmp_path, **settings(material, held_out_share=0, centre=False))
    found, _ = scores_of(centred, material / "mixed.jsonl")
    flat = torch.tensor([score for row in found for score in row], dtype=torch.float64)
    assert abs(float(flat.mean())) < 1e-5
    raw, _ = scores_of(plain, material / "mixed.jsonl")
    shift = [a - b for row, other in zip(found, raw, strict=True) for a, b in zip(row, other, strict=True)]
    assert max(shift) - min(shift) < 1e-5
    assert abs(shift[0]) > 1e-4


def test_the_best_held_out_weights_are_kept(material, tmp_path):
    """With a rate that breaks the model later on, the model saved is the one from before."""
    run = tiny.run(reward, tmp_path, **settings(material, epochs=8, cadence__evaluate=1, optim__lr=0.3))
    losses = {row["step"]: row["loss/held_out"] for row in run.read_metrics()}
    best = min(losses, key=losses.get)
    assert run.info.results["best_step"] == best
    assert run.info.results["held_out_loss"] == losses[best]
    assert best != max(losses)


def test_accuracy_on_test_rankings_is_reported_with_its_interval(material, tmp_path):
    run = tiny.run(reward, tmp_path, **settings(material, test=material / "mixed.jsonl", epochs=3))
    found, rankings = scores_of(run, material / "mixed.jsonl")
    right, pairs = map(sum, zip(*pairwise_accuracy(found, rankings), strict=True))
    accuracy = run.info.results["accuracy"]["accuracy"]
    assert accuracy["estimate"] == pytest.approx(right / pairs)
    assert accuracy["n"] == pairs == 8 * (3 + 1 + 1)
    assert accuracy["low"] <= accuracy["estimate"] <= accuracy["high"]


def test_random_weights_are_another_start_than_the_models(material, tmp_path):
    """`init=random` keeps nothing of the model, and is the same for the same seed."""
    kept = tiny.run(reward, tmp_path, **settings(material, optim__lr=1e-9))
    fresh = tiny.run(reward, tmp_path, **settings(material, optim__lr=1e-9, init="random"))
    original = load_model(material / "model").model.embed_tokens.weight
    random = fresh_weights(load_model(material / "model"), 0).model.embed_tokens.weight
    found = [load_reward(run.output("model")).model.embed_tokens.weight for run in (kept, fresh)]
    torch.testing.assert_close(found[0], original, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1], random, atol=1e-6, rtol=0)
    assert (found[1] - original).abs().mean() > 0.01


def test_imitation_trains_the_trunk_that_scores(material, tmp_path):
    """With no preference to learn (all ties), only the imitation term moves the trunk, and the best answer gains."""
    rows = [json.loads(line) for line in (material / "mixed.jsonl").read_text().splitlines()]
    tied = tiny.jsonl(tmp_path / "tied.jsonl", [{**row, "ranks": [1] * len(row["ranks"])} for row in rows])
    # "In the red house." stands first everywhere but once, and a tie's first answer is the one imitated.
    run = tiny.run(reward, tmp_path, **settings(material, data=tied, imitation=5.0, epochs=6, centre=False))
    before, after = load_model(material / "model"), load_reward(run.output("model")).model
    policy = load_model(material / "model")
    policy.model = after
    policy.tie_weights()
    chat = Chat(tiny.tokenizer())
    answered = chat.prompt_ids(read(tied, Comparison).rows[0].prompt), chat.response_ids(GOOD)
    assert nll(policy, *answered) < nll(before, *answered) - 1.0
    losses = [row["loss/imitation"] for row in run.read_metrics()]
    assert losses[-1] < losses[0] - 1.0


@torch.no_grad()
def nll(model, prompt, response):
    logps = model(input_ids=torch.tensor([prompt + response])).logits.log_softmax(-1)[0]
    places = range(len(prompt), len(prompt) + len(response))
    return -sum(float(logps[place - 1, (prompt + response)[place]]) for place in places) / len(response)


def test_without_imitation_it_takes_no_part(material, tmp_path):
    run = tiny.run(reward, tmp_path, **settings(material))
    assert not any("loss/imitation" in row for row in run.read_metrics())


def test_ties_pull_scores_together(material, tmp_path):
    rows = [
        {"prompt": tiny.talk(tiny.question(i)), "answers": [{"text": GOOD}, {"text": POOR}], "ranks": [1, 1]}
        for i in range(24)
    ]
    tied = tiny.jsonl(tmp_path / "tied.jsonl", rows)
    before = spread(new_reward(load_model(material / "model"), seed=0), tied)
    run = tiny.run(reward, tmp_path, **settings(material, data=tied, epochs=5))
    assert spread(load_reward(run.output("model")), tied) < 0.3 * before


def spread(model, path):
    _, rankings = rankings_of(Chat(tiny.tokenizer()), read(path, Comparison), 64)
    scores = ranking_scores(model, rankings)
    return sum(abs(a - b) for a, b in scores) / len(scores)


def test_a_margin_by_strength_reaches_the_loss(material):
    """L = −log σ(Δ − m) with Llama 2's large margins: 3 for `significantly`, 0 where nothing was said."""
    _, rankings = rankings_of(Chat(tiny.tokenizer()), read(material / "pairs.jsonl", Comparison), 64)
    model = new_reward(load_model(material / "model"), seed=0)
    scores = ranking_scores(model, rankings[:2])
    strong = [type(r)(r.rows, r.ranks, s) for r, s in zip(rankings[:2], ("significantly", None), strict=True)]

    def loss(objective, given):
        training = RankingTraining(Learner(model, Optim(), 1), given, given, objective, batch=2, budget=999, seed=0)
        (term,) = training._terms(given, "")
        held_out = training.evaluate(1)["loss/held_out"]
        assert held_out == pytest.approx(float(term.loss().mean().detach()), rel=1e-5)
        return held_out

    def by_hand(*margins):
        differences = torch.tensor([a - b for a, b in scores]) - torch.tensor(margins)
        return float(-torch.nn.functional.logsigmoid(differences).mean())

    assert loss(BradleyTerry(margin="large"), strong) == pytest.approx(by_hand(3.0, 0.0), rel=1e-5)
    assert loss(BradleyTerry(margin="small"), strong) == pytest.approx(by_hand(1.0, 0.0), rel=1e-5)
    assert loss(BradleyTerry(), strong) == pytest.approx(by_hand(0.0, 0.0), rel=1e-5)


def test_a_strength_in_the_file_is_read(material, tmp_path):
    rows = [json.loads(line) for line in (material / "pairs.jsonl").read_text().splitlines()]
    data = tiny.jsonl(tmp_path / "strong.jsonl", [{**row, "strength": "significantly"} for row in rows])
    one = tiny.run(reward, tmp_path, **settings(material, data=data, objective__margin="large"))
    two = tiny.run(reward, tmp_path, **settings(material, data=data))
    assert one.read_metrics()[0]["loss/train"] > two.read_metrics()[0]["loss/train"] + 1


def test_rows_too_long_are_put_aside_with_their_line(material, tmp_path):
    rows = [json.loads(line) for line in (material / "pairs.jsonl").read_text().splitlines()]
    rows[3]["prompt"] = tiny.talk("word " * 60)  # the question alone is too long
    rows[5]["answers"][1]["text"] = "word " * 60  # an answer is
    rows[7]["prompt"] = tiny.talk("word " * 40, "yes", "Where is Ann?")  # an old turn is, which can be left out
    data = tiny.jsonl(tmp_path / "long.jsonl", rows)
    run = tiny.run(reward, tmp_path, **settings(material, data=data, max_bad_rows=0.2, held_out_share=0))
    assert run.info.results["quarantined/comparisons"] == 2
    assert run.info.results["prompts"] == 10
    aside = [json.loads(line) for line in (run.path / "quarantine-comparisons.jsonl").read_text().splitlines()]
    assert [row["line"] for row in aside] == [4, 6]
    with pytest.raises(BadInput, match=r"long\.jsonl: 2 of 12 rows are bad \(line 4: "):
        tiny.run(reward, tmp_path, **settings(material, data=data))


def test_nothing_left_to_train_on(material, tmp_path):
    one = tiny.comparisons(tmp_path / "one.jsonl", [(GOOD, POOR)])
    with pytest.raises(BadInput, match="no comparisons left to train on; lower held_out_share"):
        tiny.run(reward, tmp_path, **settings(material, data=one, held_out_share=0.9))


def test_only_comparisons_by_a_criterion_are_used(material, tmp_path):
    rows = [json.loads(line) for line in (material / "mixed.jsonl").read_text().splitlines()]
    named = [{**row, "criterion": ("helpful", "harmless", "harmless")[i % 3]} for i, row in enumerate(rows)]
    data = tiny.jsonl(tmp_path / "named.jsonl", named)
    run = tiny.run(reward, tmp_path, **settings(material, data=data, criterion="harmless", held_out_share=0, test=data))
    assert run.info.results["prompts"] == 16
    assert list(run.info.results["accuracy"]["by_criterion"]) == ["harmless"]
    with pytest.raises(BadInput, match="no comparison by criterion=honest, only by harmless, helpful"):
        tiny.run(reward, tmp_path, **settings(material, data=data, criterion="honest"))


def test_scores_are_brought_to_mean_zero_and_unit_deviation_over_reference_answers(material, tmp_path):
    """Before training and after it, over the answers that were named; the map is saved with the model."""
    reference = tiny.demonstrations(tmp_path / "demonstrations.jsonl", 20)
    words = settings(material, reference=reference, scale=True, held_out_share=0)
    run = tiny.run(reward, tmp_path, **words)
    model = load_reward(run.output("model"))
    chat = Chat(tiny.tokenizer())
    scores = torch.tensor(
        [row[0] for row in ranking_scores(model, reward._reference(reward.Config(**flat(words)), chat, 64))]
    )
    assert abs(float(scores.mean())) < 1e-5
    assert float(scores.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert run.info.results["gain"] == model.config.heed["gain"] != 1
    # At the start of training too: a rate of almost nothing leaves what was there.
    still = tiny.run(reward, tmp_path, **{**words, "optim__lr": 1e-9, "centre": False})
    assert still.info.results["gain"] == pytest.approx(still.info.results["gain"])
    assert (
        still.read_metrics()[0]["loss/train"]
        != tiny.run(reward, tmp_path, **{**words, "optim__lr": 1e-9, "scale": False}).read_metrics()[0]["loss/train"]
    )


def flat(words):
    return (
        {key: value for key, value in words.items() if "__" not in key}
        | {"model": "m", "data": "d"}
        | {"reference": str(words["reference"])}
    )


def test_certainty_and_margin_of_a_row_reach_the_loss(material):
    """L = −p log σ(Δ − m) − (1 − p) log σ(m − Δ), p and m each row's own."""
    _, rankings = rankings_of(Chat(tiny.tokenizer()), read(material / "pairs.jsonl", Comparison), 64)
    model = new_reward(load_model(material / "model"), seed=0)
    (a, b), (c, d) = ranking_scores(model, rankings[:2])
    given = [
        type(r)(r.rows, r.ranks, None, m, p) for r, m, p in zip(rankings[:2], (0.5, None), (None, 0.7), strict=True)
    ]
    training = RankingTraining(Learner(model, Optim(), 1), given, given, BradleyTerry(), batch=2, budget=999, seed=0)
    log_sigmoid = torch.nn.functional.logsigmoid
    first = -log_sigmoid(torch.tensor(a - b - 0.5))
    second = -0.7 * log_sigmoid(torch.tensor(c - d)) - 0.3 * log_sigmoid(torch.tensor(d - c))
    assert training.evaluate(1)["loss/held_out"] == pytest.approx(float(first + second) / 2, rel=1e-5)


def test_the_run_advises_and_knows_the_policys_own_answers(material, tmp_path):
    own = tiny.comparisons(tmp_path / "own.jsonl", [(GOOD, FAIR)] * 10)
    words = settings(material, test=material / "mixed.jsonl", policy_test=own, epochs=3)
    words |= {"gates__ece": 1.0, "gates__length": 1.0}  # here the better answers are longer
    results = tiny.run(reward, tmp_path, **words).info.results
    assert results["accuracy_policy"]["accuracy"]["n"] == 10
    assert results["advice"]["start"]
    assert results["advice"]["line"].startswith("PPO may start: ")
    strict = tiny.run(reward, tmp_path, **{**words, "gates__policy_accuracy": 1.0, "epochs": 0.1}).info.results[
        "advice"
    ]
    assert not strict["start"]
    assert strict["line"].startswith("PPO should not start: on the policy's own answers ")
