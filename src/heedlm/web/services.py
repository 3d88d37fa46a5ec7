"""What the application is handed from outside, so that it needs neither torch nor processes of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from heedlm.errors import BadInput
from heedlm.feedback.jobs import Launcher

if TYPE_CHECKING:
    from heedlm.records import Message


@dataclass(frozen=True)
class LeftOut:
    """How many of the oldest messages a model has no room to read."""

    count: int


@dataclass(frozen=True)
class Cut:
    """The answer did not end by itself: it has reached the longest that the model gives."""


Piece = str | LeftOut | Cut


class ChatModel(Protocol):
    """A model to talk to. It writes one answer at a time, or as many as its attribute `at_once`, if it has one, says.

    What it raises as a `HeedError` is shown to the person it answers; other errors only reach the log.
    """

    def reply(self, messages: Sequence[Message], seed: int) -> Iterator[Piece]:
        """An answer, piece by piece, all in one thread; closing the iterator stops the model.

        Pieces may be empty: between any two it can be stopped.
        """
        ...


@runtime_checkable
class Adjustable(Protocol):
    """A chat model whose sampling a program may choose."""

    def adjusted(self, **sampling: float) -> ChatModel:
        """The same model with another temperature, top_p or max_new_tokens."""
        ...


@dataclass(frozen=True)
class Services:
    """What the application may use.

    Attributes:
        runs: Folder of the runs that it shows and starts.
        models: The models that people can talk to, by the names they are shown under.
        load: Makes a model to talk to out of a run; None: it cannot.
        launcher: Starts commands; None: it cannot.
    """

    runs: Path = Path("runs")
    models: dict[str, ChatModel] = field(default_factory=dict)
    load: Callable[[str], ChatModel] | None = None
    launcher: Launcher | None = None

    def offer(self, run: Path) -> str:
        """Put the model of a run up for chat while serving; returns the name it is shown under.

        It takes as long as loading a model does, and holds until the server stops; `chat=` of `heed serve` is for
        longer.

        Raises:
            BadInput: The run holds no language model, or this server loads none.
        """
        if self.load is None:
            raise BadInput("this server loads no models")
        inside = run.is_relative_to(self.runs)
        name = (run.relative_to(self.runs) if inside else Path(run.name)).as_posix()
        self.models[name] = self.load(str(run))
        return name


@dataclass(frozen=True)
class Site:
    """Where and how the application is reached.

    Attributes:
        hosts: Names under which it answers; others are refused (DNS rebinding).
        https: It is reached through HTTPS, so cookies are only sent there.
        name: Shown in the corner of every page.
        biggest: Bytes a request may have.
        second_factor: Roles whose people must have a second factor; others may.
    """

    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]", "testserver")
    https: bool = False
    name: str = "Heed"
    biggest: int = 64 * 2**20
    second_factor: tuple[str, ...] = ()
