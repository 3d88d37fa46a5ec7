"""One run in a process of its own: a job as JSON on standard input, its outcome as JSON on the last line out."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import resource
import sys
import traceback
from typing import Any

from benchmarks import machine
from benchmarks.job import Absent, Job


def run(job: Job) -> dict[str, Any]:
    """Do a job in this process. `absent` in the answer says why there are no figures."""
    try:
        side = importlib.import_module(f"benchmarks.sides.{job.side}")
        outcome = getattr(side, job.case)(job)
    except Absent as reason:
        return {"absent": str(reason)}
    except ImportError as error:
        return {"absent": f"not installed here: {error}"}
    return {**dataclasses.asdict(outcome), "peak_mib": peak_mib()}


def peak_mib() -> float:
    """The most memory (MiB) this process has held at once, libraries included."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def first_line(error: Exception) -> str:
    """What went wrong, without the paths of this machine."""
    text = (str(error).splitlines() or [""])[0]
    return re.sub(r"(?<![\w.])/(?:[\w.~+-]+/)+", "…/", text)[:200]


def main() -> int:
    """Read the job, run it, print the outcome."""
    wanted = json.loads(sys.stdin.read())
    # Libraries write to standard output; the answer alone shall be there.
    channel, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    if wanted == "machine":
        answer: dict[str, Any] = {"matmul_gflops": machine.matmul()}
    else:
        job = Job(**wanted)
        import torch

        from heedlm.models.compute import keep_freed_memory

        # Every stage of Heed does both; the peers' documentation knows of allocators too, so they get it as well.
        torch.set_num_threads(job.threads)
        keep_freed_memory()
        try:
            answer = run(job)
        except Exception as error:  # noqa: BLE001  whatever a peer does must not end the others' runs
            traceback.print_exc()
            answer = {"absent": f"failed: {type(error).__name__}: {first_line(error)}"}
    channel.write("\n" + json.dumps({**answer, "versions": machine.versions()}) + "\n")
    channel.close()
    return 0


if __name__ == "__main__":
    code = main()
    # A peer's background threads must not keep the process alive.
    sys.stderr.flush()
    os._exit(code)
