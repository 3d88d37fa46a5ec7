"""The win rate of `heed demo` over several seeds: each its own village, models, annotators and prompts.

python reproductions/village-demo/run.py --seeds 0,1,2
python reproductions/village-demo/run.py --collect runs/demo/seed-0-1ba020 …

Every seed is a chain run of its own, so a stopped script goes on with the next seed, and demos that were made
elsewhere can be gathered with --collect.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from heedlm.config import load
from heedlm.pipelines import demo
from heedlm.runs import Run

HERE = Path(__file__).parent
KEPT = (
    "win_rate",
    "win_rate_low",
    "win_rate_high",
    "win_rate_length_matched",
    "length_matched_prompts",
    "kl_nats",
    "gold_sft",
    "gold_policy",
    "reward_sft",
    "reward",
    "reward_model_accuracy",
    "reward_model_ceiling",
    "seconds",
    "peak_mib",
)


def row(run: Run) -> dict[str, Any]:
    """One seed's figures."""
    found = run.info.results
    settings = {}
    for setting in found["settings"]:
        rate, matched = setting["win_rate"], setting["length_matched"] or {}
        settings[setting["name"]] = {
            "temperatures": [setting["temperature"], setting["other_temperature"]],
            "win_rate": rate["rate"],
            "interval": [rate["low"], rate["high"]],
            "length_matched": matched.get("rate"),
            "tokens": [setting["length"], setting["other_length"]],
            "prompts": rate["n"],
        }
    threads = json.loads((run.path / "config.json").read_text())["threads"]
    figures = {name: found[name] for name in KEPT}
    return {"seed": run.info.seed, "threads": threads, **figures, "settings": settings}


def summary(done: list[Run]) -> dict[str, Any]:
    """All seeds with the claims they are to bear out."""
    rows = sorted((row(run) for run in done), key=lambda found: found["seed"])
    rates = [found["win_rate"] for found in rows]
    return {
        "command": "heed demo seed=N",
        "versions": done[0].info.versions,
        "decided_by": "gold score on 1,000 unseen prompts, each model at its best development temperature",
        "win_rate_mean": statistics.fmean(rates),
        "win_rate_deviation_between_seeds": statistics.stdev(rates) if len(rates) > 1 else None,
        "seeds": rows,
        "claims": {
            "win rate at least 65 % on every seed": {"lowest": min(rates), "holds": min(rates) >= 0.65},
            "lower end above 50 % on every seed": {
                "lowest": min(found["win_rate_low"] for found in rows),
                "holds": min(found["win_rate_low"] for found in rows) > 0.5,
            },
        },
    }


def main() -> None:
    """Run the seeds asked for, or gather finished demos, and write result.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", default="runs")
    parser.add_argument("--collect", nargs="*", type=Path, help="run directories of finished demos")
    args = parser.parse_args()
    done = [Run.open(path) for path in args.collect or ()]
    if not done:
        for seed in args.seeds.split(","):
            done.append(demo.run(load(demo.Config, [f"seed={seed}", f"out={args.out}"], stage="demo")))
    result = summary(done)
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
