"""Shards of an experiment on PPO: each is one `heed ppo` run, apart from the others.

A shard that was stopped is taken up where it was, one that is complete is not run again, and what a shard showed stays
in the experiment's shards.json when its run folder is gone. The village's models come from `heed demo seed=N`, one
chain a seed; another world gives its own words.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from heedlm.config import load
from heedlm.runs import Run
from heedlm.runs.info import versions

HEED = (sys.executable, "-c", "import sys; from heedlm.cli import main; sys.exit(main())")
# In common to the shards of all experiments: 32 prompts a step, answers of up to 32 tokens, 500 held-out prompts.
COMMON = ("tiny", "rollouts=32", "minibatch=16", "sampling.max_new_tokens=32", "watch=500", "cadence.checkpoint=0")
CURVE = {
    "win_rate": "watch/win_rate",
    "proxy": "watch/reward",
    "reward": "reward/mean",
    "kl": "kl/token_nats",
    "nll": "nll/policy",
    "length": "length/mean",
    "truncated": "length/truncated",
    "distinct_2": "text/distinct_2",
    "repetition_4": "text/repetition_4",
}


@dataclass(frozen=True)
class Shard:
    """One run: a name that says what is special about it, a seed, the words after `heed ppo`, and what runs them."""

    name: str
    seed: int
    words: tuple[str, ...]
    program: tuple[str, ...] = HEED

    @property
    def key(self) -> str:
        """Name and seed, as in `plain-0`."""
        return f"{self.name}-{self.seed}"


def asked(description: str, shards: Sequence[Shard], out: str = "runs") -> argparse.Namespace:
    """What the command line of an experiment says; `wanted` are the shards to run, none with --collect."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--shards", help="names with seeds, separated by commas; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of all runs")
    parser.add_argument("--collect", action="store_true", help="run nothing, gather what is there")
    args = parser.parse_args()
    names = args.shards.split(",") if args.shards else [shard.key for shard in shards]
    args.wanted = [] if args.collect else [shard for shard in shards if shard.key in names]
    return args


def chain(seed: int, out: Path) -> dict[str, Path]:
    """The complete demo of a seed, made if need be: its village, SFT, label and reward runs."""
    for _ in range(2):
        for file in sorted((out / "demo").glob("*/run.json")):
            run = Run.open(file.parent)
            if run.info.status == "complete" and run.info.seed == seed:
                return {stage: next((run.path / stage).iterdir()) for stage in ("village", "sft", "label", "reward")}
        subprocess.run([*HEED, "demo", f"seed={seed}", f"out={out}"], check=True)
    raise SystemExit(f"heed demo seed={seed} left no complete run in {out / 'demo'}")


def village(seed: int, out: Path) -> list[str]:
    """The words that name a seed's models and prompts, and what all experiments in the village have in common."""
    base = chain(seed, out)
    inputs = [f"model={base['sft']}", f"reward={base['reward']}", f"prompts={base['village']}"]
    return [*COMMON, *inputs, f"mix.data={base['village']}"]


def run_shards(
    shards: Sequence[Shard], out: Path, jobs: int, world: Callable[[int, Path], Sequence[str]] = village
) -> None:
    """Run those that are not complete, `jobs` at a time with one thread each; a collapse that stops one is a result.

    Args:
        shards: What to run.
        out: Folder of all runs.
        jobs: How many at a time.
        world: The words that come before a shard's own, for a seed; makes what they name if need be.
    """
    words = {seed: list(world(seed, out)) for seed in sorted({shard.seed for shard in shards})}
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda shard: _run(shard, out, words[shard.seed]), shards))


def found(shard: Shard, out: Path) -> Run | None:
    """The run of a shard, whatever its status."""
    return run_of("ppo", shard.key, out)


def pipeline(module: ModuleType, stage: str, name: str, words: Sequence[str], out: Path) -> None:
    """Run a pipeline such as `heed loop` under a name, or go on with it; one that is complete is left alone."""
    before = run_of(stage, name, out)
    if before is not None and before.info.status == "complete":
        return
    config = load(module.Config, [*words, f"name={name}", f"out={out}", "threads=1"], stage=stage)
    print(f"{name}: started", file=sys.stderr, flush=True)
    module.run(config, resume=before.path if before is not None else None)


def run_of(stage: str, name: str, out: Path) -> Run | None:
    """The run of that name that lies here, however far it came."""
    files = sorted((out / stage).glob(f"{name}-??????/run.json"))
    return Run.open(files[0].parent) if files else None


def facts(shard: Shard, run: Run) -> dict[str, Any]:
    """What result.json keeps of a shard: its words, status, alarms, and its curve at each evaluation."""
    rows = [row for row in run.read_metrics() if "watch/reward" in row]
    gold = "watch/gold" if rows and "watch/gold" in rows[0] else "watch/judged"
    alarms = run.path / "alarms.jsonl"
    return {
        "shard": shard.key,
        "seed": shard.seed,
        "words": list(shard.words),
        "status": run.info.status,
        "steps": run.read_metrics()[-1]["step"],
        "seconds": run.info.seconds,
        "peak_mib": run.info.peak_mib,
        "versions": versions(),
        "guard": run.info.results.get("guard"),
        "alarms": [json.loads(line) for line in alarms.read_text().splitlines()] if alarms.exists() else [],
        "curve": {"step": [row["step"] for row in rows]}
        | {name: [_short(row.get(key)) for row in rows] for name, key in ({"gold": gold} | CURVE).items()},
        "gold_start": next((row[f"{gold}_start"] for row in rows if f"{gold}_start" in row), None),
    }


def gather(
    folder: Path,
    shards: Iterable[Shard],
    out: Path,
    more: Callable[[Run], dict[str, Any]] = lambda run: {},
) -> list[dict[str, Any]]:
    """Facts of all shards that are done: from their runs, else as shards.json has them from earlier."""
    file = folder / "shards.json"
    known = {row["shard"]: row for row in json.loads(file.read_text())} if file.exists() else {}
    for shard in shards:
        run = found(shard, out)
        if run is not None and run.info.status in ("complete", "failed"):
            known[shard.key] = facts(shard, run) | more(run)
    rows = [known[key] for key in sorted(known)]
    starts = {row["seed"]: row["gold_start"] for row in rows if row["gold_start"] is not None}
    for row in rows:  # the same answers of the same model to the same prompts in every shard of a seed
        row["gold_start"] = starts.get(row["seed"])
    file.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    return rows


def lost_tenth(row: dict[str, Any]) -> int | None:
    """The first evaluation at which gold on unseen prompts is a tenth below its best so far, or below the SFT model's.

    One evaluation of 500 prompts has a standard error of about 0.015, so the fall must stand at the next one too, if
    there is one.
    """
    steps, gold, best = row["curve"]["step"], row["curve"]["gold"], 0.0
    fallen = []
    for value in gold:
        best = max(best, value)
        fallen.append(value <= 0.9 * best or (row["gold_start"] is not None and value < row["gold_start"]))
    return first_that_stands(steps, fallen)


def first_that_stands(steps: Sequence[int], low: Sequence[bool]) -> int | None:
    """The step of the first low evaluation whose next, if there is one, is low too."""
    return next((int(step) for place, step in enumerate(steps) if all(low[place : place + 2])), None)


def _run(shard: Shard, out: Path, world: Sequence[str]) -> None:
    """Start or take up one shard."""
    earlier = found(shard, out)
    if earlier is not None and earlier.info.status in ("complete", "failed"):
        return
    if earlier is not None:
        command = [*shard.program, "resume", str(earlier.path), "--quiet"]
    else:
        own = [f"seed={shard.seed}", "threads=1", f"out={out}", f"name={shard.key}", "--quiet"]
        command = [*shard.program, "ppo", *_presets(world), *_presets(shard.words), *_settings(world)]
        command += [*_settings(shard.words), *own]
    print(f"{shard.key}: started", file=sys.stderr, flush=True)
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 3, 4):  # complete, collapsed, not finite
        raise SystemExit(f"{shard.key}: ended with {done.returncode}")
    print(f"{shard.key}: done", file=sys.stderr, flush=True)


def _presets(words: Sequence[str]) -> list[str]:
    return [word for word in words if "=" not in word]


def _settings(words: Sequence[str]) -> list[str]:
    return [word for word in words if "=" in word]


def _short(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
