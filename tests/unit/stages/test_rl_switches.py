"""Each ingredient of PPO-max is one switch, the presets name theirs, and mixes that do not go together are told of."""

import pytest
import torch
from tests.unit.train import tiny

from heedlm import config
from heedlm.errors import BadInput
from heedlm.evals.winrate import Z95
from heedlm.models import load_model, new_reward, save_model
from heedlm.records import Message, Meta, Prompt
from heedlm.rollout import Sampling
from heedlm.stages import rl
from heedlm.stages.rl.watching import Watch
from heedlm.train.experience import Experience

GIVEN = ["model=m", "reward=gold", "prompts=p"]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl")
    return folder


def settings(material, **more):
    return {
        "model": material / "model", "prompts": material / "prompts.jsonl", "reward": material / "reward", "steps": 2,
        "rollouts": 8, "minibatch": 4, "sampling__max_new_tokens": 6, "critic__pretrain": 1, "watch": 4,
        "optim__lr": 1e-2, "cadence__evaluate": 0, "guard": "off",
    } | more  # fmt: skip


def preset(*words):
    return config.load(rl.Config, [*words, *GIVEN], stage="ppo")


# ---------------------------------------------------------------- presets


def test_ppo_max_is_the_default():
    assert preset("tiny", "ppo_max") == preset("tiny")
    default = preset("tiny")
    assert default.shaping.scale == "normalise"
    assert default.shaping.clip == 5
    assert (default.critic.init, default.passes, default.gamma, default.lam) == ("reward", 1, 1, 0.95)
    assert (default.objective.clip, default.objective.value_clip, default.optim.grad_clip) == (0.2, 0.2, 1)
    assert not default.advantages.whiten
    assert default.on_collapse == "off"  # the reward is gold itself
    learned = config.load(rl.Config, ["tiny", "model=m", "reward=runs/reward/m", "prompts=p"], stage="ppo")
    assert learned.on_collapse == "rollback"
    assert preset("tiny", "guard=stop").on_collapse == "stop"


def test_plain_ppo_keeps_rows_9_to_11_and_nothing_else_and_the_sizes_of_the_other():
    plain, usual = preset("tiny", "plain"), preset("tiny")
    assert (plain.kl.coef, plain.mix.coef, plain.shaping.missing_eos) == (0, 0, 0)
    assert (plain.shaping.scale, plain.shaping.clip) == ("none", None)
    assert (plain.critic.init, plain.critic.pretrain) == ("policy", 0)
    assert plain.objective.value_clip is plain.optim.grad_clip is plain.critic.optim.grad_clip is None
    assert (plain.objective.clip, plain.lam) == (0.2, 0.95)
    for name in ("steps", "rollouts", "minibatch", "passes", "sampling", "guard", "monitor"):
        assert getattr(plain, name) == getattr(usual, name), name
    assert (plain.optim.lr, plain.critic.optim.lr) == (usual.optim.lr, usual.critic.optim.lr)


def test_every_preset_of_a_paper_names_its_source_and_loads():
    for name in config.presets("ppo"):
        made = preset(name)
        if name == "ziegler":
            assert (made.kl.coef, made.kl.target, made.passes, made.sampling.temperature) == (0.15, 6.0, 4, 0.7)
        if name == "instructgpt":
            assert (made.kl.coef, made.average, made.rollouts, made.minibatch) == (0.02, 0.992, 512, 64)
        if name == "7b":
            assert (made.optim.lr, made.critic.optim.lr, made.kl.coef, made.lam) == (5e-7, 1.65e-6, 0.05, 0.9)


# ---------------------------------------------------------------- mixes


def test_a_clip_of_nothing_is_refused():
    with pytest.raises(BadInput, match=r"shaping\.clip"):
        preset("tiny", "shaping.clip=0")


def test_shaped_advantages_beside_a_value_clip_are_warned_of(material, tmp_path, caplog):
    tiny.run(rl, tmp_path / "both", **settings(material, steps=1, advantages={"whiten": True}))
    assert "the value loss is clipped too" in caplog.text
    caplog.clear()
    tiny.run(
        rl, tmp_path / "one", **settings(material, steps=1, advantages={"whiten": True}, objective={"value_clip": None})
    )
    assert "clipped too" not in caplog.text


def test_no_leash_and_no_guard_is_warned_of(material, tmp_path, caplog):
    tiny.run(rl, tmp_path, **settings(material, steps=1, kl__coef=0.0))
    assert "nothing is done when it collapses" in caplog.text


def test_a_mean_of_adapters_weights_is_refused():
    with pytest.raises(BadInput, match="average"):
        preset("tiny", "average=0.9", "lora.rank=4")


# ---------------------------------------------------------------- switches that do something


def last(run):
    return run.read_metrics()[-1]


SWITCHES = [
    {"kl__coef": 0.0},
    {"ratio_to": "reference"},
    {"objective": {"entropy": 0.01}},
    {"objective": {"clip": None}},
    {"objective": {"value_clip": None}},
    {"shaping": {"scale": "scale"}},
    {"shaping": {"scale": "none"}},
    {"shaping": {"clip": 0.3}},
    {"advantages": {"whiten": True}},
    {"advantages": {"clip": 0.01}},
    {"critic__init": "policy"},
    {"critic__pretrain": 0},
    {"lam": 0.0},
    {"optim__grad_clip": 0.01},
]


@pytest.fixture(scope="module")
def usual(material, tmp_path_factory):
    more = {"passes": 3, "steps": 3}
    return load_model(tiny.run(rl, tmp_path_factory.mktemp("usual"), **settings(material, **more)).output("model"))


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_switch_changes_the_policy(material, usual, tmp_path, switch):
    other = load_model(tiny.run(rl, tmp_path, **settings(material, passes=3, steps=3, **switch)).output("model"))
    pairs = zip(usual.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in pairs)


def test_the_ratio_to_the_reference_starts_at_one_and_moves_away_with_the_policy(material, tmp_path):
    rows = tiny.run(rl, tmp_path, **settings(material, steps=4, ratio_to="reference")).read_metrics()
    assert abs(rows[0]["first/ratio"] - 1) < 1e-6
    assert abs(rows[3]["first/ratio"] - 1) > 1e-3


def test_nothing_is_learned_from_cut_answers_where_they_are_masked(material, tmp_path, monkeypatch):
    """Unless all are cut: then there is nothing else to learn from."""
    seen = []
    real = rl.Reinforcement._learn

    def learn(self, pending, index):
        seen.append(pending.experience)
        return real(self, pending, index)

    monkeypatch.setattr(rl.Reinforcement, "_learn", learn)
    tiny.run(rl, tmp_path, **settings(material, shaping={"truncated": "mask"}))
    assert [len(batch.lengths) for batch in seen] == [8, 8]  # an untrained model ends no answer
    whole = seen[0]
    assert isinstance(whole, Experience)
    part = whole.select([1, 3])
    assert part.lengths.tolist() == whole.lengths[[1, 3]].tolist()


def test_the_saved_weights_are_the_mean_of_those_on_the_way(material, tmp_path, monkeypatch):
    steps = []
    real = rl.Reinforcement._take_mean

    def take(self):
        steps.append({name: p.detach().clone() for name, p in self.policy.named_parameters()})
        real(self)

    monkeypatch.setattr(rl.Reinforcement, "_take_mean", take)
    run = tiny.run(rl, tmp_path, **settings(material, steps=3, average=0.75))
    start = dict(load_model(material / "model").named_parameters())
    for name, saved in load_model(run.output("model")).named_parameters():
        mean = start[name].detach()
        for weights in steps:
            mean = 0.75 * mean + 0.25 * weights[name]
        torch.testing.assert_close(saved.detach(), mean, rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- watching


class Texts:
    """An engine and a judge in one: scores are what the test says."""

    def __init__(self, scores):
        self.scores = iter(scores)


def test_the_fall_from_the_best_win_rate_is_measured_prompt_by_prompt(monkeypatch):
    prompts = [Prompt(id=str(i), messages=(Message(role="user", content="?"),), meta=Meta()) for i in range(4)]
    watch = Watch(prompts, None, object(), None, Sampling(max_new_tokens=4), 0)
    judged = iter([[0.0] * 4, [1.0, 1.0, 1.0, -1.0], [-1.0, 1.0, 0.0, -1.0]])
    order = [next(judged), next(judged), next(judged)]
    answers = iter([order[1], order[0], order[2]])  # the policy's answers come before the starting policy's

    def answer(self, engine, seed):
        scores = next(answers)
        return {"text": ["x"] * 4, "reward": scores, "length": [1] * 4, "judged": scores}

    monkeypatch.setattr(Watch, "_answer", answer)
    first, _ = watch.look(None, lambda: None)
    assert (first["watch/win_rate"], first["watch/drop"]) == (0.75, 0.0)
    second, rows = watch.look(None, lambda: None)
    assert second["watch/win_rate"] == pytest.approx(1.5 / 4)
    assert second["watch/drop"] == pytest.approx(1.5 / 4)  # falls of 1, 0, ½ and 0
    spread = (sum((fall - 0.375) ** 2 for fall in (1, 0, 0.5, 0)) / 4 / 4) ** 0.5
    assert second["watch/drop_low"] == pytest.approx(0.375 - Z95 * spread)
    assert len(rows) == 4


def test_a_policy_that_only_gets_worse_falls_from_its_start(monkeypatch):
    prompts = [Prompt(id=str(i), messages=(Message(role="user", content="?"),), meta=Meta()) for i in range(9)]
    watch = Watch(prompts, None, object(), None, Sampling(max_new_tokens=4), 0)
    answers = iter([[-1.0] * 8 + [1.0], [0.0] * 9])

    def answer(self, engine, seed):
        scores = next(answers)
        return {"text": ["x"] * 9, "reward": scores, "length": [1] * 9, "judged": scores}

    monkeypatch.setattr(Watch, "_answer", answer)
    first, _ = watch.look(None, lambda: None)
    assert first["watch/win_rate"] == pytest.approx(1 / 9)
    assert first["watch/drop"] == pytest.approx(0.5 - 1 / 9)
    assert first["watch/drop_low"] > 0


def test_the_training_reward_alone_gives_no_win_rate_to_the_guard(material, tmp_path):
    plain = tiny.run(rl, tmp_path / "plain", **settings(material, cadence__evaluate=1))
    assert "watch/win_rate" not in last(plain)
    assert "watch/win_rate_by_reward" in last(plain)
    rule = {"name": "pattern", "regex": "[aeiou]"}
    judged = tiny.run(rl, tmp_path / "judged", **settings(material, cadence__evaluate=1, watch_by=rule))
    assert last(judged)["watch/drop"] >= 0
    assert 0 <= last(judged)["watch/win_rate_low"] <= last(judged)["watch/win_rate"]
