"""Three rounds of sample, compare, refit the reward model, train, in the village: gold after each round.

`heed loop` starts from the fine-tuned model of `heed demo` with the same seed. Every round compares fresh answers to
1,024 fresh prompts, adds them to those before, refits the reward model and trains 100 PPO steps from the last policy;
gold decides on 1,000 test prompts, against the model before the first round.

    python reproductions/rounds/run.py --out runs [--seeds 0,1,2]
    python reproductions/rounds/run.py --collect --out runs
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import chain, pipeline, run_of

from heedlm.pipelines import loop
from heedlm.report import forest
from heedlm.runs.info import versions

HERE = Path(__file__).parent
ROUNDS, FRESH, STEPS = 3, 1024, 100
KEPT = ("round", "win_rate", "low", "high", "gold", "gold_before", "reward", "accuracy", "comparisons", "kl", "length")


def words(out: Path, seed: int) -> list[str]:
    """The loop of one seed, as words of `heed loop`."""
    base = chain(seed, out)
    return [
        *(f"model={base['sft']}", f"prompts={base['village']}", f"rounds={ROUNDS}", f"fresh={FRESH}"),
        *(f"ppo.steps={STEPS}", "ppo.cadence.evaluate=0", "evaluate.limit=1000", f"seed={seed}"),
    ]


def collect(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The rounds of every finished seed, those of earlier collections too."""
    file = HERE / "rounds.json"
    table: dict[str, list[dict[str, Any]]] = json.loads(file.read_text()) if file.exists() else {}
    for seed in (*table, *(str(number) for number in range(10))):
        run = run_of("loop", f"rounds-{seed}", out)
        if run is not None and run.info.status == "complete":
            table[seed] = [{key: row[key] for key in KEPT} for row in run.info.results["rounds"]]
    table = {seed: table[seed] for seed in sorted(table, key=int)}
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return table


def claims(table: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What a loop promises, and whether every seed shows it."""
    return {
        "gold after the last round is above gold before the first": {
            "seeds": {seed: [rows[0]["gold_before"], *(row["gold"] for row in rows)] for seed, rows in table.items()},
            "holds": bool(table) and all(rows[-1]["gold"] > rows[0]["gold_before"] for rows in table.values()),
        },
        "the win rate of the last round: lower end above 50 %": {
            "seeds": {seed: [rows[-1]["low"], rows[-1]["high"]] for seed, rows in table.items()},
            "holds": bool(table) and all(rows[-1]["low"] > 0.5 for rows in table.values()),
        },
        "every round's gold is above that of the round before": {
            "holds": bool(table) and all(b["gold"] > a["gold"] for rows in table.values() for a, b in pairwise(rows)),
        },
    }


def main() -> None:
    """Run what is asked for, then write what is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--collect", action="store_true", help="run nothing, gather what is there")
    args = parser.parse_args()
    if not args.collect:
        for seed in args.seeds.split(","):
            pipeline(loop, "loop", f"rounds-{seed}", words(args.out, int(seed)), args.out)
            collect(args.out)
    table = collect(args.out)
    rows = [
        forest.Row(f"seed {seed}, round {row['round']}", row["win_rate"], row["low"], row["high"])
        for seed, rounds in table.items()
        for row in rounds
    ]
    (HERE / "rounds.svg").write_text(forest.draw(rows, "gold win rate over the first model, %"), encoding="utf-8")
    result = {
        "command": "python reproductions/rounds/run.py",
        "versions": versions(),
        "claims": claims(table),
        "seeds": table,
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
