"""The mechanics of the reproductions on made-up runs: what counts as a collapse, and how claims are judged."""

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from heedlm.monitor import Thresholds
from heedlm.rewards.learned import LearnedReward
from heedlm.rewards.types import Reward
from heedlm.rollout.native import NativeEngine

FOLDER = Path(__file__).parents[2] / "reproductions"


def module(path):
    """A script as a module; the folders it adds to sys.path are taken away again."""
    spec = importlib.util.spec_from_file_location(f"reproduction_{path.parent.name}_{path.stem}", path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look their module up
    before = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(made)
    finally:
        sys.path[:] = before
    return made


shards = module(FOLDER / "shards.py")
stability = module(FOLDER / "stability" / "run.py")
monitor = module(FOLDER / "monitor" / "run.py")
guard = module(FOLDER / "guard" / "run.py")
ablation = module(FOLDER / "ablation" / "run.py")
overoptimisation = module(FOLDER / "over-optimisation" / "run.py")
stories = module(FOLDER / "stability" / "stories.py")
rounds = module(FOLDER / "rounds" / "run.py")


def row(gold, start=0.5, rates=None, every=10, shard="plain-0"):
    curve = {name: list(gold) for name in ("gold", "proxy", "kl", "nll", "length", "truncated")}
    curve |= {"step": [every * (i + 1) for i in range(len(gold))], "win_rate": rates or list(gold)}
    return {
        "shard": shard, "seed": int(shard.rsplit("-", 1)[1]), "gold_start": start, "curve": curve,
        "steps": every * len(gold), "seconds": 1.0, "status": "complete",
    }  # fmt: skip


# ---------------------------------------------------------------- a collapse


@pytest.mark.parametrize(
    ("gold", "start", "at"),
    [
        ([0.6, 0.6, 0.6], 0.5, None),
        ([0.6, 0.53, 0.53], 0.5, 20),  # a tenth below its best
        ([0.6, 0.53, 0.6], 0.5, None),  # once is noise
        ([0.6, 0.6, 0.53], 0.5, 30),  # at the end there is no next one
        ([0.52, 0.51, 0.49, 0.48], 0.5, 30),  # below the SFT model
        ([0.52, 0.51, 0.49, 0.48], None, None),
    ],
)
def test_a_collapse_is_a_fall_of_gold_that_stands(gold, start, at):
    assert shards.lost_tenth(row(gold, start)) == at


def test_presets_come_before_settings_and_a_shards_own_settings_last():
    words = ["tiny", "a=1"], ("plain", "a=2")
    assert [shards._presets(part) for part in words] == [["tiny"], ["plain"]]
    assert [shards._settings(part) for part in words] == [["a=1"], ["a=2"]]


def test_names_are_unlike_and_every_word_is_a_setting():
    for script in (stability, monitor, ablation, overoptimisation):
        keys = [shard.key for shard in script.shards()]
        assert len(keys) == len(set(keys))
    assert len(monitor.shards()) == 54


def test_what_a_shard_showed_outlives_its_run(tmp_path):
    (tmp_path / "shards.json").write_text(json.dumps([row([0.6, 0.7])]))
    (kept,) = shards.gather(tmp_path, [shards.Shard("plain", 0, ())], tmp_path / "nowhere")
    assert kept["curve"]["gold"] == [0.6, 0.7]


# ---------------------------------------------------------------- claims


def stability_rows(plain, maxi):
    found = {}
    for seed in (0, 1, 2):
        for name, gold in (("plain", plain), ("ppo_max", maxi)):
            key = f"{name}-{seed}"
            found[key] = stability.figures(row(gold, shard=key, every=10 if name == "plain" else 1000))
    return found


def test_claims_hold_where_they_do_and_nowhere_else():
    fallen, sound = [0.6, 0.4, 0.3], [0.7] * 10
    good = stability.claims(stability_rows(fallen, sound))
    assert all(claim["holds"] for claim in good.values())
    bad = stability.claims(stability_rows(sound, fallen))
    assert not bad["plain PPO collapses on every seed"]["holds"]
    assert not bad["PPO-max does not collapse, on every seed"]["holds"]
    assert not bad["PPO-max ends with a gold win rate over SFT of at least 65 %"]["holds"]
    part = {key: value for key, value in stability_rows(fallen, sound).items() if key != "ppo_max-2"}
    assert not stability.claims(part)["PPO-max does not collapse, on every seed"]["holds"]


def step(number, kl=0.1, cut=0.05, reward=0.0):
    return {
        "step": number, "kl/token_nats": kl, "length/truncated": cut, "length/mean": 20.0, "nll/policy": 0.4,
        "reward/mean": reward, "reward/std": 1.0, "loss/policy": 0.01 * (number % 3), "loss/value": 0.1,
    }  # fmt: skip


LIMITS = Thresholds(every=1, window=5, baseline=5, trend=30, min_steps=10, kl=0.37, kl_warn=0.27)


def test_verdicts_and_their_judgement():
    calm = [step(n) for n in range(1, 100)]
    fallen = [step(n) for n in range(1, 50)] + [step(n, kl=1.0, cut=0.9) for n in range(50, 100)]
    sound, bad = monitor.verdicts(calm, LIMITS), monitor.verdicts(fallen, LIMITS)
    assert sound["detector, S1 to S4"] == [None, None]
    warned, fell = bad["detector, S1 to S4"]
    assert 50 <= warned <= fell <= 60
    assert bad["S4 alone"][1] is not None
    assert bad["S3 alone"][1] is None
    assert bad["loss/policy alone"] == [None, None]
    rows = [
        {"shard": "a", "lost_tenth": 60, "verdicts": bad}, {"shard": "b", "lost_tenth": None, "verdicts": sound},
        {"shard": "c", "lost_tenth": None, "verdicts": bad},
    ]  # fmt: skip
    judged = monitor.judge(rows, "detector, S1 to S4")
    assert (judged["failing runs that reach collapsed"]["are"], judged["failing runs that reach collapsed"]["of"]) == (
        1,
        1,
    )
    assert judged["failing runs warned of before gold lost a tenth"]["are"] == 1
    assert (judged["sound runs that reach collapsed"]["are"], judged["sound runs that reach collapsed"]["of"]) == (1, 2)
    assert judged["median steps from the loss to collapsed"] == fell - 60
    claims = monitor.claims({rule: monitor.judge(rows, rule) for rule in bad}, rows)
    assert claims["detector, S1 to S4: failing runs that reach collapsed"]["holds"]
    assert not claims["detector, S1 to S4: sound runs that reach collapsed"]["holds"]


def test_a_loss_that_jumps_is_noticed():
    rows = [step(n) for n in range(1, 60)] + [{**step(n), "loss/policy": 5.0} for n in range(60, 70)]
    assert 60 <= monitor.loss_alarm(rows, "loss/policy") <= 61


def test_the_guards_outcome_is_gold_before_the_first_collapse_and_at_the_end(tmp_path):
    def rows(*found):
        return [{"step": step, "watch/gold": gold, "watch/win_rate": gold} for step, gold in found]

    final = {"final/watch/gold": 0.62, "final/watch/win_rate": 0.6, "kept_step": 20}

    class Run:
        path = tmp_path
        rollbacks = ({"at": 30, "to": 10, "lr_scale": 0.5, "kl_coef": 0.05, "reasons": ["KL"]},)
        info = types.SimpleNamespace(status="complete", results={"guard": {"rollbacks": rollbacks}, **final})

        def read_metrics(self):
            return rows((10, 0.5), (20, 0.62), (30, 0.61))

    gone = tmp_path / "abandoned" / "1" / "metrics.jsonl"
    gone.parent.mkdir(parents=True)
    gone.write_text("".join(json.dumps(row) + "\n" for row in rows((20, 0.6), (30, 0.2))))
    found = guard.outcome(Run())
    assert (found["best_gold_before"], found["last_gold"], found["final_gold"]) == (0.6, 0.61, 0.62)
    assert found["kept_step"] == 20


def test_an_ingredient_shows_something_only_beyond_the_spread_of_seeds():
    base = {"seeds": [0, 1], "gold": [0.2, 0.3]}
    table = {
        "plain": base,
        "plain+kl": {"seeds": [0, 1], "gold": [0.6, 0.7]},
        "plain+mix": {"seeds": [0, 1], "gold": [0.25, 0.32]},
        "plain+lam-0": {"seeds": [0, 1], "gold": [0.5, 0.1]},
    }  # fmt: skip
    found = ablation.effects(table)
    assert {name: effect["shows"] for name, effect in found.items()} == {
        "plain+kl": True, "plain+mix": False, "plain+lam-0": False,
    }  # fmt: skip


# ---------------------------------------------------------------- planted faults


def test_planted_faults_do_what_they_say(monkeypatch):
    faulty = module(FOLDER / "monitor" / "faulty.py")

    class Episodes:
        class rollouts:  # noqa: N801
            import torch

            response_lengths, ended = torch.tensor([10, 20]), torch.tensor([True, False])

    torch = Episodes.rollouts.torch
    monkeypatch.setattr(faulty, "_score", lambda self, episodes: Reward(torch.tensor([1.0, -2.0])))
    assert faulty.flipped(None, Episodes).total.tolist() == [-1.0, 2.0]
    assert faulty.length(None, Episodes).total.tolist() == [2.0, 0.0]
    assert faulty.no_eos(None, Episodes).total.tolist() == [1.0, 1.0]
    for fault in ("flipped", "sampler"):
        with monkeypatch.context() as patch:
            patch.setattr(LearnedReward, "score", LearnedReward.score)
            patch.setattr(NativeEngine, "generate", NativeEngine.generate)
            faulty.plant(fault)
            changed = {"flipped": LearnedReward.score, "sampler": NativeEngine.generate}[fault]
            assert changed is getattr(faulty, fault)


@pytest.mark.parametrize("script", ["stability", "monitor", "guard", "ablation", "over-optimisation"])
def test_scripts_explain_themselves(script):
    path = FOLDER / script / "run.py"
    told = subprocess.run(
        [sys.executable, str(path), "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "--collect" in told.stdout


@pytest.mark.parametrize(("last", "holds"), [(0.62, [True, True, True]), (0.55, [True, True, False])])
def test_rounds_are_held_against_what_was_before_the_first(last, holds):
    def made(gold, low):
        return {"gold_before": 0.5, "gold": gold, "low": low, "high": low + 0.1}

    table = {"0": [made(0.58, 0.6), made(0.6, 0.62), made(last, 0.55)]}
    assert [claim["holds"] for claim in rounds.claims(table).values()] == holds
    assert not any(claim["holds"] for claim in rounds.claims({}).values())


@pytest.mark.parametrize(
    ("rates", "stumbled", "ruined"),
    [
        ([0.5, 0.6, 0.7, 0.7], None, None),
        ([0.2, 0.5, 0.7, 0.7], None, None),  # one bad evaluation is chance
        ([0.2, 0.2, 0.7, 0.7], 10, None),  # it got up again
        ([0.5, 0.8, 0.6, 0.3], 30, 30),  # a tenth below its best, then below the start
        ([0.5, 0.8, 0.68, 0.69], None, None),  # within chance of nine tenths of the best
        ([0.6, 0.6, 0.6, 0.2], 40, 40),  # after the last there is no next one
    ],
)
def test_a_win_rate_that_falls_beyond_chance(rates, stumbled, ruined):
    found = row(rates, rates=rates) | {"high": [rate + 0.05 for rate in rates]}
    assert (stories.stumbled(found), stories.ruined(found)) == (stumbled, ruined)
