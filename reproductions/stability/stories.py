"""Plain PPO and PPO-max on stories260K, a real pretrained model, with a reward model that can be hacked.

The truth is the rule of `examples/stories`: a story ends by itself, at the end of a sentence, without repeating itself.
Annotators who agree on 73 % of the pairs that differ by it rank four endings of each opening, equal ones tied; a reward
model learns from them, and PPO is given that model. The rule alone judges 256 unseen openings.

    python reproductions/stability/stories.py --jobs 2 --out runs/stories-stability
    python reproductions/stability/stories.py --collect --out runs/stories-stability
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from shards import Shard, first_that_stands, gather, lost_tenth, run_shards
from steps import do

from heedlm import runs
from heedlm.models.chat import Chat
from heedlm.models.load import load_with_tokenizer
from heedlm.records import Answer, Comparison, Prompt, read, write
from heedlm.report.figures import curves
from heedlm.rewards import EndsWell, Episodes
from heedlm.rollout import Native, Sampling
from heedlm.rollout.answering import answer
from heedlm.runs import Run
from heedlm.runs.info import versions
from heedlm.stages import reward, sft

HERE = Path(__file__).parent
TOKENS, ANSWERS, OPENINGS, WATCHED = 96, 4, 4096, 256
AGREEMENT = 0.73  # of two annotators, on pairs that differ by the rule
RULE = EndsWell(min_words=30)
SEEDS = (0, 1, 2)


def shards() -> list[Shard]:
    """Plain PPO, and PPO-max for at least five times as long as it survives."""
    words = ("guard=off", "cadence.checkpoint=0")
    made = [Shard("stories-plain", seed, ("plain", "steps=300", "cadence.evaluate=10", *words)) for seed in SEEDS]
    made += [Shard("stories-ppo_max", seed, ("ppo_max", "steps=1000", "cadence.evaluate=25", *words)) for seed in SEEDS]
    return made


def world(seed: int, out: Path) -> list[str]:
    """The fine-tuned model, the reward model and the openings; one for all seeds, but the comparisons differ."""
    stories = _stories()
    original = stories.prepare(out, None)
    tuned = do(
        sft, "sft", out, model=original, data=out / "endings.jsonl", steps=150, batch=16, optim={"lr": 5e-4},
        cadence={"evaluate": 50},
    )  # fmt: skip
    data = out / f"comparisons-{seed}.jsonl"
    if not data.exists():
        write(data, compare(runs.find_model(str(tuned.path)), out / "prompts.jsonl", seed))
    judge = do(
        reward, "reward", out / f"seed-{seed}", model=tuned.path, data=data, seed=seed, batch=32, length=160,
        optim={"lr": 1e-3},
    )  # fmt: skip
    watched = [f"prompts_dev={out / 'prompts_dev.jsonl'}", f"watch={WATCHED}", "watch_by.name=ends_well"]
    sizes = ["rollouts=32", "minibatch=16", f"sampling.max_new_tokens={TOKENS}", f"watch_by.min_words={RULE.min_words}"]
    return ["tiny", f"model={tuned.path}", f"reward={judge.path}", f"prompts={out / 'prompts.jsonl'}", *watched, *sizes]


def compare(model: Path, prompts: Path, seed: int) -> list[Comparison]:
    """Four endings of each opening, ranked by the rule with logistic noise; how often two annotators agree is told."""
    network, tokenizer = load_with_tokenizer(model)
    chat, draw = Chat(tokenizer), random.Random(seed)
    engine = Native().bind(network, tokenizer)
    openings = read(prompts, Prompt, limit=OPENINGS).rows
    texts: list[list[str]] = [[] for _ in openings]
    scores: list[list[float]] = [[] for _ in openings]
    for number in range(ANSWERS):
        found, rollouts = answer(engine, chat, openings, Sampling(max_new_tokens=TOKENS), seed * 100 + number)
        values = RULE.score(Episodes(openings, found, rollouts)).total.tolist()
        for place, (text, value) in enumerate(zip(found, values, strict=True)):
            texts[place].append(text)
            scores[place].append(value)
    usable = [
        (prompt, written, values)
        for prompt, written, values in zip(openings, texts, scores, strict=True)
        if len(set(written)) == ANSWERS and all(text.strip() for text in written)
    ]
    noise = _noise_for([values for _, _, values in usable])
    made = []
    for prompt, written, values in usable:
        judged = _noisy(values, noise, draw)
        ranks = [1 + sum(other > value for other in set(judged)) for value in judged]
        answers = tuple(Answer(text=text) for text in written)
        made.append(Comparison(id=f"{prompt.id}-{seed}", prompt=prompt.messages, answers=answers, ranks=tuple(ranks)))
    print(f"seed {seed}: {len(made)} comparisons, noise {noise:.3f}", file=sys.stderr)
    return made


def _noise_for(scores: Sequence[Sequence[float]]) -> float:
    """The scale of noise at which two annotators agree on `AGREEMENT` of the pairs that differ, by bisection."""
    low, high = 1e-3, 10.0
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _agreement(scores, middle) > AGREEMENT else (low, middle)
    return math.sqrt(low * high)


def _agreement(scores: Sequence[Sequence[float]], noise: float) -> float:
    """How often two annotators put a pair that differs by the rule in the same order."""
    draw, agreed, pairs = random.Random(0), 0, 0
    for values in scores:
        first, second = (_noisy(values, noise, draw) for _ in range(2))
        differ = [(i, j) for i in range(len(values)) for j in range(i) if values[i] != values[j]]
        agreed += sum((first[i] < first[j]) == (second[i] < second[j]) for i, j in differ)
        pairs += len(differ)
    return agreed / pairs


def _noisy(values: Sequence[float], noise: float, draw: random.Random) -> list[float]:
    """Scores with Gumbel noise: choices between two follow Bradley and Terry. Equal ones stay equal: a tie."""
    drawn = {value: value - noise * _log(-_log(draw.random())) for value in sorted(set(values))}
    return [drawn[value] for value in values]


def _log(value: float) -> float:
    return math.log(max(value, 1e-300))


def _stories() -> Any:
    """The module of examples/stories."""
    path = Path(__file__).parents[2] / "examples" / "stories" / "run.py"
    spec = importlib.util.spec_from_file_location("stories_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bounds(run: Run) -> dict[str, Any]:
    """The 95 % interval of each win rate."""
    rows = [row for row in run.read_metrics() if "watch/win_rate" in row]
    return {end: [round(row[f"watch/win_rate_{end}"], 4) for row in rows] for end in ("low", "high")}


def below(row: dict[str, Any]) -> list[bool]:
    """Whether the win rate of each evaluation is below ½, or a tenth below the best so far, beyond chance.

    The rule's score lies between -1 and 1 and starts near 0, with a standard error of 0.06: a tenth of its best, as in
    the village, would be less than chance. The interval of the win rate knows what chance is.
    """
    best, found = 0.5, []
    for rate, high in zip(row["curve"]["win_rate"], row["high"], strict=True):
        best = max(best, rate)
        found.append(high < max(0.5, 0.9 * best))
    return found


def stumbled(row: dict[str, Any]) -> int | None:
    """The first of two evaluations in a row that are below."""
    return first_that_stands(row["curve"]["step"], below(row))


def ruined(row: dict[str, Any]) -> int | None:
    """The evaluation from which on all are below."""
    low = below(row)
    return next((int(row["curve"]["step"][place]) for place in range(len(low)) if all(low[place:])), None)


def claims(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is to be shown, each with what was found: plain PPO is ruined for good, PPO-max does not even stumble."""
    known = {row["shard"]: row for row in rows}
    pairs = {s: (known.get(f"stories-plain-{s}"), known.get(f"stories-ppo_max-{s}")) for s in SEEDS}
    both = {seed: (plain, maxi) for seed, (plain, maxi) in pairs.items() if plain and maxi}
    fell = {seed: ruined(plain) for seed, (plain, _) in both.items()}
    later = {seed: stumbled(maxi) for seed, (_, maxi) in both.items()}
    by_mean = {seed: [lost_tenth(row) for row in pair] for seed, pair in both.items()}
    rates = {seed: maxi["curve"]["win_rate"][-1] for seed, (_, maxi) in both.items()}
    above = {seed: rates[seed] > max(plain["curve"]["win_rate"]) for seed, (plain, _) in both.items()}
    ratio = {seed: both[seed][1]["steps"] / step for seed, step in fell.items() if step}
    every = len(both) == len(SEEDS)
    found = {
        "plain PPO is ruined on every seed": (fell, all(fell.values())),
        "PPO-max does not even stumble": (later, not any(later.values())),
        "by the mean score as in the village, plain PPO collapses and PPO-max does not": (
            by_mean,
            all(a and not b for a, b in by_mean.values()),
        ),
        "PPO-max runs at least five times as long as plain PPO survived": (
            ratio,
            len(ratio) == len(both) and min(ratio.values()) >= 5,
        ),
        "PPO-max ends with a win rate of at least 65 %": (rates, min(rates.values(), default=0) >= 0.65),
        "PPO-max ends above plain PPO's best": (above, all(above.values())),
    }
    return {claim: {"seeds": values, "holds": every and holds} for claim, (values, holds) in found.items()}


def main() -> None:
    """Run what is asked for, then write what is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shards", help="names with seeds, separated by commas; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/stories-stability"))
    parser.add_argument("--collect", action="store_true", help="run nothing")
    args = parser.parse_args()
    every = shards()
    if not args.collect:
        wanted = [shard for shard in every if not args.shards or shard.key in args.shards.split(",")]
        run_shards(wanted, args.out, args.jobs, world)
    (HERE / "stories").mkdir(exist_ok=True)
    rows = gather(HERE / "stories", every, args.out, more=bounds)
    lines = {row["shard"].removeprefix("stories-"): (row["curve"]["step"], row["curve"]["win_rate"]) for row in rows}
    bands = {row["shard"].removeprefix("stories-"): (row["low"], row["high"]) for row in rows}
    title = "stories260K: win rate over the start, by the rule"
    curves(HERE / "stories" / "win-rate.png", lines, x="step", y="win rate", title=title, bands=bands, level=0.5)
    result = {"command": "python reproductions/stability/stories.py", "versions": versions(), "claims": claims(rows)}
    (HERE / "stories" / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
