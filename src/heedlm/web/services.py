"""What the application is handed from outside, so that it needs neither torch nor processes of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from heedlm.records import Message


class ChatModel(Protocol):
    """A model to talk to."""

    def reply(self, messages: Sequence[Message], seed: int) -> Iterator[str]:
        """An answer, piece by piece; closing the iterator stops the model."""
        ...


class Launcher(Protocol):
    """What starts `heed` commands as processes."""

    def start(self, words: Sequence[str], log: Path) -> int:
        """Start `heed WORDS`, its output into a file; returns the process id."""
        ...

    def running(self, pid: int) -> bool:
        """Whether a process that was started here still runs."""
        ...

    def stop(self, pid: int) -> None:
        """Ask a process that was started here to stop; it leaves a checkpoint behind."""
        ...


@dataclass(frozen=True)
class Services:
    """What the application may use."""

    runs: Path = Path("runs")
    models: Mapping[str, ChatModel] = field(default_factory=dict)
    launcher: Launcher | None = None


@dataclass(frozen=True)
class Site:
    """Where and how the application is reached.

    Attributes:
        hosts: Names under which it answers; others are refused (DNS rebinding).
        https: It is reached through HTTPS, so cookies are only sent there.
        name: Shown in the corner of every page.
        biggest: Bytes a request may have.
    """

    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]", "testserver")
    https: bool = False
    name: str = "Heed"
    biggest: int = 64 * 2**20
