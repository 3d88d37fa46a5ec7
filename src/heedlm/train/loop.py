"""The loop around every kind of training: metrics, evaluation, checkpoints, resume, and a clean stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from heedlm import runs
from heedlm.config import Config
from heedlm.errors import NotFinite
from heedlm.models.compute import keep_freed_memory
from heedlm.progress import progress
from heedlm.runs import Run
from heedlm.runs.info import resident_mib
from heedlm.train.state import load_state, rng_state, save_state, set_rng_state


class Cadence(Config):
    """How often a training run looks up from its work, in steps."""

    evaluate: NonNegativeInt = Field(50, description="steps between evaluations on held-out data; 0: only at the end")
    checkpoint: NonNegativeInt = Field(200, description="steps between checkpoints; 0: only when stopped")
    keep: PositiveInt = Field(2, description="newest checkpoints kept; older ones are removed unless still needed")
    disk: PositiveFloat | None = Field(
        None, description="GB that all checkpoints may take; older ones go first, the newest stays; none: no limit"
    )


class Paused(Exception):
    """A method was asked to stop in the middle of a step; its state says where, and the same step goes on there."""


class Trainable(Protocol):
    """What the loop needs of a method: steps, and a state that a resumed run goes on from."""

    def step(self, index: int) -> Mapping[str, float]:
        """Do step `index` (from 0) and return its metrics; `tokens` feeds the progress bar.

        Raises:
            Paused: A stop was asked for at a place within the step from which it can go on.
        """

    def evaluate(self, index: int) -> Mapping[str, float]:
        """Measure on held-out data after `index` steps; empty if there is none."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, the global random generators excepted."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class Steadied(Trainable, Protocol):
    """A method that can go on more carefully after a collapse."""

    def steady(self, times: int) -> Mapping[str, float]:
        """Be as careful as after so many rollbacks; the settings that were changed."""


class Overseer(Protocol):
    """Who watches the numbers of each step and may send training back; `monitor.guard.Guard` is one."""

    rollbacks: list[dict[str, Any]]
    may_go_back: bool

    def observe(self, step: int, values: Mapping[str, float]) -> int | None:
        """Take in a step's numbers; the step to go back to, or None."""

    def best_at(self, step: int) -> bool:
        """Whether a checkpoint of this step is wanted."""

    def keeps(self, step: int) -> set[int]:
        """Steps whose checkpoints may not be removed."""

    def went_back(self, state: Mapping[str, Any], facts: Mapping[str, float]) -> None:
        """Training stands at an earlier checkpoint again."""

    def note(self) -> None:
        """Record what was found."""

    def state_dict(self) -> dict[str, Any]:
        """What is remembered."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


def train(
    run: Run, method: Trainable, *, steps: int, cadence: Cadence, title: str, overseer: Overseer | None = None
) -> None:
    """Run a method for `steps` steps, going on from the run's newest checkpoint if it has one.

    An overseer may send training back to an earlier checkpoint, which needs a `Steadied` method.

    Raises:
        Interrupted: A signal asked to stop; a checkpoint was written, within a step if the method can pause there.
        NotFinite: A metric of a step became NaN or infinite.
        Collapsed: The overseer gave the run up.
    """
    index = _restore(run, method, overseer)
    started = time.monotonic() - _seconds_so_far(run, index)
    if overseer is not None and overseer.may_go_back and not runs.checkpoints.steps(run):
        _save(run, method, 0, cadence, overseer)  # there must be one to go back to
    with progress(title, total=steps, unit="steps") as bar:
        bar.advance(index)
        while index < steps:
            try:
                values = dict(method.step(index))
            except Paused:
                _save(run, method, index, cadence, overseer, within=True)
                raise runs.interrupted(run, f"within step {index + 1} of {steps}") from None
            _check_finite(values, index)
            done = index + 1
            due = cadence.evaluate and done % cadence.evaluate == 0
            if due or done == steps:
                values |= method.evaluate(done)
                _check_finite(values, index)  # NaN weights of the last step show nowhere else
            run.metrics(done, values | {"memory/mib": resident_mib()}, seconds=time.monotonic() - started)
            bar.advance(1, tokens=int(values.get("tokens", 0)))
            back = overseer.observe(done, values) if overseer is not None else None
            if overseer is not None and back is not None:
                _go_back(run, method, overseer, back, cadence)
                bar.advance(back - done)
                index = back
                continue
            stopping = runs.stop_requested()
            due = bool(cadence.checkpoint) and done % cadence.checkpoint == 0
            due = due or (overseer is not None and overseer.best_at(done))
            if (due or stopping) and done < steps:
                _save(run, method, done, cadence, overseer)
                if stopping:
                    raise runs.interrupted(run, f"after step {done} of {steps}")
            index = done
    if overseer is not None:
        overseer.note()


def restore_weights(run: Run, method: Trainable, step: int) -> None:
    """Put a method back to where it was when a step's checkpoint was saved."""
    method.load_state_dict(load_state(runs.checkpoints.at(run, step))["method"])


def _save(
    run: Run, method: Trainable, step: int, cadence: Cadence, overseer: Overseer | None, *, within: bool = False
) -> None:
    state = {"method": method.state_dict(), "rng": rng_state()}
    if overseer is not None:
        state["overseer"] = overseer.state_dict()
    runs.checkpoints.save(
        run,
        step,
        lambda folder: save_state(folder, state),
        within=within,
        keep_last=cadence.keep,
        protect=overseer.keeps(step) if overseer is not None else (),
        budget_bytes=None if cadence.disk is None else int(cadence.disk * 1e9),
    )


def _restore(run: Run, method: Trainable, overseer: Overseer | None) -> int:
    checkpoint = runs.checkpoints.newest(run)
    if checkpoint is None:
        return 0
    state = load_state(checkpoint)
    method.load_state_dict(state["method"])
    if overseer is not None:
        overseer.load_state_dict(state["overseer"])
    set_rng_state(state["rng"])
    return runs.checkpoints.step_of(checkpoint)


def _go_back(run: Run, method: Trainable, overseer: Overseer, step: int, cadence: Cadence) -> None:
    """Take up an earlier checkpoint with more careful settings, and put that on the disk before going on."""
    state = load_state(runs.checkpoints.at(run, step))
    run.abandon(step, len(overseer.rollbacks))
    method.load_state_dict(state["method"])
    set_rng_state(state["rng"])
    steadied: Steadied = method  # type: ignore[assignment]
    overseer.went_back(state["overseer"], steadied.steady(len(overseer.rollbacks)))
    _save(run, method, step, cadence, overseer)


def _seconds_so_far(run: Run, step: int) -> float:
    rows = run.read_metrics() if step else []
    return float(rows[-1].get("seconds", 0.0)) if rows else 0.0


def _check_finite(values: Mapping[str, float], index: int) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFinite(f"{name} became {value} in step {index + 1}; the weights before it are in the checkpoints")


class Best:
    """The weights with the lowest held-out value so far, kept in memory and in the checkpoints.

    Args:
        model: Whose weights to keep.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.value = math.inf
        self.step = 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, value: float, step: int) -> None:
        """Keep the present weights if `value` is the lowest yet."""
        if value < self.value:
            self.value = value
            self.step = step
            self.weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def restore(self) -> None:
        """Put the best weights back into the model, if any were offered."""
        if self.weights:
            self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Value, step and weights."""
        return {
            "value": self.value if self.weights else None,
            "step": self.step,
            "weights": dict(self.weights),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        self.value = math.inf if state["value"] is None else float(state["value"])
        self.step = int(state["step"])
        self.weights = dict(state["weights"])


def use_threads(threads: int | None) -> None:
    """Set the number of threads torch computes with, None for torch's own choice; and `keep_freed_memory`."""
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
