"""Every way to learn from preferences on the same feedback in the village: same tuning, five seeds, one table.

Each method is a `heed compare` of its own, so that they run apart and resume; the model, the comparisons and the reward
model are those of `heed demo` with seed 0. Three learning rates are tried with the first seed on development prompts,
the best is trained with five seeds and measured on 1,000 test prompts, decided by gold.

    python reproductions/methods/run.py --out runs [--methods dpo,ppo]
    python reproductions/methods/run.py --collect --out runs
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import chain, pipeline, run_of

from heedlm.pipelines import compare
from heedlm.report import forest
from heedlm.runs.info import versions

HERE = Path(__file__).parent
SEEDS, TRIES, STEPS = 5, 3, 100


def words(out: Path, method: str) -> list[str]:
    """The comparison of one method, as words of `heed compare`."""
    base = chain(0, out)
    given = {"model": base["sft"], "data": base["label"], "reward": base["reward"], "prompts": base["village"]}
    return [
        *(f"{role}={path}" for role, path in given.items()),
        *(f"methods={method}", f"seeds={SEEDS}", f"tries={TRIES}"),
        *(f"ppo.steps={STEPS}", "ppo.cadence.evaluate=0", "ppo.guard=off", "evaluate.limit=1000"),
    ]


def collect(out: Path) -> dict[str, Any]:
    """What is known of every method, those of earlier collections too."""
    file = HERE / "methods.json"
    table: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for method in compare.METHODS:
        run = run_of("compare", method, out)
        row = run.info.results.get("methods", {}).get(method) if run is not None else None
        if row and row["runs"]:
            runs = [{key: value for key, value in one.items() if key != "run"} for one in row["runs"]]
            table[method] = {**row, "runs": runs}
    table = {method: table[method] for method in compare.METHODS if method in table}
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return table


def main() -> None:
    """Run what is asked for, then write what is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default=",".join(compare.METHODS), help="separated by commas; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--collect", action="store_true", help="run nothing, gather what is there")
    args = parser.parse_args()
    if not args.collect:
        for method in args.methods.split(","):
            pipeline(compare, "compare", method, words(args.out, method), args.out)
            collect(args.out)
    table = collect(args.out)
    ordered = sorted(table.items(), key=lambda item: -item[1]["win_rate"])
    rows = [
        forest.Row(name, row["win_rate"], row["low"], row["high"], [run["win_rate"] for run in row["runs"]])
        for name, row in ordered
    ]
    (HERE / "methods.svg").write_text(forest.draw(rows, "gold win rate over the SFT model, %"), encoding="utf-8")
    beats = {name: row["low"] > 0.5 for name, row in table.items()}
    result = {
        "command": "python reproductions/methods/run.py",
        "versions": versions(),
        "claims": {
            f"{name}: lower end above 50 %, {len(table[name]['runs'])} seeds": {"holds": holds}
            for name, holds in beats.items()
        },
        "missing": [name for name in compare.METHODS if name not in table],
        "methods": table,
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
