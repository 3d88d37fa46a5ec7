"""Commands of Heed started as processes of their own, which live on when whoever started them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MAIN = "import sys; from heedlm.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Process:
    """A process: its number, and when it began, as numbers are used again."""

    pid: int
    born: str


class Launcher:
    """Starts `heed` commands, each in a session of its own, so that Ctrl-C at the server does not reach them.

    Args:
        folder: Where commands run; relative paths mean the same there as here if it is the current folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._ours: dict[int, subprocess.Popen[bytes]] = {}
        self._turn = threading.Lock()

    def start(self, words: Sequence[str], log: Path) -> Process:
        """Start `heed WORDS --json`; everything it prints goes to the end of `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", _MAIN, *words, "--json", "--quiet"]
        with log.open("ab") as out:
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )
        with self._turn:
            self._ours[started.pid] = started
        return Process(started.pid, born(started.pid) or "")

    def running(self, process: Process) -> bool:
        """Whether a process still runs, also one that an earlier server has started."""
        with self._turn:
            ours = self._ours.get(process.pid)
            if ours is not None:
                if ours.poll() is None:
                    return True
                del self._ours[process.pid]
                return False
        return bool(process.born) and born(process.pid) == process.born

    def stop(self, process: Process) -> None:
        """Ask a process to stop: training saves a checkpoint and can be taken up again."""
        if self.running(process):
            os.kill(process.pid, signal.SIGTERM)


def born(pid: int) -> str | None:
    """When a process began, in the system's own words; None if there is none, or only what a dead one left."""
    try:
        # The second field is the command's name in brackets and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else f"{boot[:8]}-{fields[19]}"
