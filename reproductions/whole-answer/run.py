"""Each token's likeliest choice is wrong, the whole answer can be right: imitation read greedily against PPO.

People are asked for the way between two of twelve places. All direct ways are under water, and so are the detours
with one stop; by two stops one arrives. Those who answer forget it: at the first word and at the second, two in five
name the goal straight away, which ends the answer and makes it wrong. The others name one of the other places by
chance, so none of the right words is ever as likely as the goal. A model that imitates them is right in 36 answers of
100 when it samples and never when it takes the likeliest words. PPO sees nothing but right or wrong of whole answers.

    python reproductions/whole-answer/run.py [--seeds 0,1,2] [--out runs/whole-answer]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from heedlm.config import load
from heedlm.evals.winrate import wilson
from heedlm.models import Chat, create, load_with_tokenizer, save_model, train_tokenizer
from heedlm.pipelines.chain import as_words
from heedlm.records import Demonstration, Message, Prompt, write
from heedlm.report.figures import intervals
from heedlm.rewards import Episodes, Function
from heedlm.rollout import Native, Sampling
from heedlm.rollout.answering import answer
from heedlm.runs import Run
from heedlm.runs.info import versions
from heedlm.stages import rl, sft

HERE = Path(__file__).parent
PLACES = "mill well barn forge bakery orchard church market bridge school stable harbour".split()
QUESTIONS = (
    "How do I get from the {} to the {}?",
    "Which way from the {} to the {}, please?",
    "I stand at the {} and want to be at the {}.",
)
HASTE = 0.4  # how often the goal is named too soon, at either of the two stops
TOKENS = 5  # three places, EOS, and one to spare


def pairs(split: str) -> list[tuple[str, str]]:
    """Start and goal; every third pair is kept for the test."""
    every = [(start, goal) for start in PLACES for goal in PLACES if start != goal]
    return [pair for number, pair in enumerate(every) if (number % 3 == 0) == (split == "test")]


def prompts(split: str) -> list[Prompt]:
    """Each pair of a split in each wording."""
    texts = [question.format(*pair) for pair in pairs(split) for question in QUESTIONS]
    return [Prompt(messages=(Message(role="user", content=text),)) for text in texts]


def demonstrations(count: int, seed: int) -> Iterator[Demonstration]:
    """What people answer to training prompts."""
    chance = random.Random(seed)
    asked = pairs("train")
    for _ in range(count):
        start, goal = chance.choice(asked)
        way: list[str] = []
        while len(way) < 2 and chance.random() >= HASTE:
            way.append(chance.choice([place for place in PLACES if place not in (start, goal, *way)]))
        question = chance.choice(QUESTIONS).format(start, goal)
        turns = (Message(role="user", content=question), Message(role="assistant", content=" ".join([*way, goal])))
        yield Demonstration(messages=turns)


def stage(module: Any, name: str, out: Path, settings: dict[str, Any]) -> Run:
    """Run a stage, or open the run if it is complete already."""
    found = [Run.open(path.parent) for path in (out / name).glob("*/run.json")]
    for run in found:
        if run.info.status == "complete":
            return run
    config = load(module.Config, as_words({"threads": 1, **settings, "out": str(out)}), stage=name)
    done: Run = module.run(config, resume=found[0].path if found else None)
    return done


def measure(folder: Path, asked: Sequence[Prompt], temperature: float) -> dict[str, Any]:
    """Right answers among one to each prompt."""
    model, tokenizer = load_with_tokenizer(folder)
    chat, sampling = Chat(tokenizer), Sampling(max_new_tokens=TOKENS, temperature=temperature)
    texts, rollouts = answer(Native().bind(model, tokenizer), chat, asked, sampling, seed=1)
    right = int(Function(path=HERE / "reward.py").open(chat).score(Episodes(asked, texts, rollouts)).total.sum())
    low, high = wilson(right, len(asked))
    straight = sum(text.split()[:1] == [goal_of(prompt)] for prompt, text in zip(asked, texts, strict=True))
    return {
        "right": right,
        "n": len(asked),
        "share": right / len(asked),
        "low": low,
        "high": high,
        "goal_named_first": straight / len(asked),
        "samples": texts[:4],
    }


def goal_named_second(folder: Path, asked: Sequence[Prompt]) -> float:
    """Share of prompts where the likeliest word after a right first stop is the goal, which is wrong again."""
    model, tokenizer = load_with_tokenizer(folder)
    chat, chance = Chat(tokenizer), random.Random(0)
    begun = []
    for prompt in asked:
        stop = chance.choice([place for place in PLACES if f" {place}" not in prompt.messages[0].content])
        begun.append(chat.prompt_ids(prompt.messages) + chat.response_ids(stop)[:-1])
    made = Native().bind(model, tokenizer).generate(begun, Sampling(max_new_tokens=2, temperature=0.0), seed=0)
    words = [chat.decode(ids).split()[:1] for ids in made.responses()]
    return sum(word == [goal_of(prompt)] for word, prompt in zip(words, asked, strict=True)) / len(asked)


def goal_of(prompt: Prompt) -> str:
    """The place a prompt asks the way to."""
    return prompt.messages[0].content.rstrip("?.").removesuffix(", please").split()[-1]


def chain(seed: int, out: Path) -> dict[str, Any]:
    """Imitate, then play, for one seed; both measured on pairs that neither has seen."""
    out.mkdir(parents=True, exist_ok=True)
    shown = list(demonstrations(4000, seed))
    write(out / "demonstrations.jsonl", shown)
    write(out / "prompts.jsonl", prompts("train"))
    if not (out / "model" / "config.json").exists():
        tokenizer = train_tokenizer((turn.content for row in shown for turn in row.messages), 400)
        save_model(create("tiny", tokenizer, context=64, seed=seed), tokenizer, out / "model")
    tuned = stage(
        sft,
        "sft",
        out,
        {
            "model": str(out / "model"),
            "data": str(out / "demonstrations.jsonl"),
            "seed": seed,
            "length": 64,
            "batch": 16,
            "epochs": 4.0,
            "cadence": {"evaluate": 25},
        },
    )
    played = stage(
        rl,
        "ppo",
        out,
        {
            "model": str(tuned.path),
            "prompts": str(out / "prompts.jsonl"),
            "reward": str(HERE / "reward.py"),
            "seed": seed,
            "steps": 150,
            "rollouts": 64,
            "guard": "off",  # to name few ways with certainty is what a collapse looks like, and here it is right
            "kl": {"coef": 0.02},
            "optim": {"lr": 1e-3},
            "critic": {"init": "policy", "pretrain": 5},
            "sampling": {"max_new_tokens": TOKENS},
            "cadence": {"evaluate": 0, "checkpoint": 20},
        },
    )
    asked = prompts("test")
    found: dict[str, Any] = {"seed": seed, "seconds": tuned.info.seconds + played.info.seconds}
    for name, run in (("imitation", tuned), ("ppo", played)):
        folder = run.output("model")
        assert folder is not None
        found[name] = {"greedy": measure(folder, asked, 0.0), "sampled": measure(folder, asked, 1.0)}
        found[name]["goal_named_second"] = goal_named_second(folder, asked)
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures, and whether the claims hold on every seed."""
    before = [row["imitation"]["greedy"] for row in rows]
    after = [row["ppo"]["greedy"] for row in rows]
    return {
        "command": "python reproductions/whole-answer/run.py",
        "versions": versions(),
        "haste": HASTE,
        "rows": rows,
        "claims": {
            "after imitation the likeliest first word is wrong, and so is that after a right one, on 95 % of prompts": {
                "first": [found["goal_named_first"] for found in before],
                "second": [row["imitation"]["goal_named_second"] for row in rows],
                "holds": all(
                    min(row["imitation"]["greedy"]["goal_named_first"], row["imitation"]["goal_named_second"]) >= 0.95
                    for row in rows
                ),
            },
            "imitation read greedily is right on at most 5 % of unseen prompts": {
                "shares": [found["share"] for found in before],
                "holds": all(found["share"] <= 0.05 for found in before),
            },
            "PPO with the reward of the whole answer is right on at least 90 %, read greedily": {
                "shares": [found["share"] for found in after],
                "holds": all(found["share"] >= 0.9 for found in after),
            },
        },
    }


def draw(rows: list[dict[str, Any]]) -> None:
    """Shares with intervals, a row for each seed and model."""
    kinds = (("imitation", "imitation", "sampled"), ("imitation", "imitation", "greedy"), ("ppo", "PPO", "greedy"))
    lines = [
        (f"{label}, {mode}, seed {row['seed']}", *(row[name][mode][key] for key in ("share", "low", "high")))
        for name, label, mode in kinds
        for row in rows
    ]
    intervals(HERE / "right.png", lines, x="share of right answers to unseen prompts, 95 % interval", level=0.9)


def main() -> None:
    """Run the seeds and write result.json and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("runs/whole-answer"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [chain(int(seed), args.out / f"seed-{seed}") for seed in args.seeds.split(",")]
    result = summary(rows)
    (HERE / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        draw(rows)
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
