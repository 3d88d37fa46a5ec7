"""Stopping between steps instead of in the middle of one.

A loop that asks `stop_requested()` between its steps is told of Ctrl-C and SIGTERM there, saves a
checkpoint and raises `interrupted(run)`. Before a loop first asks, and at the second signal, the program
stops at once.
"""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from heedlm.errors import Interrupted


@dataclass
class _State:
    polled: bool = False
    received: int | None = None


_state = _State()


def install() -> None:
    """Answer Ctrl-C and SIGTERM as described above; only the main thread can."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _handle)
        signal.signal(signal.SIGTERM, _handle)


def stop_requested() -> int | None:
    """Number of the signal by which the user or the system asked to stop, if any; ask between steps."""
    _state.polled = True
    return _state.received


def interrupted(run: Path | object, saved: str = "") -> Interrupted:
    """The exception to raise once the checkpoint is saved.

    Args:
        run: The run or its path, for the way to go on.
        saved: What was saved, such as "after step 40".
    """
    path = getattr(run, "path", run)
    what = f"stopped {saved}".rstrip()
    return Interrupted(f"{what}; go on with: heed resume {path}", _state.received or signal.SIGINT)


def forget() -> None:
    """A run has ended: nobody asks any more, and an old request is void."""
    _state.polled = False
    _state.received = None


def _handle(number: int, frame: FrameType | None) -> None:
    if _state.polled and _state.received is None:
        _state.received = number
        sys.stderr.write("\nstopping after this step and saving; once more to stop at once\n")
        sys.stderr.flush()
        return
    _state.received = number
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Interrupted("stopped by SIGTERM", number)
