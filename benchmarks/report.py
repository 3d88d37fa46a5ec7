"""From runs to results: medians, spread, bounds, ratios, fitted exponents, a picture, and the table of goals."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.cases import CASES, Case, Goal
from benchmarks.cases.alone import SHARED_WITHIN, TRAINING_SHARE
from benchmarks.stats import power_law, ratio_of_medians, spread


def rate(run: Mapping[str, Any]) -> float | None:
    """Tokens a second over all passes of a run."""
    passes = run.get("passes")
    return sum(p["tokens"] for p in passes) / sum(p["seconds"] for p in passes) if passes else None


def told(run: Mapping[str, Any]) -> str:
    """A run in a few words."""
    if "absent" in run:
        return f"absent: {run['absent']}"
    speed = rate(run)
    figure = f"{len(run['points'])} points" if speed is None else f"{speed:,.0f} tokens/s"
    return f"{figure}, {run['peak_mib']:,.0f} MiB"


def gather(
    case: Case, runs: Sequence[dict[str, Any]], limit: Mapping[str, float], *, how: str, threads: int
) -> dict[str, Any]:
    """The results of a case, ready to be written."""
    versions: dict[str, Any] = {}
    for run in runs:
        versions.setdefault("vllm" if run["contestant"].startswith("vllm") else "all others", run.get("versions"))
    return {
        "case": case.name,
        "what": case.what,
        "unit": case.unit,
        "command": f"python benchmarks/run.py {case.name}{' --quick' if how == 'quick' else ''}",
        "date": date.today().isoformat(),
        **machine.commit(),
        "machine": {**machine.describe(threads), "matmul_gflops": dict(limit)},
        "versions": {name: found for name, found in versions.items() if found},
        "seeds": sorted({run["round"] for run in runs}),
        "sizes": how,
        "settings": {w.name: {"model": w.model, **w.sized(how)} for w in case.workloads},
        "contestants": {
            name: {"what": who.what, "precision": who.precision, "options": dict(who.options)}
            for name, who in case.contestants.items()
        },
        "figures": figures(case, runs, limit),
        "goals": [found for goal in case.goals if (found := reached(goal, runs)) is not None],
        **over_grid(case, runs),
        "runs": [{k: v for k, v in run.items() if k != "versions"} for run in runs],
    }


def figures(case: Case, runs: Sequence[dict[str, Any]], limit: Mapping[str, float]) -> list[dict[str, Any]]:
    """For each workload and contestant: the median over rounds with its spread, the bound and the memory."""
    found = []
    for (workload, name), group in _grouped(runs).items():
        here = {"workload": workload, "contestant": name}
        measured = [run for run in group if "absent" not in run]
        if not measured:
            found.append({**here, "absent": group[0]["absent"]})
            continue
        memory = {"peak_mib": max(run["peak_mib"] for run in measured)}
        rates = [r for run in measured if (r := rate(run)) is not None]
        if not rates:
            found.append({**here, **memory})
            continue
        passes = [p for run in measured for p in run["passes"]]
        gflops = limit[case.contestants[name].precision]
        bound = sum(p["tokens"] for p in passes) / (sum(p["flops"] for p in passes) / (gflops * 1e9))
        speed = spread(rates)
        detail = {k: v for k, v in measured[-1].get("detail", {}).items() if not isinstance(v, (dict, list))}
        found.append({
            **here, **asdict(speed), "bound": round(bound, 1), "share_of_bound": round(speed.median / bound, 4),
            **memory, **detail,
        })  # fmt: skip
    return found


def reached(goal: Goal, runs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The ratio that a goal asks for; `absent` where one side has no figure, None where neither was asked to run."""
    groups = _grouped(runs)
    if not any((goal.workload, name) in groups for name in (*goal.of, *goal.to)):
        return None
    here = {**asdict(goal)}
    ours, theirs = _fastest(groups, goal.workload, goal.of), _fastest(groups, goal.workload, goal.to)
    if ours is None or theirs is None:
        why = next(
            (run["absent"] for name in (goal.of if ours is None else goal.to)
             for run in groups.get((goal.workload, name), []) if "absent" in run), "not run",
        )  # fmt: skip
        return {**here, "absent": f"{' and '.join(goal.of if ours is None else goal.to)}: {why}"}
    ratio = ratio_of_medians(ours[1], theirs[1])
    return {**here, "fastest": [ours[0], theirs[0]], "ratio": asdict(ratio), "met": ratio.value >= goal.at_least}


def over_grid(case: Case, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians at each point of a grid, and exponents where the case is about growth."""
    at: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for point in run.get("points", []):
            for name, value in point.items():
                if name != "at":
                    at[json.dumps(point["at"])][name].append(value)
    if not at:
        return {}
    points = [
        {"at": json.loads(place), **{name: asdict(spread(values)) for name, values in known.items()}}
        for place, known in at.items()
    ]
    return {"points": points, **({"exponents": exponents(points)} if case.name == "growth" else {})}


def exponents(points: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The exponent of the cost in each size, with its standard error."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        curves[point["at"]["what"], point["at"]["against"]].append((point["at"]["size"], point["seconds"]["median"]))
    found = []
    for (what, against), curve in curves.items():
        fit = power_law([size for size, _ in curve], [cost for _, cost in curve])
        error = None if fit.error != fit.error else round(fit.error, 3)
        found.append({"what": what, "against": against, "exponent": round(fit.exponent, 3), "standard_error": error})
    return found


def keep(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write a case's results, and the picture of a growth curve beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{results['case']}.json"
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if results["case"] == "growth":
        draw(results, folder / "growth.png")
    return path


def tried(case: str, workload: str, name: str, label: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One way that a peer was tried, with the median of its tokens a second."""
    here = {"case": case, "workload": workload, "contestant": name, "tried": label}
    why = next((run["absent"] for run in runs if "absent" in run), None)
    rates = [r for run in runs if (r := rate(run)) is not None]
    if why is not None or not rates:
        return {**here, "absent": why or "no figures"}
    return {**here, **asdict(spread(rates)), "peak_mib": max(run["peak_mib"] for run in runs)}


def keep_tuning(path: Path, rows: Sequence[Mapping[str, Any]], threads: int) -> None:
    """Write what the peers were tried with; rows of cases that were not tried now stay."""
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    fresh = {row["case"] for row in rows}
    whole = {
        "what": "Every way that a peer was tried, tokens/s; the benchmarks use the fastest.",
        "command": "python benchmarks/run.py --tune",
        "date": date.today().isoformat(),
        "machine": machine.describe(threads),
        "versions": machine.versions(),
        "rows": [row for row in kept if row["case"] not in fresh] + list(rows),
    }
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Cost against each size, both axes logarithmic, with the exponents."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    slopes = {(e["what"], e["against"]): e for e in results["exponents"]}
    whats = sorted({what for what, _ in slopes})
    figure, panels = pyplot.subplots(1, len(whats), figsize=(5 * len(whats), 4), squeeze=False, layout="constrained")
    for panel, what in zip(panels[0], whats, strict=True):
        for (_, against), slope in ((key, slope) for key, slope in slopes.items() if key[0] == what):
            curve = [p for p in results["points"] if (p["at"]["what"], p["at"]["against"]) == (what, against)]
            first = curve[0]["at"]["size"]
            panel.plot(
                [p["at"]["size"] / first for p in curve], [p["seconds"]["median"] for p in curve],
                marker="o", label=f"{against}, from {first:,}: exponent {slope['exponent']:.2f}",
            )  # fmt: skip
        panel.set(xscale="log", yscale="log", title=what, xlabel="times the smallest size", ylabel="seconds")
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def table(folder: Path) -> str:
    """Markdown: every goal with its target, what was measured, and whether it is met."""
    lines = ["| what | target | measured | met |", "|---|---|---|---|"]
    for name in CASES:
        path = folder / f"{name}.json"
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        lines += [f"| {' | '.join(cells)} |" for cells in _rows(name, results)]
    return "\n".join(lines)


def _rows(name: str, results: Mapping[str, Any] | None) -> list[tuple[str, str, str, str]]:
    if results is None:
        return [(name, "", "not yet measured", "")]
    rows = []
    for goal in results["goals"]:
        what, target = f"{name}, {goal['workload']}: {goal['name']}", f"≥ {goal['at_least']:g} ×"
        if "absent" in goal:
            rows.append((what, target, goal["absent"], ""))
            continue
        value, (ours, theirs) = goal["ratio"], goal["fastest"]
        told = f"{value['value']:.2f} × [{value['low']:.2f}, {value['high']:.2f}] ({ours} beside {theirs})"
        rows.append((what, target, told, "yes" if goal["met"] else "no"))
    for point in results.get("points", []):
        at = point["at"]
        if name == "shared":
            worst = point["above_ideal"]["median"]
            what = f"K = {at['answers']}, P = {at['prompt']}, R = {at['answer']}, {at['precision']}"
            told = f"{point['ratio']['median']:.3f}, {worst:.2f} × the ideal"
            target = f"≤ {SHARED_WITHIN * point['ideal']['median']:.3f}"
            rows.append((f"shared prompt: {what}", target, told, "yes" if worst <= SHARED_WITHIN else "no"))
        elif name == "training_mfu":
            share, asked = point["share"]["median"], at["model"] == "30m" and at["precision"] == "float32"
            what = f"training at {at['model']}, {at['precision']}: share of a large matrix product"
            met = ("yes" if share >= TRAINING_SHARE else "no") if asked else ""
            told = f"{share:.0%} ({point['gflops']['median']:.0f} of {point['matmul_gflops']['median']:.0f} GFLOP/s)"
            rows.append((what, f"≥ {TRAINING_SHARE:.0%}" if asked else "reported", told, met))
    for slope in results.get("exponents", []):
        error = "" if slope["standard_error"] is None else f" ± {slope['standard_error']:.2f}"
        rows.append(
            (
                f"{slope['what']} time against {slope['against']}",
                "reported",
                f"exponent {slope['exponent']:.2f}{error}",
                "",
            )
        )
    return rows


def _grouped(runs: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        groups[run["workload"], run["contestant"]].append(run)
    return dict(groups)


def _fastest(
    groups: Mapping[tuple[str, str], list[dict[str, Any]]], workload: str, names: Sequence[str]
) -> tuple[str, list[float]] | None:
    """The contestant with the highest median among those that ran, with its rates."""
    known = {}
    for name in names:
        rates = [r for run in groups.get((workload, name), []) if (r := rate(run)) is not None]
        if rates:
            known[name] = rates
    if not known:
        return None
    best = max(known, key=lambda name: spread(known[name]).median)
    return best, known[best]
