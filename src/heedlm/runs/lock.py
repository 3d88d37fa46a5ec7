"""Who fills a run directory: a lock that the system drops when its process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import ClassVar


class Lock:
    """An advisory lock on a run directory; within one process it may be taken over."""

    _ours: ClassVar[dict[Path, int]] = {}

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def take(cls, run: Path) -> Lock | None:
        """The lock, or None if another process holds it."""
        path = run.resolve() / ".lock"
        if path not in cls._ours:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return None
            cls._ours[path] = descriptor
        return cls(path)

    @classmethod
    def held(cls, run: Path) -> bool:
        """Whether a living process, this one included, holds the lock."""
        path = run.resolve() / ".lock"
        if path in cls._ours:
            return True
        lock = cls.take(run)
        if lock is None:
            return True
        lock.release()
        return False

    def release(self) -> None:
        """Let the run go; doing so twice is harmless."""
        descriptor = self._ours.pop(self._path, None)
        if descriptor is not None:
            os.close(descriptor)
