"""Measure Heed on one GPU: `python benchmarks/gpu/run.py [--sizes 0.5b,1.5b,7b] [--minutes 9] [--toy] [--out FILE]`.

Decoding, training and full PPO steps at several sizes with random weights, each beside the time it must take on the
device. Nothing is downloaded. Results are written after every figure, so an interrupted run keeps what it has.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()  # loading libraries belongs to the time that a run may take
ROOT = Path(__file__).parents[2]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

# Models of several sizes follow each other; memory that one leaves in pieces must serve the next.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "pydantic", "jinja2", "numpy")
OUT = ROOT / "benchmarks" / "results" / "gpu.json"


def missing(names: Sequence[str] = NEEDED) -> list[str]:
    """Packages that cannot be imported."""
    found = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            found.append(name)
    return found


def run(sizes: Sequence[Any], work: Any, device: Any, clock: Any, keep: Callable[[dict[str, Any]], None]) -> Any:
    """Measure all parts at all sizes until time is up, and return the results.

    Args:
        sizes: Of the models, smallest first.
        work: How much of everything.
        device: Where.
        clock: The time there is.
        keep: Told the results so far after every figure.
    """
    from benchmarks.gpu import decode, limits, ppo, training
    from benchmarks.gpu.bench import Bench, attempt

    # What is measured, how, and its share of the time that is left when it begins. Compiling takes the longest and
    # says the least about Heed, so it comes last.
    parts = (
        ([(size, cell) for size in sizes for cell in decode.cells(size, work)], decode.measure, 0.4),
        ([(size, cell) for size in sizes for cell in training.cells(size)], training.measure, 0.4),
        ([(size, cell) for size in sizes for cell in ppo.cells(size)], ppo.measure, 0.75),
        (decode.compiled_cells(sizes, work), decode.measure, 1.0),
    )
    results: dict[str, Any] = {
        "command": " ".join(["python benchmarks/gpu/run.py", *sys.argv[1:]]) if __name__ == "__main__" else "",
        "date": date.today().isoformat(),
        "device": describe(device),
        "versions": versions(),
        "seed": 0,
        "sizes": [asdict(size) for size in sizes],
        "work": asdict(work),
        "limits": None,
        "notes": notes(work, device),
        "cells": [],
    }

    def save() -> None:
        # Compiled decoding is measured last and read beside the rest of decoding.
        cells = [asdict(cell) for pairs, _, _ in parts for _, cell in pairs]
        order = [size.name for size in sizes]
        place = {"decode": 0, "training": 1, "ppo": 2}
        results["cells"] = sorted(cells, key=lambda c: (place[c["part"]], order.index(c["size"]), c["batch"]))
        results["seconds"] = round(time.perf_counter() - BEGAN, 1)
        keep(results)

    save()
    if clock.left <= 0:
        return results
    try:
        found = limits.measure(device, work.square, work.copied)
    except RuntimeError as error:
        results["notes"].append(f"The device's limits could not be measured, so nothing was: {str(error)[:200]}")
        save()
        return results
    results["limits"] = asdict(found)
    bench = Bench(device, found, work)
    for pairs, measure, share in parts:
        within = clock.part(share)
        for place, (size, cell) in enumerate(pairs):
            still = sum(other.weight for other, _ in pairs[place:])
            attempt(bench, measure, size, cell, within.part(size.weight / still))
            print(_told(cell), file=sys.stderr, flush=True)
            save()
        bench.forget()
    return results


def describe(device: Any) -> dict[str, Any]:
    """The device as torch tells it; no name of a machine or a person."""
    import torch

    if device.type != "cuda":
        return {"name": f"{platform.machine()} processor", "kind": device.type, "python": platform.python_version()}
    known = torch.cuda.get_device_properties(device)
    return {
        "name": known.name,
        "kind": "cuda",
        "memory_gib": round(known.total_memory / 2**30, 1),
        "multiprocessors": known.multi_processor_count,
        "capability": f"{known.major}.{known.minor}",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def versions() -> dict[str, Any]:
    """Packages, and the commit where git can tell it."""
    from benchmarks import machine

    found: dict[str, Any] = machine.versions()
    try:
        found |= machine.commit()
    except OSError:
        found["commit"] = ""
    return found


def notes(work: Any, device: Any) -> list[str]:
    """What holds for all figures."""
    from benchmarks.gpu.decode import graph_option

    said = [
        f"Decoding: prompts of {work.prompt} and answers of {work.answer} tokens, bfloat16, temperature 1, no EOS.",
        "Bounds: bytes of weights, keys and values over the copy's rate, operations over the large product's.",
        "Models are Qwen2-like with random weights; `sizes` in the results holds their shapes and vocabularies.",
        "Training: `weights` and `optimiser` stand with each figure; what is computed twice counts once.",
    ]
    if graph_option() is None:
        said.append("Heed's engine has no option to capture a decode step as a CUDA graph.")
    if device.type != "cuda":
        said.append("A trial on the processor: these figures say nothing about a GPU.")
    return said


def _told(cell: Any) -> str:
    name = f"{cell.part} {cell.size} {cell.who} {cell.batch or ''}"
    if not cell.figures:
        return f"{name}: {cell.state}; {cell.why}"
    return (
        f"{name}: {cell.figures['tokens_per_second']:,.0f} tokens/s, {cell.figures['share_of_bound']:.1%} of the bound"
    )


def write(path: Path, results: dict[str, Any]) -> None:
    """Replace the file in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, measure, write the results, print the table."""
    parser = argparse.ArgumentParser(description="Measure Heed on one GPU.")
    parser.add_argument("--sizes", default="0.5b,1.5b,7b", help="which models, of 0.5b, 1.5b, 7b")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="time for everything; one figure may end a bit later"
    )
    parser.add_argument("--toy", action="store_true", help="a model of a few thousand parameters, on the processor")
    parser.add_argument("--out", type=Path, default=None, help="where results go (benchmarks/results/gpu.json)")
    known = parser.parse_args(arguments)
    lacking = missing()
    if lacking:
        print(
            f"not installed here: {', '.join(lacking)}; install them beside this Python and run again", file=sys.stderr
        )
        return 2
    import torch

    from benchmarks.gpu.clock import Clock
    from benchmarks.gpu.sizes import SIZES, TOY, TOY_WORK, Work
    from benchmarks.gpu.table import markdown

    asked = list(dict.fromkeys(known.sizes.split(",")))
    unknown = [name for name in asked if name not in SIZES]
    if unknown:
        print(f"--sizes: no size {unknown[0]!r}; there are {', '.join(SIZES)}", file=sys.stderr)
        return 2
    if not known.toy and not torch.cuda.is_available():
        print(
            "no CUDA device that torch can use: run on a machine with one, or try everything with --toy",
            file=sys.stderr,
        )
        return 2
    sizes = [TOY] if known.toy else [size for name, size in SIZES.items() if name in asked]
    work = TOY_WORK if known.toy else Work()
    device = torch.device("cpu" if known.toy else "cuda")
    out = known.out or (OUT.with_name("quick") / "gpu.json" if known.toy else OUT)
    began = BEGAN if arguments is None else time.perf_counter()
    results = run(sizes, work, device, Clock(began + 60 * known.minutes), lambda found: write(out, found))
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
