"""Each ingredient of PPO-max alone added to plain PPO, and alone taken from PPO-max.

Four passes over each buffer and no rollback, so that more than the KL penalty can matter. Source: Zheng et al. 2023,
figures 5 to 9, 12 and 13; the rows are those of docs/ppo.md.

    python reproductions/ablation/run.py --jobs 2 --out runs
    python reproductions/ablation/run.py --collect --out runs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import Shard, asked, gather, lost_tenth, run_shards

from heedlm.runs import Run
from heedlm.runs.info import versions

HERE = Path(__file__).parent
SEEDS, STEPS = (0, 1), 200
REGIME = ("passes=4", f"steps={STEPS}", "cadence.evaluate=10", "watch=250", "guard=off")
# What each ingredient is when it is on, and when it is off.
INGREDIENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "kl": (("kl.coef=0.2",), ("kl.coef=0",)),
    "normalise-clip": (
        ("shaping.scale=normalise", "shaping.clip=5"),
        ("shaping.scale=none", "shaping.clip=none"),
    ),
    "missing-eos": (("shaping.missing_eos=1",), ("shaping.missing_eos=0",)),
    "value-clip": (("objective.value_clip=0.2",), ("objective.value_clip=none",)),
    "critic": (("critic.init=reward", "critic.pretrain=20"), ("critic.init=policy", "critic.pretrain=0")),
    "gradient-clip": (
        ("optim.grad_clip=1", "critic.optim.grad_clip=1"),
        ("optim.grad_clip=none", "critic.optim.grad_clip=none"),
    ),
    "mix": (("mix.coef=0.1",), ("mix.coef=0",)),
}
# What is in neither, added to plain PPO; and what is in both, taken from it.
MORE: dict[str, tuple[str, ...]] = {
    "scale": ("shaping.scale=scale",),
    "advantages": ("advantages.whiten=true", "advantages.clip=0.5"),
    "entropy": ("objective.entropy=0.01",),
    "ratio-to-reference": ("ratio_to=reference",),
    "no-surrogate-clip": ("objective.clip=none",),
    "lam-0": ("lam=0",),
    "lam-1": ("lam=1",),
}


def shards() -> list[Shard]:
    """Both presets, then one change at a time."""
    made = []
    for seed in SEEDS:
        made += [Shard(preset, seed, (preset, *REGIME)) for preset in ("plain", "ppo_max")]
        for name, (on, off) in INGREDIENTS.items():
            made.append(Shard(f"plain-with-{name}", seed, ("plain", *on, *REGIME)))
            made.append(Shard(f"ppo_max-{name}", seed, ("ppo_max", *off, *REGIME)))
    for seed in SEEDS:
        made += [Shard(f"plain-with-{name}", seed, ("plain", *words, *REGIME)) for name, words in MORE.items()]
    return [Shard(f"ablation-{shard.name}", shard.seed, shard.words) for shard in made]


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One configuration over its seeds."""
    curves = [row["curve"] for row in rows]
    return {
        "seeds": [row["seed"] for row in rows],
        "collapsed_at": [lost_tenth(dict(row)) for row in rows],
        "gold": [curve["gold"][-1] for curve in curves],
        "best_gold": [max(curve["gold"]) for curve in curves],
        "proxy": [curve["proxy"][-1] for curve in curves],
        "kl_token": [curve["kl"][-1] for curve in curves],
        "length": [curve["length"][-1] for curve in curves],
        "value_bias": [row["value_bias"] for row in rows],
    }


def value_bias(run: Run) -> dict[str, Any]:
    """How far the critic's values lie above the returns, in the mean over the run: a critic that lags behind."""
    rows = [row for row in run.read_metrics() if "critic/value_mean" in row]
    return {"value_bias": fmean(row["critic/value_mean"] - row["critic/return_mean"] for row in rows)}


def effects(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What each change did to the final gold score, beside how far apart the seeds of the base are.

    A change shows something if on every seed it moves gold the same way, and by more than the larger spread between
    seeds of base and change.
    """
    found = {}
    for name, row in table.items():
        base = table.get("plain" if name.startswith("plain") else "ppo_max")
        if base is None or name in ("plain", "ppo_max") or row["seeds"] != base["seeds"]:
            continue
        moves = [changed - before for changed, before in zip(row["gold"], base["gold"], strict=True)]
        spread = max(max(values) - min(values) for values in (row["gold"], base["gold"]))
        alike = all(move > 0 for move in moves) or all(move < 0 for move in moves)
        found[name] = {"moves": moves, "mean": fmean(moves), "shows": alike and abs(fmean(moves)) > spread}
    return found


def picture(table: Mapping[str, Mapping[str, Any]], start: float, path: Path) -> None:
    """Final gold of every configuration, a dot a seed, beside that of the model before PPO."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5.5), sharex=True)
    kinds = (("plain", "plain PPO", "plain-with-", "with "), ("ppo_max", "PPO-max", "ppo_max-", "without "))
    for axis, (base, title, prefix, word) in zip(axes, kinds, strict=True):
        names = [name for name in table if name == base or name.startswith(prefix)]
        for place, name in enumerate(names):
            gold = table[name]["gold"]
            axis.plot([0, fmean(gold)], [place, place], color="0.8", lw=6, zorder=0)
            axis.scatter(gold, [place] * len(gold), color="tab:red" if base == "plain" else "tab:blue", s=18)
        axis.axvline(start, color="0.3", ls="--", lw=1)
        axis.annotate("before PPO", (start, -0.9), ha="center", fontsize=8, annotation_clip=False)
        shown = [title if name == base else word + name.removeprefix(prefix) for name in names]
        axis.set_yticks(range(len(names)), shown, fontsize=9)
        axis.invert_yaxis()
        axis.set_xlabel("gold on unseen prompts after the last step")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Run what is asked for, then write what is known."""
    every = shards()
    args = asked(__doc__, every)
    run_shards(args.wanted, args.out, args.jobs)
    rows = gather(HERE, every, args.out, more=value_bias)
    names = dict.fromkeys(shard.name.removeprefix("ablation-") for shard in every)
    grouped = {name: [row for row in rows if row["shard"].rsplit("-", 1)[0] == f"ablation-{name}"] for name in names}
    table = {name: figures(found) for name, found in grouped.items() if found}
    start = fmean({row["seed"]: row["gold_start"] for row in rows}.values())
    result = {
        "command": "python reproductions/ablation/run.py",
        "versions": versions(),
        "gold_before": start,
        "effects": effects(table),
        "configurations": table,
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    picture(table, start, HERE / "ablation.png")
    print(json.dumps({name: effect["shows"] for name, effect in result["effects"].items()}))


if __name__ == "__main__":
    main()
