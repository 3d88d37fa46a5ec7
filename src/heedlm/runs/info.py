"""What `run.json` holds, and where its facts come from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from heedlm import __version__
from heedlm.runs.fingerprints import Input, run_of

Status = Literal["running", "complete", "failed", "interrupted"]
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pydantic")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputInfo(_Part):
    """One input as `run.json` keeps it."""

    role: str
    path: str  # as the user wrote it
    from_run: str  # relative to the run directory, so that a tree of runs may be moved
    fingerprint: str
    run: str | None = None  # "stage/name" of the run that made it

    def locate(self, run: Path) -> Path:
        """Where the input lies now."""
        near = Path(os.path.normpath(run / self.from_run))
        return near if near.exists() or not Path(self.path).exists() else Path(self.path)


class OutputInfo(_Part):
    """One output as `run.json` keeps it; the path is relative to the run directory."""

    role: str
    path: str
    fingerprint: str
    rows: int | None = None


class RunInfo(_Part):
    """The content of `run.json`."""

    format: int = 1
    stage: str
    name: str
    status: Status
    reason: str | None = None
    argv: list[str]
    seed: int
    config_hash: str
    started: str
    finished: str | None = None
    seconds: float = 0.0
    peak_mib: float | None = None
    resumed: list[int] = []
    versions: dict[str, str]
    platform: dict[str, str | int | None]
    git: str | None = None
    inputs: list[InputInfo] = []
    outputs: list[OutputInfo] = []
    results: dict[str, Any] = {}


def peak_mib() -> float:
    """The most memory this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def resident_mib() -> float:
    """The memory this process holds now, in MiB; where the system does not tell, the most it has held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_mib()
    return round(pages * resource.getpagesize() / 2**20, 1)


def input_info(item: Input, print_: str, run: Path) -> InputInfo:
    """What `run.json` keeps of an input."""
    path = Path(item.path)
    maker = run_of(path)
    return InputInfo(
        role=item.role,
        path=str(path),
        from_run=os.path.relpath(path.absolute(), run.absolute()),
        fingerprint=print_,
        run=f"{maker.parent.name}/{maker.name}" if maker else None,
    )


def now() -> str:
    """Time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python, Heed and the libraries that numbers depend on."""
    found = {"python": platform.python_version(), "heedlm": __version__}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int | None]:
    """The machine and process a run ran in."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "host": socket.gethostname(),
        "process": os.getpid(),
    }


def git_version() -> str | None:
    """Commit of the repository one works in, "-dirty" if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
