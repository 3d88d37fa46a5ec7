"""Reinforcement learning without a critic: groups of answers, what is left out, presets, what is refused."""

import pytest
import torch
from tests.unit.train import tiny

from heedlm import config
from heedlm.cli import main
from heedlm.errors import BadInput
from heedlm.models import load_model, new_reward, save_model, weights_hash
from heedlm.rewards.rules import Pattern
from heedlm.rewards.types import Reward
from heedlm.stages import rl
from heedlm.stages.rl.learning import Pending

GIVEN = ["model=m", "reward=gold", "prompts=p"]
METHODS = ("rloo", "grpo", "dr_grpo", "dapo", "reinforce_pp", "online_dpo")


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
        "rollouts": 8, "minibatch": 4, "sampling__max_new_tokens": 6, "watch": 4, "optim__lr": 1e-2,
        "cadence__evaluate": 0, "guard": "off",
    } | more  # fmt: skip


def preset(*words):
    return config.load(rl.Config, [*words, *GIVEN], stage="ppo")


@pytest.fixture
def built(monkeypatch):
    """Keeps the Reinforcement object of a run."""
    kept = {}
    real = rl.Reinforcement.__init__

    def remember(self, *args):
        real(self, *args)
        kept["method"] = self

    monkeypatch.setattr(rl.Reinforcement, "__init__", remember)
    return kept


def scored(monkeypatch, value):
    """The rule gives value(place of the answer in the buffer, number of the buffer)."""
    calls = []

    def score(self, episodes):
        calls.append([prompt.messages[-1].content for prompt in episodes.prompts])
        return Reward(torch.tensor([float(value(i, len(calls) - 1)) for i in range(len(episodes.prompts))]))

    monkeypatch.setattr(Pattern, "score", score)
    return calls


RULE = {"name": "pattern", "regex": "x"}


# ---------------------------------------------------------------- presets and names


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_of_a_method_keeps_the_sizes_and_is_the_objective_by_name(name):
    made, usual = preset("tiny", name), preset("tiny")
    assert made.objective == preset(f"objective={name}").objective
    assert made.objective.name == name
    assert made.answers == made.objective.group
    for key in ("steps", "rollouts", "minibatch", "passes", "sampling", "guard", "monitor", "optim"):
        assert getattr(made, key) == getattr(usual, key), key
    assert preset("tiny", name, "ppo_max") == preset("tiny", "ppo_max").model_copy(
        update={key: getattr(made, key) for key in ("group", "kl")} | {"shaping": preset("tiny", "ppo_max").shaping}
    )


def test_the_leash_is_the_sizes_own_where_the_paper_has_one():
    leashes = {name: preset("tiny", name).kl.coef for name in METHODS}
    assert leashes == {"rloo": 0.2, "grpo": 0.2, "reinforce_pp": 0.2, "dr_grpo": 0, "dapo": 0, "online_dpo": 0}
    assert [preset("tiny", name).objective.kl for name in ("rloo", "grpo", "reinforce_pp")] == [
        "reward",
        "loss",
        "reward",
    ]


def test_a_file_that_names_the_objective_by_a_word_keeps_it_when_a_setting_is_added(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('objective = "grpo"\n', encoding="utf-8")
    made = preset(str(file), "objective.clip=0.3").objective
    assert (made.name, made.clip, made.kl) == ("grpo", 0.3, "loss")


def test_a_pair_loss_is_chosen_inside_online_dpo():
    made = preset("tiny", "online_dpo", "objective.loss.name=ipo", "objective.loss.tau=0.3").objective
    assert (made.loss.name, made.loss.tau) == ("ipo", 0.3)
    with pytest.raises(BadInput, match=r"must be one of .*grpo"):
        preset("tiny", "objective=groppo")


# ---------------------------------------------------------------- a step


@pytest.mark.parametrize("name", METHODS)
def test_only_the_policy_learns_and_there_is_no_critic(material, tmp_path, built, name):
    run = tiny.run(rl, tmp_path, **settings(material, objective=name, kl__coef=0.0, rollouts=16))
    method = built["method"]
    assert method.critic is None
    assert {item.role for item in run.info.outputs} == {"model"}
    start = weights_hash(load_model(material / "model"))
    assert weights_hash(method.reference) == start != weights_hash(method.policy)
    for row in run.read_metrics():
        assert row["gap/engine_trainer"] < 1e-4
        assert not [key for key in row if key.startswith("critic/") or key == "loss/value"]
        assert {"reward/mean", "length/mean", "nll/policy", "kl/token_nats", "policy/grad_norm"} <= row.keys()
    first = run.read_metrics()[0]
    if name == "online_dpo":
        assert {"policy/accuracy", "policy/reward/margin", "policy/logps/chosen"} <= first.keys()
    else:
        assert abs(first["first/ratio"] - 1) < 1e-6


def test_answers_to_a_prompt_stand_together_and_prompts_take_turns(material, tmp_path, monkeypatch):
    calls = scored(monkeypatch, lambda i, buffer: i % 3)
    rows = tiny.run(rl, tmp_path, **settings(material, objective="grpo", group=4, reward=RULE)).read_metrics()
    assert [len(call) for call in calls[:2]] == [8, 8]
    asked = [call[::4] for call in calls[:2]]
    for call, prompts in zip(calls, asked, strict=False):
        assert call == [prompt for prompt in prompts for _ in range(4)]
    assert len({*asked[0], *asked[1]}) == 4
    assert rows[0]["group/alike"] == 0
    # 0 1 2 0 and 1 2 0 1
    assert rows[0]["group/std"] == pytest.approx(((11 / 16) ** 0.5 + (8 / 16) ** 0.5) / 2)


def test_several_answers_to_a_prompt_do_for_ppo_too(material, tmp_path):
    rows = tiny.run(rl, tmp_path, **settings(material, group=4, critic__pretrain=1)).read_metrics()
    assert "group/std" in rows[0]
    assert "critic/explained_variance" in rows[0]


def test_kl_pulls_in_the_reward_or_in_the_loss(material, tmp_path, built):
    """Either way a longer leash ends elsewhere; only the loss keeps the reference's log-probabilities."""
    for place in ("reward", "loss"):
        found = {}
        for beta in (0.0, 5.0):
            tiny.run(
                rl, tmp_path / f"{place}{beta}",
                **settings(material, objective={"name": "grpo", "kl": place}, kl__coef=beta, group=4),
            )  # fmt: skip
            method = built["method"]
            experience, _ = method._collect(method._asked([0, 1]), 5, "buffer")
            found[beta] = weights_hash(method.policy)
            assert (experience.reference is not None) == (place == "loss")
            assert experience.values is experience.returns is None
        assert found[0.0] != found[5.0]


def test_the_kl_of_the_loss_is_logged_and_the_guard_can_shorten_the_leash(material, tmp_path, built):
    rows = tiny.run(rl, tmp_path, **settings(material, objective="grpo", group=4, steps=3)).read_metrics()
    assert rows[0]["policy/kl_loss"] < rows[2]["policy/kl_loss"]
    assert all(row["kl/coef"] == 0.2 for row in rows)
    assert built["method"].steady(1) == {"lr_scale": 0.5, "kl_coef": 0.4}


# ---------------------------------------------------------------- what is left out


def test_prompts_whose_answers_are_alike_are_replaced(material, tmp_path, monkeypatch):
    """Of the first buffer only the second prompt teaches; others take the first one's place until one differs."""
    calls = scored(monkeypatch, lambda i, buffer: i if (i >= 4 if buffer == 0 else buffer == 2) else 1)
    objective = {"name": "dapo", "overlong": 0.0}
    run = tiny.run(rl, tmp_path, **settings(material, objective=objective, group=4, reward=RULE, steps=1))
    assert [len(call) for call in calls[:3]] == [8, 4, 4]
    (row,) = run.read_metrics()
    assert row["group/taught"] == 1
    assert row["group/alike"] == 0.5  # of the first answers
    assert row["reward/mean"] == pytest.approx((4 * 1 + 4 + 5 + 6 + 7) / 8)


def test_a_buffer_that_teaches_nothing_changes_nothing(material, tmp_path, monkeypatch, built):
    for name, rounds in (("dapo", 4), ("online_dpo", 1)):
        calls = scored(monkeypatch, lambda i, buffer: 1)
        run = tiny.run(
            rl, tmp_path / name, **settings(material, objective=name, group=4, reward=RULE, kl__coef=0.0, steps=1)
        )
        (row,) = run.read_metrics()
        assert row["group/taught"] == 0
        assert row["group/alike"] == 1
        assert weights_hash(built["method"].policy) == weights_hash(load_model(material / "model"))
        assert "loss/policy" not in row
        assert [len(call) for call in calls] == [8] * rounds + [4, 4]  # and the watched prompts, twice


def test_without_resampling_alike_prompts_stay(material, tmp_path, monkeypatch):
    calls = scored(monkeypatch, lambda i, buffer: i if i >= 4 else 1)
    tiny.run(rl, tmp_path, **settings(material, objective="grpo", group=4, reward=RULE, steps=1))
    assert [len(call) for call in calls[:1]] == [8]


def test_length_costs_near_the_limit(material, tmp_path, built):
    """All answers run into the limit of 6: with the last half priced, each loses 1."""
    plain = {"shaping": {"scale": "none", "clip": None, "missing_eos": 0.0}, "group": 4}
    rows = []
    for share in (0.0, 0.5):
        objective = {"name": "dapo", "overlong": share, "resample": 0}
        run = tiny.run(rl, tmp_path / str(share), **settings(material, objective=objective, steps=1, **plain))
        rows.append(run.read_metrics()[0])
    assert rows[0]["reward/mean"] == rows[1]["reward/mean"] == pytest.approx(rows[0]["reward/shaped_mean"])
    assert rows[0]["length/truncated"] == 1
    assert rows[1]["reward/shaped_mean"] == pytest.approx(rows[0]["reward/mean"] - 1)


def test_pairs_are_the_best_and_the_worst_and_stay_together(material, tmp_path, monkeypatch, built):
    scored(monkeypatch, lambda i, buffer: [3, 1, 2, 0, 5, 5, 5, 4][i % 8])
    seen = []
    real = rl.Reinforcement._update

    def update(self, batch, label):
        seen.append(batch.advantages.sum(1).sign().tolist())
        return real(self, batch, label)

    monkeypatch.setattr(rl.Reinforcement, "_update", update)
    common = {"objective": "online_dpo", "group": 4, "reward": RULE, "kl__coef": 0.0, "minibatch": 2}
    tiny.run(rl, tmp_path, **settings(material, steps=3, **common))
    assert len(seen) == 6  # two prompts a buffer, a pair each
    assert all(signs == [1, -1] for signs in seen)
    method = built["method"]
    experience, facts = method._gather(0)
    assert len(experience) == 4
    assert facts["group/taught"] == 1
    assert method._learn(Pending(experience, facts), 0)["policy/accuracy"] >= 0


# ---------------------------------------------------------------- mixes


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"objective": "grpo"}, r"rollouts=12: must be a multiple of group=8"),
        ({"objective": "rloo", "group": 1}, r"group=1: rloo compares the answers to a prompt"),
        ({"objective": "online_dpo", "group": 1}, r"group=1: online_dpo compares"),
        ({"objective": "online_dpo", "minibatch": 3}, r"minibatch=3: must be even"),
        ({"objective": "online_dpo", "advantages": {"whiten": True}}, r"advantages: online_dpo has none to whiten"),
        ({"objective": "online_dpo", "shaping__truncated": "mask"}, r"shaping\.truncated=mask: would tear pairs"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(material, tmp_path, more, line):
    with pytest.raises(BadInput, match=line):
        tiny.run(rl, tmp_path, **(settings(material, rollouts=12) | more))
    assert not list(tmp_path.glob("ppo/*"))


def test_what_does_nothing_or_pulls_twice_is_told(material, tmp_path, caplog):
    given = settings(material, steps=1)
    tiny.run(rl, tmp_path / "a", **given, objective="reinforce_pp", critic__pretrain=3, gamma=0.9)
    assert "reinforce_pp trains no critic" in caplog.text
    assert "does not discount" in caplog.text
    caplog.clear()
    tiny.run(rl, tmp_path / "b", **given, objective="online_dpo")
    assert "a leash of its own" in caplog.text
    caplog.clear()
    tiny.run(rl, tmp_path / "c", **given, objective="online_dpo", kl__coef=0.0)
    tiny.run(rl, tmp_path / "d", **given, objective="grpo", group=4)
    assert not caplog.text
    tiny.run(rl, tmp_path / "e", **given, objective="grpo", group=4, kl__coef=0.0)
    assert "nothing holds the policy" in caplog.text


def test_rl_is_another_word_for_ppo(material, tmp_path, capsys):
    words = [f"model={material / 'model'}", f"prompts={material / 'prompts.jsonl'}", f"reward={material / 'reward'}"]
    words += [
        "steps=1",
        "rollouts=8",
        "sampling.max_new_tokens=4",
        "watch=2",
        "threads=1",
        f"out={tmp_path}",
        "--quiet",
    ]
    assert main(["rl", "tiny", "rloo", *words]) == 0
    assert list(tmp_path.glob("ppo/*/model"))
    capsys.readouterr()
    assert main(["help", "rl"]) == 0
    assert "usage: heed ppo" in capsys.readouterr().out
