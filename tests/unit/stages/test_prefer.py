"""Preference training: what the stage learns from, keeps, reports and refuses."""

import json

import pytest
import torch
from tests.unit import devices
from tests.unit.train import tiny

from heedlm.cli import main
from heedlm.errors import BadInput
from heedlm.models import load_model
from heedlm.models.chat import Chat
from heedlm.objectives import Dpo
from heedlm.records import Comparison, read
from heedlm.stages import prefer
from heedlm.train.preference import answer_logps, implicit_rewards
from heedlm.train.ranking import pairwise_accuracy, rankings_of

GOOD, FAIR, POOR = "In the red house.", "I do not know.", "no"
METHODS = ["dpo", "ipo", "kto", "orpo", "simpo"]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.comparisons(folder / "mixed.jsonl", [(GOOD, FAIR, POOR), (GOOD, POOR), (FAIR, POOR)] * 8)
    thumbs(folder / "thumbs.jsonl", [(GOOD, True), (POOR, False), (FAIR, False)] * 8)
    return folder


def thumbs(path, marked):
    rows = [
        {"prompt": tiny.talk(tiny.question(i)), "answer": {"text": text}, "up": up}
        for i, (text, up) in enumerate(marked)
    ]
    return tiny.jsonl(path, rows)


def settings(material, **more):
    return {
        "model": material / "model",
        "data": material / "mixed.jsonl",
        "batch": 6,
        "epochs": 1,
        "held_out_share": 0.25,
        "optim__lr": 5e-3,
    } | more


def weights(path):
    return torch.cat([p.detach().flatten() for p in load_model(path).parameters()])


# ---------------------------------------------------------------- what is learned from


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_a_policy_that_loads_and_is_reported(material, tmp_path, name):
    run = tiny.run(prefer, tmp_path, **settings(material, objective__name=name, test=material / "mixed.jsonl"))
    assert [item.role for item in run.info.inputs] == ["model", "comparisons", "comparisons_test"]
    results = run.info.results
    assert results["rows"] == 24
    assert results["steps"] == round(results["prompts"] / 6) >= 2
    assert results["accuracy"]["accuracy"]["n"] == 8 * (3 + 1 + 1)
    assert results["held_out_loss"] > 0
    assert not torch.equal(weights(run.output("model")), weights(material / "model"))
    last = run.read_metrics()[-1]
    for key in ("loss/train", "reward/margin", "accuracy", "logps/chosen", "loss/held_out", "accuracy/held_out"):
        assert key in last
    assert ("kl/mismatched_nats" in last) == (name == "kto")


def test_pairs_are_all_or_extremes(material, tmp_path):
    common = settings(material, held_out_share=0)
    everything, extremes = (tiny.run(prefer, tmp_path, **common, pairs=which) for which in ("all", "extremes"))
    assert everything.info.results["pairs"] == 8 * (3 + 1 + 1)
    assert extremes.info.results["pairs"] == 24
    assert everything.info.results["prompts"] == extremes.info.results["prompts"] == 24


def test_ties_are_left_out_and_counted(material, tmp_path):
    rows = [json.loads(line) for line in (material / "mixed.jsonl").read_text().splitlines()]
    for row in rows[:6]:
        row["ranks"] = [1] * len(row["ranks"])
    data = tiny.jsonl(tmp_path / "tied.jsonl", rows)
    run = tiny.run(prefer, tmp_path, **settings(material, data=data, held_out_share=0))
    assert (run.info.results["rows"], run.info.results["prompts"]) == (24, 18)


def test_kto_learns_from_thumbs(material, tmp_path):
    options = {"data": material / "thumbs.jsonl", "labels": "thumbs", "objective__name": "kto", "epochs": 4}
    run = tiny.run(prefer, tmp_path, **settings(material, **options, optim__lr=1e-2))
    assert [item.role for item in run.info.inputs] == ["model", "thumbs"]
    assert run.info.results["pairs"] == 0
    first, last = run.read_metrics()[0], run.read_metrics()[-1]
    assert first["loss/train"] == pytest.approx(0.5, abs=1e-3)
    assert last["loss/held_out"] < 0.48
    assert last["reward/chosen"] > last["reward/rejected"]


def test_the_accuracy_reported_is_that_of_the_saved_model(material, tmp_path):
    run = tiny.run(prefer, tmp_path, **settings(material, test=material / "mixed.jsonl", epochs=2))
    _, rankings = rankings_of(Chat(tiny.tokenizer()), read(material / "mixed.jsonl", Comparison), 64)
    policy, ref = (
        answer_logps(load_model(path), rankings, budget=999) for path in (run.output("model"), material / "model")
    )
    rewards = implicit_rewards(Dpo(), policy, ref, rankings)
    right, pairs = map(sum, zip(*pairwise_accuracy(rewards, rankings), strict=True))
    assert run.info.results["accuracy"]["accuracy"]["estimate"] == pytest.approx(right / pairs)


def test_the_best_held_out_weights_are_kept(material, tmp_path):
    """With a rate that breaks the model later on, the model saved is the one from before."""
    run = tiny.run(
        prefer, tmp_path, **settings(material, epochs=8, cadence__evaluate=1, optim__lr=1.0, optim__schedule="constant")
    )
    losses = {row["step"]: row["loss/held_out"] for row in run.read_metrics()}
    best = min(losses, key=losses.get)
    assert run.info.results["best_step"] == best != max(losses)
    assert run.info.results["held_out_loss"] == losses[best]


# ---------------------------------------------------------------- references and adapters


def test_a_reference_of_its_own_is_what_log_ratios_are_taken_to(material, tmp_path):
    other = tiny.folder(tmp_path / "other", seed=9)
    common = settings(material, optim__lr=1e-9, test=material / "mixed.jsonl")
    for precompute in (True, False):
        run = tiny.run(prefer, tmp_path, **common, reference=other, precompute=precompute)
        assert "reference" in [item.role for item in run.info.inputs]
        assert abs(run.read_metrics()[0]["reward/margin"]) > 1e-3
    own = tiny.run(prefer, tmp_path, **common)
    assert abs(own.read_metrics()[0]["reward/margin"]) < 1e-5


def test_asking_the_reference_in_every_step_gives_the_same(material, tmp_path):
    for rank in (0, 4):
        before, during = (
            tiny.run(prefer, tmp_path, **settings(material, precompute=precompute, lora__rank=rank))
            for precompute in (True, False)
        )
        for one, two in zip(before.read_metrics(), during.read_metrics(), strict=True):
            assert one["loss/train"] == pytest.approx(two["loss/train"], rel=1e-4)


def test_with_adapters_only_they_are_trained_and_the_base_is_the_reference(material, tmp_path):
    run = tiny.run(prefer, tmp_path, **settings(material, lora__rank=4, epochs=2))
    assert [item.role for item in run.info.outputs] == ["model", "adapter"]
    base, merged = load_model(material / "model").state_dict(), load_model(run.output("model")).state_dict()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {name for name in base if name.endswith("_proj.weight")}
    assert run.info.results["trained_parameters"] < run.info.results["parameters"]
    assert abs(run.read_metrics()[0]["reward/margin"]) < 1e-5


@pytest.mark.parametrize("compute", [{"compute__recompute": True}, {"compute__precision": "bfloat16"}])
def test_compute_is_as_in_other_stages(material, tmp_path, compute):
    plain, other = (tiny.run(prefer, tmp_path, **settings(material, **more)) for more in ({}, compute))
    tight = 1e-5 if "compute__recompute" in compute else 0.05
    assert other.read_metrics()[-1]["loss/train"] == pytest.approx(plain.read_metrics()[-1]["loss/train"], rel=tight)


@pytest.mark.parametrize(
    "more",
    [{}, {"objective__name": "kto", "lora__rank": 2}, {"objective__name": "simpo"}, {"precompute": False}],
    ids=["dpo", "kto with adapters", "simpo", "reference in every step"],
)
def test_on_a_gpu_nothing_is_mixed_with_the_cpu(material, tmp_path, monkeypatch, more):
    given = settings(material, test=material / "mixed.jsonl", **more)
    here = tiny.run(prefer, tmp_path / "cpu", device="cpu", **given)
    with devices.pretended(monkeypatch):
        there = tiny.run(prefer, tmp_path / "there", device="cuda", **given)
    for one, two in zip(here.read_metrics(), there.read_metrics(), strict=True):
        for name in ("loss/train", "grad_norm", "reward/margin"):
            assert one[name] == pytest.approx(two[name], rel=1e-3, abs=1e-5)


def test_a_device_that_is_not_there_is_found_before_anything_is_read(tmp_path):
    with pytest.raises(BadInput, match=r"^device=cuda:99: "):
        tiny.run(prefer, tmp_path, model="missing", data="missing", device="cuda:99")
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------- what is refused


def test_thumbs_all_of_one_kind_are_one_line(material, tmp_path, capsys):
    for up, kind, other in ((True, "up", "down"), (False, "down", "up")):
        data = thumbs(tmp_path / f"{kind}.jsonl", [(GOOD, up)] * 10)
        words = [f"model={material / 'model'}", f"data={data}", "labels=thumbs", "objective.name=kto"]
        assert main(["prefer", *words, f"out={tmp_path}", "held_out_share=0"]) == 2
        said = capsys.readouterr().err.strip()
        assert said.count("\n") == 0
        assert f"{kind}.jsonl: all 10 thumbs are {kind}; kto needs some that are {other} too" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"labels": "thumbs"}, "labels=thumbs: dpo learns from pairs; thumbs train objective.name=kto"),
        ({"lora__rank": 2, "lora__dropout": 0.1}, "lora.dropout: .* leave it at 0"),
        ({"objective__name": "simpo", "reference": "x"}, "reference: simpo takes log-ratios to none; leave it out"),
        ({"held_out_share": 0.999}, "mixed.jsonl: no prompt with a better and a worse answer is left"),
    ],
)
def test_what_does_not_go_together_is_refused(material, tmp_path, more, said):
    with pytest.raises(BadInput, match=said):
        tiny.run(prefer, tmp_path, **settings(material, **more))
    assert not any(tmp_path.iterdir())


def test_ties_alone_are_refused(material, tmp_path):
    rows = [{"prompt": tiny.talk("Where?"), "answers": [{"text": GOOD}, {"text": POOR}], "ranks": [1, 1]}] * 3
    data = tiny.jsonl(tmp_path / "tied.jsonl", rows)
    with pytest.raises(BadInput, match=r"tied\.jsonl: no prompt with a better and a worse answer"):
        tiny.run(prefer, tmp_path, **settings(material, data=data))


def test_chosen_equal_to_rejected_and_rows_too_long_are_put_aside_with_their_line(material, tmp_path):
    rows = [json.loads(line) for line in (material / "mixed.jsonl").read_text().splitlines()]
    rows[3]["prompt"] = tiny.talk("word " * 60)
    rows[4]["answers"][1]["text"] = rows[4]["answers"][0]["text"]
    data = tiny.jsonl(tmp_path / "odd.jsonl", rows)
    run = tiny.run(prefer, tmp_path, **settings(material, data=data, max_bad_rows=0.2))
    aside = [json.loads(line) for line in (run.path / "quarantine-comparisons.jsonl").read_text().splitlines()]
    assert sorted(row["line"] for row in aside) == [4, 5]
    with pytest.raises(BadInput, match=r"odd\.jsonl: .* of 24 rows are bad"):
        tiny.run(prefer, tmp_path, **settings(material, data=data))
