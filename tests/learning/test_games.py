"""The same PPO plays a game: it wins on starts it has not seen, and a cost of moving makes its walks shorter."""

import pytest
from tests.unit.train import tiny

from heedlm.models import Chat, load_with_tokenizer, save_model, train_tokenizer
from heedlm.records import write
from heedlm.rewards import Episodes, Walk, game
from heedlm.rollout import Native, Sampling
from heedlm.rollout.answering import answer
from heedlm.stages import rl, sft

LIMIT = 12


@pytest.fixture(scope="module")
def aimless(tmp_path_factory):
    """A model of 28,000 weights that was shown walks by chance, beside the files it was made from."""
    folder = tmp_path_factory.mktemp("walks")
    shown = list(game.demonstrations(2000))
    write(folder / "walks.jsonl", shown)
    for split in ("train", "test"):
        write(folder / f"{split}.jsonl", game.prompts(split))
    tokenizer = train_tokenizer([turn.content for row in shown for turn in row.messages], 300)
    save_model(tiny.model(1, vocabulary=len(tokenizer)), tokenizer, folder / "model")
    tiny.run(
        sft, folder, model=folder / "model", data=folder / "walks.jsonl", steps=60, batch=8, length=64,
        optim__lr=5e-3, cadence__evaluate=0, name="aimless",
    )  # fmt: skip
    return folder


def learned(folder, cost):
    """A run of PPO from aimless play, about 20 seconds on one thread."""
    (start,) = folder.glob("sft/aimless-*/model")
    return tiny.run(
        rl, folder / f"cost-{cost}", model=start, prompts=folder / "train.jsonl", reward={"name": "walk", "cost": cost},
        steps=160, rollouts=128, minibatch=32, sampling__max_new_tokens=LIMIT, kl__coef=0.08, optim__lr=2e-3,
        critic={"init": "policy", "pretrain": 3, "optim": {"lr": 5e-3}}, watch=4, cadence__evaluate=0,
        guard="off",
    )  # fmt: skip


def played(folder, temperature):
    """Share of wins, and moves a walk, over four walks from each start of the test."""
    model, tokenizer = load_with_tokenizer(folder)
    asked = list(game.prompts("test")) * 4
    engine, chat = Native().bind(model, tokenizer), Chat(tokenizer)
    texts, rollouts = answer(engine, chat, asked, Sampling(max_new_tokens=LIMIT, temperature=temperature), seed=7)
    parts = Walk().open(chat).score(Episodes(asked, texts, rollouts)).parts
    return float(parts["won"].mean()), float(parts["moves"].mean())


@pytest.mark.slow
def test_ppo_learns_to_walk_home_and_not_to_walk_too_far(aimless):
    costly, free = learned(aimless, 0.05), learned(aimless, 0.0)
    (start,) = aimless.glob("sft/aimless-*/model")
    assert played(start, 1.0)[0] < 0.3
    assert played(start, 0.0)[0] < 0.6  # always going one way wins half of the starts, and sharpening no more
    wins, moves = played(costly.output("model"), 1.0)
    free_wins, free_moves = played(free.output("model"), 1.0)
    assert wins > 0.8
    assert free_wins > 0.8
    assert moves < free_moves - 0.3
    rows = costly.read_metrics()
    assert sum(row["reward/part_won"] for row in rows[:3]) / 3 < 0.3
    assert sum(row["reward/part_won"] for row in rows[-10:]) / 10 > 0.8
