"""PPO: who changes and who does not, the first minibatch, the leash, what is refused."""

import copy

import pytest
import torch
from tests.unit.train import tiny

from heedlm.cli import main
from heedlm.errors import BadInput, NotFinite
from heedlm.models import (
    load_model,
    load_reward,
    load_with_tokenizer,
    new_reward,
    save_model,
    train_tokenizer,
    weights_hash,
)
from heedlm.ops.types import Rollouts
from heedlm.rewards.rules import Pattern
from heedlm.rewards.types import Reward
from heedlm.stages import rl
from heedlm.train.experience import rollout_logps

RULE = {"name": "pattern", "regex": "[aeiou]"}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model with dropout in its config, a reward model and prompts."""
    folder = tmp_path_factory.mktemp("material")
    model = tiny.model(1)
    model.config.attention_dropout = 0.4
    save_model(model, tiny.tokenizer(), folder / "model")
    save_model(new_reward(tiny.model(2), seed=3), tiny.tokenizer(), folder / "reward")
    tiny.prompts(folder / "prompts.jsonl")
    tiny.documents(folder / "corpus.jsonl")
    return folder


def settings(material, **more):
    return {
        "model": material / "model",
        "prompts": material / "prompts.jsonl",
        "reward": RULE,
        "steps": 2,
        "rollouts": 8,
        "minibatch": 4,
        "sampling__max_new_tokens": 6,
        "critic__pretrain": 1,
        "watch": 4,
        "cadence__evaluate": 0,
    } | more


@pytest.fixture
def watched(monkeypatch):
    """Keeps the Reinforcement object of a run, with the hashes of its four models at the start."""
    kept = {}
    real = rl.Reinforcement.__init__

    def remember(self, *args):
        real(self, *args)
        kept["method"] = self
        kept["before"] = hashes(self)

    monkeypatch.setattr(rl.Reinforcement, "__init__", remember)
    return kept


def hashes(method):
    models = {"policy": method.policy, "critic": method.critic.model, "reference": method.reference}
    if hasattr(method.reward, "model"):
        models["reward"] = method.reward.model
    return {name: weights_hash(model) for name, model in models.items()}


# ---------------------------------------------------------------- four models


def test_only_policy_and_critic_change(material, tmp_path, watched):
    run = tiny.run(rl, tmp_path, **settings(material, reward=material / "reward", mix__data=material / "corpus.jsonl"))
    before, after = watched["before"], hashes(watched["method"])
    assert set(before) == {"policy", "critic", "reference", "reward"}
    assert before["policy"] == before["reference"]
    assert before["critic"] == before["reward"]  # the critic starts as the reward model
    assert after["reference"] == before["reference"]
    assert after["reward"] == before["reward"]
    assert len(set(after.values())) == 4
    assert weights_hash(load_model(run.output("model"))) == after["policy"]
    assert weights_hash(load_reward(run.output("critic"))) == after["critic"]
    assert weights_hash(load_model(material / "model")) == before["reference"]
    assert {item.role for item in run.info.inputs} == {"model", "prompts", "reward_model", "mix"}


def test_the_first_minibatch_is_on_policy_and_later_passes_are_not(material, tmp_path):
    """Ratio 1, KL 0, nothing clipped, whatever dropout the model's config asks for (PITFALLS 3)."""
    run = tiny.run(rl, tmp_path, **settings(material, passes=2, optim__lr=1e-2, reward=material / "reward", steps=3))
    rows = run.read_metrics()
    assert len(rows) == 3
    for row in rows:
        assert abs(row["first/ratio"] - 1) < 1e-6
        assert abs(row["first/approx_kl"]) < 1e-9
        assert row["first/clip_fraction"] == 0
        assert row["policy/approx_kl"] > 1e-6  # the mean over all minibatches of both passes
        assert row["gap/engine_trainer"] < 1e-4


def test_the_first_kl_is_zero_and_the_trained_policys_is_not(material, tmp_path):
    rows = tiny.run(rl, tmp_path, **settings(material, optim__lr=1e-2, steps=3)).read_metrics()
    assert rows[0]["kl/mean_nats"] == 0
    assert rows[0]["kl/k3_token_nats"] == 0
    assert rows[2]["kl/k3_token_nats"] > 1e-4
    assert all(row["kl/coef"] == 0.2 for row in rows)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_enters_rollouts_and_log_probs_alike(material, tmp_path, temperature):
    rows = tiny.run(rl, tmp_path, **settings(material, sampling__temperature=temperature)).read_metrics()
    assert rows[0]["gap/engine_trainer"] < 1e-4
    assert abs(rows[0]["first/ratio"] - 1) < 1e-6
    assert rows[0]["kl/mean_nats"] == 0


def test_log_prob_passes_run_without_dropout(material, tmp_path, watched):
    """With a policy that does drop out in training mode, rollouts and both log-prob passes must not."""
    tiny.run(rl, tmp_path, **settings(material))
    method = watched["method"]
    noisy = load_model(material / "model", dropout=None)
    assert noisy.config.attention_dropout == 0.4
    noisy.train()
    calm = copy.deepcopy(noisy).eval()
    method.engine = method.config.engine.bind(noisy, tiny.tokenizer())
    method.policy = noisy
    found, _ = method._collect(method.prompts[:4], 5, "buffer")
    starts = found.mask.long().argmax(1)
    again = Rollouts(found.tokens, starts, found.lengths, torch.zeros_like(found.logps), starts > 0)
    expected = rollout_logps(calm, again, temperature=1.0, budget=10_000)
    torch.testing.assert_close(found.logps, expected, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- settings that do something


def test_a_base_model_will_do_and_a_reference_of_its_own(material, tmp_path, watched):
    """Fine-tuning may be skipped; KL is measured to whichever model is named."""
    other = tiny.folder(tmp_path / "other", seed=9)
    run = tiny.run(rl, tmp_path, **settings(material, reference=other, steps=1))
    assert watched["before"]["reference"] == weights_hash(load_model(other)) != watched["before"]["policy"]
    assert run.read_metrics()[0]["kl/k3_token_nats"] > 1e-3
    assert "reference" in {item.role for item in run.info.inputs}


def test_the_kl_coefficient_steers_towards_its_target(material, tmp_path):
    def coefficients(target):
        run = tiny.run(
            rl, tmp_path / str(target), **settings(material, kl__target=target, kl__horizon=40, optim__lr=1e-2, steps=4)
        )
        return [row["kl/coef"] for row in run.read_metrics()]

    # KL is 0 in the first buffer, so β falls by 0.2 · 8 ⁄ 40 whatever the target.
    tight, loose = coefficients(1e-6), coefficients(100.0)
    assert tight[0] == loose[0] == pytest.approx(0.2 * (1 - 0.2 * 8 / 40))
    assert loose[1:] == pytest.approx([loose[0] * 0.96**k for k in (1, 2, 3)])
    assert tight[3] > tight[0]


def test_whitened_advantages_and_a_mix_and_a_critic_without_pretraining(material, tmp_path):
    run = tiny.run(
        rl,
        tmp_path,
        **settings(
            material,
            advantages={"whiten": True, "clip": 0.5},
            mix__data=material / "corpus.jsonl",
            mix__batch=2,
            critic__pretrain=0,
            steps=1,
        ),
    )
    (row,) = run.read_metrics()
    assert row["loss/mix"] > 0
    assert run.info.results["critic_pretraining_losses"] == []


def test_critic_pretraining_lowers_its_loss_and_leaves_the_policy_alone(material, tmp_path, watched):
    run = tiny.run(
        rl,
        tmp_path,
        **settings(material, steps=1, critic__pretrain=12, critic__settled=0.0001, critic__optim__lr=1e-2, rollouts=16),
    )
    losses = run.info.results["critic_pretraining_losses"]
    assert 6 <= len(losses) <= 12
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert run.read_metrics()[0]["kl/mean_nats"] == 0  # the policy has not moved when its first buffer is made


def test_watched_prompts_are_logged_beside_the_starting_policys_answers(material, tmp_path):
    run = tiny.run(rl, tmp_path, **settings(material, steps=4, cadence__evaluate=2, optim__lr=1e-2))
    samples = run.read_samples()
    assert [row["step"] for row in samples] == [2] * 4 + [4] * 4
    assert [row["prompt"] for row in samples[:4]] == [row["prompt"] for row in samples[4:]]
    assert [row["before"] for row in samples[:4]] == [row["before"] for row in samples[4:]]
    for row in samples:
        assert row["reward"] == Pattern(regex="[aeiou]").measure(row["answer"], True)
    final = run.info.results
    assert final["final/watch/reward"] == pytest.approx(sum(row["reward"] for row in samples[4:]) / 4)


def test_the_same_seed_gives_the_same_run_and_another_does_not(material, tmp_path):
    one, two, other = (
        tiny.run(rl, tmp_path / name, **settings(material, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert weights_hash(load_model(one.output("model"))) == weights_hash(load_model(two.output("model")))
    assert weights_hash(load_reward(one.output("critic"))) == weights_hash(load_reward(two.output("critic")))
    assert weights_hash(load_model(one.output("model"))) != weights_hash(load_model(other.output("model")))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("word", ["top_p=0.9", "top_k=5", "temperature=0"])
def test_sampling_that_bends_the_distribution_is_refused_in_one_line(material, tmp_path, capsys, word):
    words = [f"model={material / 'model'}", f"prompts={material / 'prompts.jsonl'}", "reward=ends_well"]
    assert main(["ppo", *words, f"sampling.{word}", f"out={tmp_path}"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "leave top_p=1 and top_k=0" in said
    assert not any(tmp_path.iterdir())


def test_a_nan_reward_stops_before_the_policy_learns_from_it(material, tmp_path, monkeypatch):
    real = Pattern.score

    def broken(self, episodes):
        total = real(self, episodes).total
        total[2] = float("nan")
        return Reward(total)

    monkeypatch.setattr(Pattern, "score", broken)
    with pytest.raises(
        NotFinite, match="critic pretraining buffer 1: the reward of answer 3 of 8 in the buffer is nan"
    ):
        tiny.run(rl, tmp_path, **settings(material))
    assert not any(tmp_path.glob("ppo/*/model"))


def test_a_policy_of_nan_weights_stops_at_once(material, tmp_path):
    model, tokenizer = load_with_tokenizer(material / "model")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    save_model(model, tokenizer, tmp_path / "broken")
    with pytest.raises(NotFinite, match="logits are NaN"):
        tiny.run(rl, tmp_path, **settings(material, model=tmp_path / "broken"))


def test_an_adaptive_coefficient_cannot_start_at_zero(material, tmp_path):
    with pytest.raises(BadInput, match=r"kl.target: needs a coef above 0"):
        tiny.run(rl, tmp_path, **settings(material, kl__coef=0, kl__target=3.0))
    assert not any(tmp_path.iterdir())


def test_a_reference_with_another_vocabulary_is_refused(material, tmp_path):
    other = tmp_path / "other"
    tokenizer = train_tokenizer(["Quite other words make quite other tokens."] * 20, len(tiny.tokenizer()))
    save_model(tiny.model(0, vocabulary=len(tiny.tokenizer())), tokenizer, other)
    with pytest.raises(BadInput, match=r"the reference .* have different vocabularies"):
        tiny.run(rl, tmp_path, **settings(material, reference=other))


def test_a_mix_in_which_nothing_fits_is_refused(material, tmp_path):
    talks = tiny.demonstrations(tmp_path / "talks.jsonl")
    mix = {"data": talks, "role": "demonstrations", "length": 8}
    with pytest.raises(BadInput, match=r"talks\.jsonl: nothing in it fits the pretraining mix's rows of 8 tokens"):
        tiny.run(rl, tmp_path, **settings(material, mix=mix))


def test_a_prompt_that_leaves_no_room_is_put_aside_wherever_it_comes_from(material, tmp_path):
    rows = [{"messages": tiny.talk(tiny.question(i))} for i in range(6)]
    rows.insert(2, {"messages": tiny.talk("word " * 80)})
    data = tiny.jsonl(tmp_path / "prompts.jsonl", rows)
    run = tiny.run(rl, tmp_path, **settings(material, prompts=data, prompts_dev=data, max_bad_rows=0.5, watch=7))
    assert run.info.status == "complete"
    assert run.info.results["quarantined/prompts"] == 1
    line = (run.path / "quarantine-prompts.jsonl").read_text()
    assert '"line": 3' in line
    assert "leave no room for 6 more" in line
    assert len(run.read_samples()) == 6
