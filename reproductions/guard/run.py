"""The guard on runs that collapse: plain PPO, which falls within a hundred steps, with rollback switched on.

The detector's thresholds are those of `reproductions/monitor` (calibrated on seed 0), the win rate it also goes by is
decided by gold on 500 unseen prompts every ten steps. The final gold is that of the weights the run ends with.

    python reproductions/guard/run.py --jobs 2 --out runs
    python reproductions/guard/run.py --collect --out runs
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import Shard, gather, run_shards

from heedlm.runs import Run

HERE = Path(__file__).parent
STEPS, SEEDS = 400, (0, 1, 2)


def shards() -> list[Shard]:
    """Plain PPO with the guard, on three seeds."""
    thresholds = json.loads((HERE.parent / "monitor" / "thresholds.json").read_text())
    words = [f"monitor.{name}={'none' if value is None else value}" for name, value in thresholds.items()]
    words += ["guard=rollback", f"steps={STEPS}", "cadence.evaluate=10", "cadence.checkpoint=10", "rollback.margin=10"]
    return [Shard("guarded", seed, ("plain", *words)) for seed in SEEDS]


def outcome(run: Run) -> dict[str, Any]:
    """Gold before the first collapse and at the end; what was rolled back."""
    kept = [row for row in run.read_metrics() if "watch/gold" in row]
    gone = []
    for file in sorted((run.path / "abandoned").glob("*/metrics.jsonl"), key=lambda path: int(path.parent.name)):
        gone.append([row for row in map(json.loads, file.read_text().splitlines()) if "watch/gold" in row])
    rollbacks = run.info.results["guard"]["rollbacks"]
    first_to = rollbacks[0]["to"] if rollbacks else kept[-1]["step"]
    before = [row for row in kept if row["step"] <= first_to] + (gone[0] if gone else [])
    final = run.info.results
    return {
        "rollbacks": [
            {key: item.get(key) for key in ("at", "to", "lr_scale", "kl_coef", "reasons")} for item in rollbacks
        ],
        "best_gold_before": max(row["watch/gold"] for row in before),
        "final_gold": final["final/watch/gold"],
        "final_win_rate": final["final/watch/win_rate"],
        "kept_step": final.get("kept_step", kept[-1]["step"]),
        "last_gold": kept[-1]["watch/gold"],
        "abandoned_gold": [[row["watch/gold"] for row in rows] for rows in gone],
    }


def main() -> None:
    """Run what is asked for, then judge all that is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--collect", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not args.collect:
        run_shards(shards(), args.out, args.jobs)
    rows = gather(HERE, shards(), args.out, outcome)
    kept = {row["shard"]: row["final_gold"] >= 0.98 * row["best_gold_before"] for row in rows}
    goes_on = {row["shard"]: row["status"] == "complete" and len(row["rollbacks"]) > 0 for row in rows}
    every = len(rows) == len(SEEDS)
    result = {
        "command": "python reproductions/guard/run.py",
        "claims": {
            "after rollback training goes on to its last step": {
                "runs": goes_on,
                "holds": every and all(goes_on.values()),
            },
            "gold at the end is at least its best before the collapse, less 2 %": {
                "gold": {row["shard"]: [row["best_gold_before"], row["final_gold"]] for row in rows},
                "holds": every and all(kept.values()),
            },
        },
        "runs": {row["shard"]: {key: row[key] for key in (*outcome_keys(), "status", "steps")} for row in rows},
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["claims"]))


def outcome_keys() -> tuple[str, ...]:
    """What result.json says of each run."""
    return ("rollbacks", "best_gold_before", "final_gold", "final_win_rate", "kept_step", "last_gold", "abandoned_gold")


if __name__ == "__main__":
    main()
