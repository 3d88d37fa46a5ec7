"""stories260K learns to end the stories it begins: a little fine-tuning so that it knows EOS, then PPO with a rule.

python examples/stories/run.py [--out runs/stories] [--tiny]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from steps import do, shared, write_result

from heedlm import runs
from heedlm.evals.bootstrap import bootstrap_mean, paired_bootstrap
from heedlm.evals.text import distinct_n, repetition
from heedlm.models.chat import Chat
from heedlm.models.load import load_model, load_with_tokenizer, save_model
from heedlm.records import Demonstration, Document, Message, Meta, Prompt, read, write
from heedlm.report import write_report
from heedlm.rewards import EndsWell, Episodes
from heedlm.rollout import Sampling, Transformers
from heedlm.rollout.answering import answer
from heedlm.stages import rl, sft
from heedlm.train.batching import Row
from heedlm.train.language import mean_nll

HERE = Path(__file__).parent
# A story goes on where its opening stops: nothing stands between the two, and only the end is marked.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
SENTENCE = re.compile(r"(?<=[.!?\"])\s+(?=[A-Z\"])")
OPENING, ENDING, TOKENS = 48, 96, 96  # most tokens of an opening, of an ending to learn from, and of an answer
RULE = EndsWell(min_words=30)

FULL = {"stories": None, "seeds": [0, 1, 2], "sft": 150, "ppo": 50, "rollouts": 64, "test": 256}
TINY = {"stories": 60, "seeds": [0], "sft": 2, "ppo": 2, "rollouts": 4, "test": 8}


def prepare(out: Path, limit: int | None) -> Path:
    """A copy of stories260K that has the plain template, and the files of endings and openings."""
    source, model = shared(), out / "stories260K"
    if (out / "prompts_test.jsonl").exists():
        return model
    network, tokenizer = load_with_tokenizer(source / "models/stories260K")
    tokenizer.chat_template = TEMPLATE
    save_model(network, tokenizer, model)
    chat = Chat(tokenizer)
    texts = [d.text for d in read(source / "data/corpora/tinystories-7k.jsonl.gz", Document, limit=limit).rows]
    part = len(texts) // 8
    write(out / "endings.jsonl", endings(chat, texts[2 * part :]))
    write(out / "prompts.jsonl", openings(chat, texts[2 * part :]))
    write(out / "prompts_dev.jsonl", openings(chat, texts[:part]))
    write(out / "prompts_test.jsonl", openings(chat, texts[part : 2 * part]))
    return model


def openings(chat: Chat, texts: Sequence[str]) -> Iterator[Prompt]:
    """As many first sentences of each story as fit into OPENING tokens."""
    for number, text in enumerate(texts):
        kept = as_many(chat, SENTENCE.split(text.strip()), OPENING)
        if kept:
            yield Prompt(id=f"story-{number}", messages=(Message(role="user", content=" ".join(kept)),), meta=Meta())


def endings(chat: Chat, texts: Sequence[str]) -> Iterator[Demonstration]:
    """For each story its last sentences, and before them as many as fit into as many tokens again."""
    for number, text in enumerate(texts):
        sentences = SENTENCE.split(text.strip())
        last = as_many(chat, sentences[::-1], ENDING)[::-1]
        before = as_many(chat, sentences[: len(sentences) - len(last)][::-1], ENDING)[::-1]
        if last and before:
            pair = (Message(role="user", content=" ".join(before)), Message(role="assistant", content=" ".join(last)))
            yield Demonstration(id=f"story-{number}", messages=pair, meta=Meta())


def as_many(chat: Chat, sentences: Sequence[str], limit: int) -> list[str]:
    """The first sentences that together stay within `limit` tokens."""
    kept: list[str] = []
    for sentence in sentences:
        limit -= len(chat.response_ids(sentence)) - 1
        if limit < 0:
            break
        kept.append(sentence)
    return kept


def measure(model: Path, original: Path, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """What a model makes of the openings at temperature 1; the perplexity is that of the original stories260K."""
    network, tokenizer = load_with_tokenizer(model)
    chat = Chat(tokenizer)
    engine = Transformers().bind(network, tokenizer)
    texts, rollouts = answer(engine, chat, prompts, Sampling(max_new_tokens=TOKENS), seed=1)
    rewards = RULE.score(Episodes(prompts, texts, rollouts)).total.tolist()
    return {
        "rewards": rewards,
        "texts": texts,
        "ended": fmean(map(float, rollouts.ended.tolist())),
        "tokens": fmean(map(float, rollouts.response_lengths.tolist())),
        "perplexity_under_original": perplexity(original, chat, prompts, texts),
        "distinct_2": distinct_n(texts, 2),
        "repetition_4": fmean(repetition(text) for text in texts),
    }


def perplexity(original: Path, chat: Chat, prompts: Sequence[Prompt], texts: Sequence[str]) -> float:
    """exp of the mean NLL a token of the answers, EOS left out: the original was never taught to predict it."""
    rows = []
    for prompt, text in zip(prompts, texts, strict=True):
        front, back = chat.prompt_ids(prompt.messages), chat.response_ids(text)[:-1]
        rows.append([Row(front + back, [False] * len(front) + [True] * len(back))])
    return float(torch.tensor(mean_nll(load_model(original), rows)).exp())


def main() -> None:
    """Fine-tune once, run PPO for each seed, and write result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/stories"))
    parser.add_argument("--tiny", action="store_true", help="a minute's check that everything runs")
    options = parser.parse_args()
    size, out = (TINY if options.tiny else FULL), options.out
    torch.set_num_threads(1)
    original = prepare(out, size["stories"])
    tuned = do(
        sft, "sft", out, model=original, data=out / "endings.jsonl", steps=size["sft"], batch=16,
        optim={"lr": 5e-4}, cadence={"evaluate": max(1, size["sft"] // 3)},
    )  # fmt: skip
    test = read(out / "prompts_test.jsonl", Prompt, limit=size["test"]).rows
    before = measure(runs.find_model(tuned.path), original, test)
    after, pages = [], []
    for seed in size["seeds"]:
        policy = do(
            rl, "ppo", out / f"seed-{seed}", model=tuned.path, prompts=out / "prompts.jsonl", seed=seed,
            prompts_dev=out / "prompts_dev.jsonl", reward={"name": RULE.name, "min_words": RULE.min_words},
            steps=size["ppo"], rollouts=size["rollouts"], minibatch=size["rollouts"] // 2, watch=size["rollouts"],
            sampling={"max_new_tokens": TOKENS}, kl={"coef": 0.1}, critic={"pretrain": 5},
            cadence={"evaluate": max(1, size["ppo"] // 2)},
        )  # fmt: skip
        pages.append(str(write_report(policy.path)))
        after.append(
            measure(runs.find_model(policy.path), original, test) | {"seed": seed, "seconds": policy.info.seconds}
        )
    result = summary(before, after, test, size)
    write_result((out if options.tiny else HERE) / "result.json", "python examples/stories/run.py", result)
    for line in (f"reward {result['before']['reward']['estimate']:.3f} before", *(
        f"seed {row['seed']}: {row['reward']['estimate']:.3f}, gain {row['gain']['estimate']:.3f} "
        f"[{row['gain']['low']:.3f}, {row['gain']['high']:.3f}], report {page}"
        for row, page in zip(result["after"], pages, strict=True)
    )):  # fmt: skip
        print(line)


def summary(
    before: dict[str, Any], after: list[dict[str, Any]], test: Sequence[Prompt], size: dict[str, Any]
) -> dict[str, Any]:
    """Means with intervals over the test openings, and gains paired by opening."""

    def figures(row: dict[str, Any]) -> dict[str, Any]:
        plain = {key: value for key, value in row.items() if key not in ("rewards", "texts")}
        return {"reward": bootstrap_mean(row["rewards"]).to_dict(), **plain}

    gains = [fmean(row["rewards"]) - fmean(before["rewards"]) for row in after]
    return {
        "reward_rule": f"{RULE.name}, min_words={RULE.min_words}",
        "test_openings": len(test),
        "settings": size,
        "before": figures(before),
        "after": [
            figures(row) | {"gain": paired_bootstrap(row["rewards"], before["rewards"]).to_dict()} for row in after
        ],
        "gain_over_seeds": {"mean": fmean(gains), "deviation": stdev(gains) if len(gains) > 1 else None},
        "samples": [
            {"opening": prompt.messages[0].content, "before": old, "after": new}
            for prompt, old, new in list(zip(test, before["texts"], after[0]["texts"], strict=True))[:8]
        ],
    }


if __name__ == "__main__":
    main()
