"""A fifth of the labels turned round: the weakest preferences are mostly those, and mending them helps.

Pairs of answers of the village's SFT model, ordered by gold score, and 20 % of them turned round at random. Reward
models that never saw a pair say how strongly it is meant; the reward model trained on what was mended is measured
against the one trained on what was given, on held-out pairs with true labels.
Source: Wang et al. 2024, Secrets of RLHF II, §2.

    python reproductions/denoise/run.py --seeds 0,1,2 --out runs
    python reproductions/denoise/run.py --seeds "" --out runs        # gather what is there
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import chain

from heedlm.config import load
from heedlm.evals.strength import Strength
from heedlm.records import Answers, Comparison, read, write
from heedlm.report.figures import curves
from heedlm.runs import Run
from heedlm.stages import denoise, reward
from heedlm.village import score

HERE = Path(__file__).parent
FLIPPED = 0.2
GAP = 0.1  # least difference of gold scores, so that there is a right order
SPLIT = (0.4, 0.45)  # of prompts: training, then held out, then test: many, for differences are small
REMEDIES = {
    "flip": ["flip"],
    "smooth": ["smooth"],  # the default of heed denoise
    "flip and smooth": ["flip", "smooth"],
    "flip and margin": ["flip", "margin"],
}
REPEATED = ("as given", "smooth")  # trained three times each: two trainings on the same labels differ by a point
EPOCHS = 3  # at a single pass wrong labels hardly hurt a model of this size


def pairs(answers: Path, seed: int, folder: Path) -> set[str]:
    """Write true and flipped comparisons of two answers each; the ids of those that were turned round."""
    draw = random.Random(f"denoise {seed}")
    parts: dict[str, list[Comparison]] = {"train": [], "dev": [], "test": [], "true": []}
    flipped: set[str] = set()
    for row in read(answers, Answers):
        task, place = row.meta.task, draw.random()
        part = "train" if place < SPLIT[0] else "dev" if place < SPLIT[1] else "test"
        texts = list({answer.text: answer for answer in row.answers if answer.text.strip()}.values())
        for number in range(0, len(texts) - 1, 2):
            two = texts[number : number + 2]
            gold = [score(task or {}, answer.text).total for answer in two]
            if abs(gold[0] - gold[1]) < GAP:
                continue
            ranks = (1, 2) if gold[0] > gold[1] else (2, 1)
            name = f"{row.id}-{number}"
            true = Comparison(id=name, prompt=row.prompt, answers=tuple(two), ranks=ranks, meta=row.meta)
            if part == "train":
                parts["true"].append(true)
            if part != "test" and draw.random() < FLIPPED:
                flipped.add(name)
                true = true.model_copy(update={"ranks": (ranks[1], ranks[0])})
            parts[part].append(true)
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        write(folder / f"{part}.jsonl", rows)
    return flipped


def stage(module: Any, name: str, words: list[str], out: Path) -> Run:
    """Run a stage under a fixed name, or open its run if it is complete."""
    kind = module.__name__.rsplit(".", 1)[-1]
    for file in (out / kind).glob(f"{name}-??????/run.json"):
        run = Run.open(file.parent)
        if run.info.status == "complete":
            return run
    done: Run = module.run(load(module.Config, [*words, f"name={name}", f"out={out}", "threads=1"], stage=kind))
    return done


def mended(cleaned: Run, rows: list[Comparison], remedies: list[str], path: Path) -> Path:
    """The same strengths with other remedies."""
    config = load(denoise.Config, ["model=", "data=", f"remedies={','.join(remedies)}"], stage="denoise")
    found = {}
    output = cleaned.output("strengths")
    assert output is not None
    for line in output.read_text(encoding="utf-8").splitlines():
        fact = json.loads(line)
        found[fact["id"]] = fact
    weak = sorted(found, key=lambda name: found[name]["mean"])[: round(config.flip * len(found))]
    made = []
    for number, row in enumerate(rows):
        better, worse = row.pairs()[0]
        known = denoise.Pair(number, better, worse, Strength(found[row.id]["mean"], found[row.id]["std"]))
        made.append(denoise.mended(row, known, config, weak=row.id in set(weak))[0])
    write(path, made)
    return path


def experiment(seed: int, out: Path) -> dict[str, Any]:
    """One seed: how flips spread over the groups, and what each remedy is worth."""
    base = chain(seed, out)
    (answers,) = (base["sft"].parents[1] / "sample").glob("*/answers.jsonl")
    folder = out / "denoise-data" / str(seed)
    flipped = pairs(answers, seed, folder)
    words = [f"model={base['sft']}", f"seed={seed}"]
    cleaned = stage(denoise, f"seed-{seed}", [*words, f"data={folder / 'train.jsonl'}"], out)
    strengths = cleaned.output("strengths")
    assert strengths is not None
    facts = [json.loads(line) for line in strengths.read_text(encoding="utf-8").splitlines()]
    groups: dict[int, list[bool]] = {}
    for fact in facts:
        groups.setdefault(fact["group"], []).append(fact["id"] in flipped)
    rows = read(folder / "train.jsonl", Comparison).rows
    data = {"as given": folder / "train.jsonl", "true labels": folder / "true.jsonl"}
    for name, remedies in REMEDIES.items():
        data[name] = mended(cleaned, rows, remedies, folder / f"{name.replace(' ', '-')}.jsonl")
    accuracy, again = {}, {}
    for name, file in data.items():
        parts = [
            f"data={file}",
            f"epochs={EPOCHS}",
            f"held_out={folder / 'dev.jsonl'}",
            f"test={folder / 'test.jsonl'}",
        ]
        title = f"denoised-{name.replace(' ', '-')}-{seed}"
        found = stage(reward, title, [*words, *parts], out).info.results["accuracy"]["accuracy"]
        accuracy[name], again[name] = found, [found["estimate"]]
        for training in (seed + 10, seed + 20) if name in REPEATED else ():
            run = stage(reward, f"{title}-{training}", [words[0], f"seed={training}", *parts], out)
            again[name].append(run.info.results["accuracy"]["accuracy"]["estimate"])
    base_rate = sum(map(sum, groups.values())) / len(facts)
    shares = [sum(groups[number]) / len(groups[number]) for number in sorted(groups)]
    return {
        "seed": seed,
        "pairs": len(facts),
        "reward_models": cleaned.info.results["reward_models"],
        "flipped": base_rate,
        "flipped_by_group": shares,
        "lowest_group_over_base_rate": shares[0] / base_rate,
        "groups": cleaned.info.results["groups"],
        "accuracy": accuracy,
        "trainings": {name: again[name] for name in REPEATED},
        "seconds": cleaned.info.seconds,
    }


def claims(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the experiment is to show, each with what was found."""
    every = len(rows) >= 3
    ratios = {row["seed"]: round(row["lowest_group_over_base_rate"], 2) for row in rows}
    gains = {name: {row["seed"]: _points(row["accuracy"], name) for row in rows} for name in [*REMEDIES, "true labels"]}
    means = {
        row["seed"]: {name: sum(values) / len(values) for name, values in row["trainings"].items()} for row in rows
    }
    gain = {seed: round(100 * (found["smooth"] - found["as given"]), 2) for seed, found in means.items()}
    return {
        "the weakest tenth holds flips at three times the base rate or more, every seed": {
            "ratio": ratios, "holds": every and min(ratios.values(), default=0) >= 3,
        },
        "mended by the default, the reward model beats the one trained on what was given, every seed": {
            "points": gain, "trainings": 3, "holds": every and min(gain.values(), default=-1) > 0,
        },
        "gain of each remedy, and of true labels, in points of accuracy on true labels": gains,
    }  # fmt: skip


def _points(accuracy: dict[str, dict[str, float]], name: str) -> float:
    return round(100 * (accuracy[name]["estimate"] - accuracy["as given"]["estimate"]), 2)


def main() -> None:
    """Run the seeds asked for, then write result.json and the picture from all that is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    file = HERE / "result.json"
    known = {row["seed"]: row for row in json.loads(file.read_text())["seeds"]} if file.exists() else {}
    for seed in filter(None, args.seeds.split(",")):
        known[int(seed)] = experiment(int(seed), args.out)
    rows = [known[seed] for seed in sorted(known)]
    result = {"command": "python reproductions/denoise/run.py --seeds 0,1,2", "claims": claims(rows), "seeds": rows}
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    places = list(range(1, len(rows[0]["flipped_by_group"]) + 1))
    lines = {f"seed {row['seed']}": (places, [100 * share for share in row["flipped_by_group"]]) for row in rows}
    curves(HERE / "denoise.png", lines, x="tenth of the pairs, weakest first", y="labels turned round (%)",
           title="A fifth of the labels was turned round", level=100 * FLIPPED)  # fmt: skip
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
