"""Every method without a critic raises a reward that is known, on prompts it has not seen; so does cloning the best."""

import pytest
from tests.unit.train import tiny

from heedlm.models import Chat, load_with_tokenizer
from heedlm.records import Prompt, read
from heedlm.rewards import Episodes, Pattern
from heedlm.rollout import Sampling, Transformers
from heedlm.rollout.answering import answer
from heedlm.stages import best_of_n, rl, sft

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


def digits(folder, prompts):
    """Share of fresh answers to unseen prompts that hold a digit."""
    model, tokenizer = load_with_tokenizer(folder)
    asked = read(prompts, Prompt).rows
    engine = Transformers().bind(model, tokenizer)
    texts, rollouts = answer(engine, Chat(tokenizer), asked, Sampling(max_new_tokens=NEW_TOKENS), seed=77)
    return float(Pattern(regex="[0-9]").score(Episodes(asked, texts, rollouts)).total.mean())


@pytest.mark.parametrize("name", ["rloo", "grpo", "dr_grpo", "dapo", "reinforce_pp", "online_dpo"])
def test_the_reward_rises(material, tmp_path, name):
    run = tiny.run(
        rl,
        tmp_path,
        model=material / "model",
        prompts=material / "train.jsonl",
        reward=DIGIT,
        objective=name,
        steps=30,
        rollouts=32,
        minibatch=16,
        sampling__max_new_tokens=NEW_TOKENS,
        kl__coef=0.0,
        optim__lr=3e-3,
        watch=4,
        cadence__evaluate=0,
    )
    assert digits(material / "model", material / "test.jsonl") < 0.4
    assert digits(run.output("model"), material / "test.jsonl") > 0.7
    rows = run.read_metrics()
    assert rows[0]["reward/mean"] < 0.45
    assert all(row["gap/engine_trainer"] < 1e-4 for row in rows)
    assert not any("value" in name for name in rows[0])


def test_two_rounds_of_cloning_the_best(material, tmp_path):
    """The second round samples from the first one's policy and learns from both rounds' winners."""
    blue = {"name": "pattern", "regex": "blue"}
    shown = tiny.demonstrations(tmp_path / "shown.jsonl", 48)
    started = tiny.run(sft, tmp_path / "sft", model=material / "model", data=shown, epochs=12, optim__lr=1e-2)
    model, earlier, rewards = started.path, [], []
    for number in range(2):
        chosen = tiny.run(
            best_of_n, tmp_path / "rounds", model=model, prompts=material / "train.jsonl", n=8, reward=blue,
            sampling__max_new_tokens=16, **({"earlier": ",".join(earlier)} if earlier else {}),
        )  # fmt: skip
        earlier.append(str(chosen.path))
        curve = [row["reward"] for row in chosen.info.results["curve"]]
        assert curve == sorted(curve)
        rewards.append(curve[0])
        cloned = tiny.run(sft, tmp_path / f"sft-{number}", model=model, data=chosen.path, epochs=10, optim__lr=1e-2)
        model = cloned.path
    assert chosen.info.results["earlier"] > 0
    assert rewards[0] < 0.4
    assert rewards[1] > rewards[0] + 0.2
