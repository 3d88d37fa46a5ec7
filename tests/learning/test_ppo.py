"""PPO raises a reward that is known, on prompts it has not seen, and the KL coefficient holds it back."""

import pytest
from tests.unit.train import tiny

from heedlm.models import Chat, load_with_tokenizer
from heedlm.records import Prompt, read
from heedlm.rewards import Episodes, Pattern
from heedlm.rollout import Sampling, Transformers
from heedlm.rollout.answering import answer
from heedlm.stages import rl

DIGIT = {"name": "pattern", "regex": "[0-9]"}
NEW_TOKENS = 6


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A model with random weights: one answer in five holds a digit by chance."""
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    rows = [{"messages": tiny.talk(tiny.question(i))} for i in range(124)]
    tiny.jsonl(folder / "train.jsonl", rows[:24])
    tiny.jsonl(folder / "test.jsonl", rows[24:])
    return folder


@pytest.fixture(scope="module")
def trained(material):
    """A run of 40 steps for a KL coefficient."""

    def train(beta, **more):
        return tiny.run(
            rl,
            material / f"runs-{beta}",
            model=material / "model",
            prompts=material / "train.jsonl",
            reward=DIGIT,
            steps=40,
            rollouts=32,
            minibatch=16,
            sampling__max_new_tokens=NEW_TOKENS,
            kl__coef=beta,
            optim__lr=3e-3,
            critic={"pretrain": 3, "optim": {"lr": 1e-2}},
            watch=4,
            cadence__evaluate=0,
            **more,
        )

    return train


def digits(folder, prompts):
    """Share of fresh answers to unseen prompts that hold a digit."""
    model, tokenizer = load_with_tokenizer(folder)
    asked = read(prompts, Prompt).rows
    engine = Transformers().bind(model, tokenizer)
    texts, rollouts = answer(engine, Chat(tokenizer), asked, Sampling(max_new_tokens=NEW_TOKENS), seed=77)
    return float(Pattern(regex="[0-9]").score(Episodes(asked, texts, rollouts)).total.mean())


def late(run, name):
    """Mean of a metric over the last ten steps."""
    return sum(row[name] for row in run.read_metrics()[-10:]) / 10


def test_the_reward_rises_and_more_freely_without_a_leash(material, trained):
    free, held = trained(0.0), trained(0.5)
    before = digits(material / "model", material / "test.jsonl")
    after = digits(free.output("model"), material / "test.jsonl")
    assert before < 0.4
    assert after > 0.8  # unseen prompts; 24 prompts were trained on
    first = sum(row["reward/mean"] for row in free.read_metrics()[:5]) / 5
    assert first < 0.45
    assert late(free, "reward/mean") > 0.85
    assert late(held, "reward/mean") > first + 0.1  # the leash slows learning and does not stop it
    assert late(free, "kl/mean_nats") > 3 * late(held, "kl/mean_nats") > 0
    for run in (free, held):
        assert all(row["gap/engine_trainer"] < 1e-4 for row in run.read_metrics())
        assert all(abs(row["first/ratio"] - 1) < 1e-6 for row in run.read_metrics())
