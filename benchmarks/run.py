"""Run benchmarks: `python benchmarks/run.py [names …] [--quick] [--repeats N] [--threads 2] [--peers heed,trl,…]`.

Every run has a process of its own, and contestants take turns, round by round, so that what disturbs the machine
disturbs all of them. Results go to benchmarks/results/<name>.json (with --quick to results/quick/, which git ignores).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []

from benchmarks import machine, report  # noqa: E402
from benchmarks.cases import CASES, Case, Contestant, Workload  # noqa: E402
from benchmarks.job import Job  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
PATIENCE = 600  # seconds a run may take
VLLM = ROOT / ".venv-vllm" / "bin" / "python"
Launch = Callable[[Job], dict[str, Any]]


def plan(case: Case, how: str, groups: set[str] | None, seed: int, threads: int) -> list[tuple[Workload, str, Job]]:
    """One round: every contestant once on every workload."""
    jobs = []
    for workload in case.workloads:
        for name, who in case.contestants.items():
            if groups is None or who.group in groups:
                jobs.append((workload, name, job_of(case, workload, who, how, seed, threads)))
    return jobs


def job_of(case: Case, workload: Workload, who: Contestant, how: str, seed: int, threads: int) -> Job:
    """What one contestant is told for one workload."""
    model = "toy" if how == "toy" else workload.model
    return Job(
        case.name, who.side, model, who.precision, workload.sized(how), dict(who.options), seed=seed, threads=threads
    )


def measure(
    case: Case, launch: Launch, *, how: str, rounds: int, groups: set[str] | None, threads: int
) -> list[dict[str, Any]]:
    """All runs of a case, in the order they were made; a contestant that cannot run is asked once."""
    runs: list[dict[str, Any]] = []
    absent: set[tuple[str, str]] = set()
    for number in range(min(rounds, case.rounds)):
        for workload, name, job in plan(case, how, groups, number, threads):
            if (workload.name, name) in absent or number >= case.contestants[name].rounds:
                continue
            found = launch(job)
            if "absent" in found:
                absent.add((workload.name, name))
            runs.append({"workload": workload.name, "contestant": name, "round": number, **found})
            print(f"  {case.name} {workload.name} {name} round {number + 1}: {report.told(found)}", file=sys.stderr)
    return runs


def in_process(job: Job) -> dict[str, Any]:
    """Run a job in this process: for tests."""
    from benchmarks import worker

    return {**worker.run(job), "versions": machine.versions()}


def in_own_process(job: Job | str) -> dict[str, Any]:
    """Run a job in a process of its own, vLLM's in its own environment."""
    vllm = isinstance(job, Job) and job.side == "vllm"
    if vllm and not VLLM.exists():
        return {"absent": "not installed: `make bench-vllm` sets up its environment"}
    threads = str(job.threads) if isinstance(job, Job) else "2"
    known = {
        "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
    }  # fmt: skip
    try:
        done = subprocess.run(
            [str(VLLM) if vllm else sys.executable, "-m", "benchmarks.worker"],
            input=json.dumps(asdict(job) if isinstance(job, Job) else job),
            cwd=ROOT, env={**os.environ, **known}, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"absent": f"did not end within {PATIENCE} seconds"}
    except (IndexError, json.JSONDecodeError):
        last = (done.stderr.strip().splitlines() or [""])[-1][:200]
        return {"absent": f"the process ended with code {done.returncode}: {last}"}
    if str(answer.get("absent", "")).startswith("failed"):
        print(done.stderr[-800:], file=sys.stderr)
    return answer


def benchmark(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Run a case and gather its results; the matrix product is timed before and after, and the better one counts."""
    groups = set(options.peers.split(",")) if options.peers else None
    how = "quick" if options.quick else "full"
    before = in_own_process("machine")["matmul_gflops"]
    runs = measure(case, in_own_process, how=how, rounds=options.repeats, groups=groups, threads=options.threads)
    after = in_own_process("machine")["matmul_gflops"]
    best = {name: max(before[name], after[name]) for name in before}
    return report.gather(case, runs, best, how=how, threads=options.threads)


def tune(case: Case, launch: Launch, *, how: str, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Tokens a second of every way that a peer was tried, in turns: the median over rounds."""
    ways = [
        (workload, name, label, {**asdict(job_of(case, workload, who, how, 0, threads)), "options": dict(tried)})
        for workload in case.workloads[:1]
        for name, who in case.contestants.items()
        for label, tried in who.tried.items()
        if not (who.precision == "float32" and "weights" in tried)
    ]
    found: dict[int, list[dict[str, Any]]] = {place: [] for place in range(len(ways))}
    for number in range(rounds):
        for place, (_, name, label, known) in enumerate(ways):
            if any("absent" in run for run in found[place]):
                continue
            found[place].append(launch(Job(**{**known, "seed": number})))
            print(f"  {case.name} {name} {label}: {report.told(found[place][-1])}", file=sys.stderr)
    return [
        report.tried(case.name, workload.name, name, label, found[place])
        for place, (workload, name, label, _) in enumerate(ways)
    ]


def main(words: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"cases: {', '.join(CASES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: to see that all is well")
    parser.add_argument("--repeats", type=int, help="rounds (3; with --quick 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the arithmetic (2)")
    parser.add_argument("--peers", help="only these: heed,transformers,trl,vllm")
    parser.add_argument("--tune", action="store_true", help="try the peers' options and write results/tuning.json")
    parser.add_argument("--table", action="store_true", help="print what the kept results show, and run nothing")
    options = parser.parse_args(words)
    if unknown := set(options.names) - set(CASES):
        parser.error(f"no case called {', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    folder = RESULTS / "quick" if options.quick else RESULTS
    if options.table:
        print(report.table(folder))
        return 0
    options.repeats = options.repeats or (1 if options.quick else 3)
    chosen = [CASES[name] for name in options.names or CASES]
    prepare(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    if options.tune:
        how = "quick" if options.quick else "full"
        rows = [
            row
            for case in chosen
            for row in tune(case, in_own_process, how=how, rounds=options.repeats, threads=options.threads)
        ]
        report.keep_tuning(folder / "tuning.json", rows, options.threads)
        return 0
    for case in chosen:
        report.keep(folder, benchmark(case, options))
    print(report.table(folder))
    return 0


def prepare(chosen: list[Case]) -> None:
    """Make the models before anything is timed."""
    names = sorted({workload.model for case in chosen for workload in case.workloads} - {"260k"})
    known = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.models", *names], cwd=ROOT, env={**os.environ, **known}, check=True
    )


if __name__ == "__main__":
    sys.exit(main())
