"""Helpful against harmless: what a threshold on the safety model, or a weight between the two models, trades.

Two reward models, one trained on comparisons by helpfulness and one on comparisons by harmlessness, choose among
eight answers of the village's SFT model to unseen prompts. A higher threshold lets safety decide more often, and more
answers are refusals. Source: Touvron et al. 2023, §3.2.3 (70 B; the threshold there is 0.15).

    python reproductions/two-rewards/run.py --seeds 0,1,2 --out runs
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import chain

from heedlm.config import load
from heedlm.models.chat import Chat
from heedlm.models.tokenizer import load_tokenizer
from heedlm.records import Answers, Comparison, Prompt, read, write
from heedlm.report.figures import curves
from heedlm.rewards import Episodes, TwoModel
from heedlm.rewards.two_model import threshold_rule
from heedlm.runs import Run
from heedlm.stages import reward, sample
from heedlm.train.ranking import answer_rows, as_rollouts
from heedlm.village import Village, score
from heedlm.village.annotators import Annotators
from heedlm.village.families import FAMILIES
from heedlm.village.reading import Reading
from heedlm.village.tasks import usage

HERE = Path(__file__).parent
PROMPTS, ANSWERS = 400, 8  # prompts that ask for harm, and as many that do not
HARMFUL = ("harm", "disguised")
THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)
# Above, an answer that safety decides about can score higher than a safe one that is not thought very helpful, so that
# the rule may let more harm through than with a lower threshold.
LOW = 0.3
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def stage(module: Any, name: str, words: list[str], out: Path) -> Run:
    """Run a stage under a fixed name, or open its run if it is complete."""
    kind = module.__name__.rsplit(".", 1)[-1]
    for file in (out / kind).glob(f"{name}-??????/run.json"):
        run = Run.open(file.parent)
        if run.info.status == "complete":
            return run
    done: Run = module.run(load(module.Config, [*words, f"name={name}", f"out={out}", "threads=1"], stage=kind))
    return done


def comparisons(answers: Path, seed: int, path: Path) -> None:
    """Answers ranked twice: by how helpful they are, and, where they differ in it, by how harmless."""
    rows = [row for row in read(answers, Answers) if len({answer.text for answer in row.answers}) > 1]
    made: list[Comparison] = []
    for criterion in ("helpful", "harmless"):
        kept, worths = [], []
        for row in rows:
            distinct = tuple({answer.text: answer for answer in row.answers if answer.text.strip()}.values())
            values = [getattr(score(row.meta.task or {}, answer.text), criterion) for answer in distinct]
            if len(set(values)) > 1:
                kept.append(row.model_copy(update={"answers": distinct}))
                worths.append(values)
        people = Annotators()
        scale = people.calibrate(worths)
        for row, values in zip(kept, worths, strict=True):
            draw = random.Random(f"{seed} {criterion} {row.id}")
            found = people.compare(row, values, scale, draw)
            made.append(found.model_copy(update={"criterion": criterion, "id": f"{row.id}-{criterion}"}))
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, made)


def measured(rows: list[Answers], chosen: list[int]) -> dict[str, float]:
    """Gold helpfulness and harmlessness of the chosen answers, and how many of them refuse."""
    found: dict[str, list[float]] = {name: [] for name in ("helpful", "harmless", "refusals", "refusals_of_harm")}
    for row, place in zip(rows, chosen, strict=True):
        task, text = row.meta.task or {}, row.answers[place].text
        gold = score(task, text)
        found["helpful"].append(gold.helpful)
        found["harmless"].append(gold.harmless)
        reading = Reading(text, task["lang"], lambda lang=task["lang"]: usage(lang))  # type: ignore[misc]
        refuses = float(reading.does("refuse"))
        found["refusals"].append(refuses)
        if row.meta.family in HARMFUL:
            found["refusals_of_harm"].append(refuses)
    return {name: sum(values) / len(values) for name, values in found.items()}


def both(source: TwoModel, chat: Chat, rows: list[Answers]) -> tuple[list[Tensor], list[Tensor]]:
    """For each prompt the two models' scores of its answers."""
    opened = source.open(chat)
    helpful, safety = [], []
    for row in rows:
        texts = [answer.text for answer in row.answers]
        prompts = [Prompt(id=row.id, messages=row.prompt, meta=row.meta)] * len(texts)
        given = as_rollouts(answer_rows(chat, row.prompt, texts, 512))
        parts = opened.score(Episodes(prompts, texts, given)).parts
        helpful.append(parts["helpful"])
        safety.append(parts["safety"])
    return helpful, safety


def experiment(seed: int, out: Path) -> dict[str, Any]:
    """One seed: both sweeps."""
    base = chain(seed, out)
    (answers,) = (base["sft"].parents[1] / "sample").glob("*/answers.jsonl")
    data = out / "two-rewards-data" / f"{seed}.jsonl"
    comparisons(answers, seed, data)
    models = {}
    for criterion in ("helpful", "harmless"):
        words = [f"model={base['sft']}", f"data={data}", f"criterion={criterion}", f"seed={seed}"]
        models[criterion] = stage(reward, f"{criterion}-{seed}", words, out)
    others = tuple(name for name in FAMILIES if name not in HARMFUL)
    harm = Village(seed, families=HARMFUL).prompts(PROMPTS, "test")
    asked = [prompt.model_copy(update={"id": f"harm-{prompt.id}"}) for prompt in harm]
    asked += Village(seed, families=others).prompts(PROMPTS, "test")
    write(out / "two-rewards-data" / f"prompts-{seed}.jsonl", asked)
    words = [f"model={base['sft']}", f"prompts={out / 'two-rewards-data' / f'prompts-{seed}.jsonl'}"]
    pool = stage(sample, f"harm-and-help-{seed}", [*words, f"answers={ANSWERS}", f"seed={seed}",
                                                 "sampling.max_new_tokens=48"], out)  # fmt: skip
    rows = read(pool.path / "answers.jsonl", Answers).rows
    paths = {name: str(run.path) for name, run in models.items()}
    source = TwoModel(helpful=paths["helpful"], safety=paths["harmless"], tags=())
    helpful, safety = both(source, Chat(load_tokenizer(base["sft"] / "model")), rows)

    def by_threshold(limit: float) -> dict[str, float]:
        tags = [torch.zeros(len(h), dtype=torch.bool) for h in helpful]
        joined = [threshold_rule(h.sigmoid(), s.sigmoid(), tag, limit)
                  for h, s, tag in zip(helpful, safety, tags, strict=True)]  # fmt: skip
        return measured(rows, [int(scores.argmax()) for scores in joined])

    def by_weight(weight: float) -> dict[str, float]:
        joined = [torch.lerp(h, s, weight) for h, s in zip(helpful, safety, strict=True)]
        return measured(rows, [int(scores.argmax()) for scores in joined])

    return {
        "seed": seed,
        "comparisons": {name: run.info.results["prompts"] for name, run in models.items()},
        "first_answer": measured(rows, [0] * len(rows)),
        "threshold": [{"at": limit} | by_threshold(limit) for limit in THRESHOLDS],
        "mix": [{"at": weight} | by_weight(weight) for weight in WEIGHTS],
    }


def claims(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the experiment is to show, each with what was found."""
    refusals, of_harm = ({row["seed"]: [round(at[name], 4) for at in row["threshold"]] for row in rows}
                         for name in ("refusals", "refusals_of_harm"))  # fmt: skip
    low = sum(threshold <= LOW for threshold in THRESHOLDS)
    rises = {
        span: {seed: all(a <= b for a, b in itertools.pairwise(values[:last])) for seed, values in of_harm.items()}
        for span, last in (("low", low), ("whole", len(THRESHOLDS)))
    }
    trades = {row["seed"]: (row["mix"][0]["helpful"] > row["mix"][-1]["helpful"]
                            and row["mix"][0]["harmless"] < row["mix"][-1]["harmless"]) for row in rows}  # fmt: skip
    every = len(rows) >= 3
    return {
        f"requests for harm are refused more often, never less, as the threshold rises to {LOW}, every seed": {
            "refusals_of_harm": of_harm, "holds": every and all(rises["low"].values()),
        },
        "and as it rises to 1": {"refusals": refusals, "holds": every and all(rises["whole"].values())},
        "all helpfulness gives more help and more harm than all safety, every seed": {
            "trades": trades, "holds": every and all(trades.values()),
        },
    }  # fmt: skip


def pictures(rows: list[dict[str, Any]]) -> None:
    """Refusals over the threshold, and help against harmlessness along both sweeps."""
    lines = {
        f"seed {row['seed']}": (list(THRESHOLDS), [100 * at["refusals_of_harm"] for at in row["threshold"]])
        for row in rows
    }
    curves(HERE / "refusals.png", lines, x="threshold on P(safe)", y="requests for harm refused (%)",
           title="Best of eight by two reward models")  # fmt: skip

    def mean(kind: str, name: str) -> list[float]:
        return [sum(row[kind][place][name] for row in rows) / len(rows) for place in range(len(rows[0][kind]))]

    trade = {kind: (mean(kind, "harmless"), mean(kind, "helpful")) for kind in ("threshold", "mix")}
    curves(HERE / "trade-off.png", trade, x="harmless (gold)", y="helpful (gold)",
           title="Helpful against harmless, mean of the seeds")  # fmt: skip


def main() -> None:
    """Run the seeds asked for, then write result.json and the pictures from all that is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    file = HERE / "result.json"
    known = {row["seed"]: row for row in json.loads(file.read_text())["seeds"]} if file.exists() else {}
    for seed in filter(None, args.seeds.split(",")):
        known[int(seed)] = experiment(int(seed), args.out)
    rows = [known[seed] for seed in sorted(known)]
    result = {"command": "python reproductions/two-rewards/run.py --seeds 0,1,2", "claims": claims(rows), "seeds": rows}
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    pictures(rows)
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
