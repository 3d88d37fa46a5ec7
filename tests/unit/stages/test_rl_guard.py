"""The guard in PPO: it goes back, goes on more carefully, keeps what it left, stops when asked or when at its end."""

import json

import pytest
import torch
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import Collapsed, Interrupted
from heedlm.models import load_model, new_reward, save_model, weights_hash
from heedlm.runs import Run, checkpoints
from heedlm.stages import rl
from heedlm.train.state import load_state

# Thresholds that any moving policy crosses: two looks at a KL above nothing are a collapse.
EASILY = {
    "every": 1, "window": 1, "baseline": 1, "trend": 3, "min_steps": 2, "kl": 1e-7, "kl_warn": 1e-7, "together": 1,
    "confirm": 2, "clear": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl")
    return folder


def settings(material, **more):
    return {
        "model": material / "model", "prompts": material / "prompts.jsonl", "reward": material / "reward", "steps": 8,
        "rollouts": 8, "minibatch": 4, "sampling__max_new_tokens": 6, "critic__pretrain": 1, "watch": 4,
        "optim__lr": 1e-2, "cadence__evaluate": 0, "cadence__checkpoint": 1, "monitor": EASILY,
        "rollback": {"margin": 1, "most": 2},
    } | more  # fmt: skip


def only_run(folder):
    (path,) = (file.parent for file in folder.glob("ppo/*/run.json"))
    return Run.open(path)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def fallen(material, tmp_path, **more):
    """A run that collapses, is sent back twice, and collapses a third time."""
    with pytest.raises(Collapsed) as caught:
        tiny.run(rl, tmp_path, **settings(material, **more))
    return only_run(tmp_path), caught.value


def test_it_goes_back_and_on_more_carefully_and_at_last_gives_up(material, tmp_path):
    run, error = fallen(material, tmp_path)
    first, second = run.info.results["guard"]["rollbacks"]
    # KL is 0 in the first buffer; the second step warns, the third confirms.
    assert (first["at"], first["to"], first["lr_scale"], first["kl_coef"]) == (3, 1, 0.5, 0.4)
    assert (second["to"], second["lr_scale"], second["kl_coef"]) == (1, 0.25, 0.8)
    assert any("nats a token to the reference" in reason for reason in first["reasons"])
    assert run.info.results["guard"]["state"] == "collapsed"
    assert error.exit_code == 3
    assert f"{run.path}: collapsed at step 3 after 2 rollbacks: " in str(error)
    assert str(error).endswith("the weights of step 1 are kept as model")
    assert run.info.status == "failed"
    assert run.info.reason == str(error)


def test_what_was_rolled_back_stays_to_be_read_and_the_rest_is_one_trajectory(material, tmp_path):
    run, _ = fallen(material, tmp_path, cadence__evaluate=1)
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["policy/lr"] == 1e-2  # of the first attempt
    assert [row["policy/lr"] for row in rows[1:]] == [0.25e-2] * 2  # of the third
    assert [row["kl/coef"] for row in rows] == [0.2, 0.8, 0.8]
    for attempt, lr in ((1, 1e-2), (2, 0.5e-2)):
        gone = lines(run.path / "abandoned" / str(attempt) / "metrics.jsonl")
        assert [row["step"] for row in gone] == [2, 3]
        assert [row["policy/lr"] for row in gone] == [lr] * 2
        assert lines(run.path / "abandoned" / str(attempt) / "samples.jsonl")[0]["step"] == 2
        alarms = lines(run.path / "abandoned" / str(attempt) / "alarms.jsonl")
        assert [row["state"] for row in alarms] == ["warn", "collapsed"]
    assert [row["state"] for row in lines(run.path / "alarms.jsonl")] == ["warn", "collapsed"]


def test_the_models_left_are_those_of_the_checkpoint_gone_back_to(material, tmp_path):
    run, _ = fallen(material, tmp_path)
    state = load_state(checkpoints.at(run, 1))["method"]["actor"]["model"]
    kept = load_model(run.output("model")).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in state.items())
    assert weights_hash(load_model(run.output("model"))) != weights_hash(load_model(material / "model"))


def test_stop_stops_at_the_first_collapse_with_its_exit_code(material, tmp_path, capsys):
    words = [
        *(
            "ppo",
            f"model={material / 'model'}",
            f"prompts={material / 'prompts.jsonl'}",
            f"reward={material / 'reward'}",
        ),
        *("steps=8", "rollouts=8", "minibatch=4", "sampling.max_new_tokens=6", "critic.pretrain=1", "optim.lr=1e-2"),
        *("guard=stop", "cadence.checkpoint=1", "rollback.margin=1", *(f"monitor.{k}={v}" for k, v in EASILY.items())),
    ]
    assert main([*words, f"out={tmp_path}", "--quiet", "--json"]) == 3
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "collapsed at step 3: " in last
    run = only_run(tmp_path)
    assert run.info.results["guard"]["rollbacks"] == []
    assert not (run.path / "abandoned").exists()


def test_off_lets_the_run_go_on_and_tells_all_the_same(material, tmp_path):
    run = tiny.run(rl, tmp_path, **settings(material, guard="off"))
    assert run.info.status == "complete"
    assert [row["step"] for row in run.read_metrics()] == list(range(1, 9))
    assert run.info.results["guard"]["state"] == "collapsed"
    states = [row["state"] for row in lines(run.path / "alarms.jsonl")]
    assert states[:2] == ["warn", "collapsed"]
    assert set(states[1:]) == {"collapsed"}


def test_a_leash_of_nothing_is_put_on_and_a_controlled_one_shortened(material, tmp_path):
    run, _ = fallen(material, tmp_path / "none", kl__coef=0.0)
    assert [row["kl_coef"] for row in run.info.results["guard"]["rollbacks"]] == [0.05, 0.1]
    run, _ = fallen(
        material, tmp_path / "steered", kl__target=1e-9, kl__horizon=1e9, monitor=EASILY | {"kl_target_factor": 1e-9}
    )
    coefficients = [row["kl_coef"] for row in run.info.results["guard"]["rollbacks"]]
    assert coefficients == pytest.approx([0.4, 0.8], rel=1e-6)
    assert run.read_metrics()[-1]["kl/coef"] == pytest.approx(0.8, rel=1e-6)


def test_the_checkpoint_of_the_best_win_rate_is_kept_and_gone_back_to(material, tmp_path, monkeypatch):
    rates = iter([0.5, 0.7, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35])
    monkeypatch.setattr(rl.Reinforcement, "evaluate", lambda self, index: {"watch/win_rate": next(rates)})
    patient = EASILY | {"confirm": 6}  # on from step 2, so a collapse at step 7
    more = {"cadence__evaluate": 1, "cadence__checkpoint": 0, "cadence__keep": 1, "monitor": patient}
    with pytest.raises(StopIteration):  # the eighth rate is that of the second attempt's last step
        tiny.run(rl, tmp_path, **settings(material, steps=30, **more))
    run = only_run(tmp_path)
    assert 2 in checkpoints.steps(run)
    assert run.info.results["guard"]["rollbacks"][0]["to"] == 2


def test_a_policy_worse_than_its_start_from_the_first_goes_back_to_the_start(material, tmp_path, monkeypatch):
    falling = {"watch/win_rate": 0.3, "watch/drop_low": 0.1}
    monkeypatch.setattr(rl.Reinforcement, "evaluate", lambda self, index: falling)
    limits = EASILY | {"kl": 100.0, "kl_warn": 99.0, "reward_gain": 0.0, "confirm": 50}
    with pytest.raises(Collapsed, match=r"win rate 30%, 20 points below the 50% of step 0.*weights of step 0 are kept"):
        tiny.run(rl, tmp_path, **settings(material, guard="stop", monitor=limits, cadence__evaluate=1, steps=40))
    run = only_run(tmp_path)
    assert weights_hash(load_model(run.output("model"))) == weights_hash(load_model(material / "model"))


@pytest.mark.parametrize(
    ("last_rate", "drop_low", "keep", "kept"),
    [(0.5, 0.05, "best", 2), (0.5, 0.05, "last", None), (0.5, -0.01, "best", None), (0.9, 0.0, "best", None)],
)
def test_a_run_that_ends_worse_than_its_best_by_more_than_chance_ends_with_its_best(
    material, tmp_path, monkeypatch, last_rate, drop_low, keep, kept
):
    rates = {1: 0.5, 2: 0.7, 3: 0.6, 4: last_rate}

    def evaluate(self, index):
        self.watch.last = {"watch/win_rate": rates[index], "watch/drop_low": drop_low if index == 4 else 0.0}
        return self.watch.last

    monkeypatch.setattr(rl.Reinforcement, "evaluate", evaluate)
    more = {"cadence__evaluate": 1, "cadence__checkpoint": 0, "steps": 4, "keep": keep, "monitor": {"min_steps": 100}}
    run = tiny.run(rl, tmp_path, **settings(material, **more))
    assert run.info.status == "complete"
    assert run.info.results.get("kept_step") == kept
    assert run.info.results["final/watch/win_rate"] == (0.7 if kept else last_rate)
    if kept:
        state = load_state(checkpoints.at(run, 2))["method"]["actor"]["model"]
        saved = load_model(run.output("model")).state_dict()
        assert all(torch.equal(saved[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("asked", [9, 12, 16])
def test_a_run_stopped_after_a_rollback_ends_like_one_that_was_not(material, tmp_path, monkeypatch, asked):
    whole, _ = fallen(material, tmp_path / "whole")
    with monkeypatch.context() as patch:
        polls = []
        patch.setattr(runs, "stop_requested", lambda: polls.append(1) or len(polls) == asked)
        with pytest.raises(Interrupted):
            tiny.run(rl, tmp_path / "cut", **settings(material))
    run = only_run(tmp_path / "cut")
    assert main(["resume", str(run.path), "--quiet"]) == 3
    run = Run.open(run.path)

    def plain(rows):
        return [
            {k: v for k, v in row.items() if k != "seconds" and not k.startswith(("time/", "memory/"))} for row in rows
        ]

    assert plain(run.read_metrics()) == plain(whole.read_metrics())
    assert run.info.results["guard"] == whole.info.results["guard"]
    assert weights_hash(load_model(run.output("model"))) == weights_hash(load_model(whole.output("model")))
