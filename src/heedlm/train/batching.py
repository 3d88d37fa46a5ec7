"""Rows of token ids into batches: packing, microbatches and a shuffled order without state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heedlm.models.packed import Packed, pack_sequences


@dataclass(frozen=True)
class Row:
    """One training row: token ids and, for each of them, whether the loss counts it."""

    ids: list[int]
    mask: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


def lay_out(rows: Sequence[Row], device: torch.device | str = "cpu") -> tuple[Packed, Tensor]:
    """Rows end to end, and the index (M,) of every token that the loss counts.

    The first token of a row never counts: nothing predicts it.
    """
    packed = pack_sequences([row.ids for row in rows], device=device)
    counted = [flag for row in rows for flag in (False, *row.mask[1:])]
    return packed, packed.own[torch.tensor(counted, device=device)]


def pack(rows: Sequence[Row], length: int) -> list[list[Row]]:
    """Group rows so that each group holds at most `length` tokens (first fit, in order, eight groups kept open).

    A row longer than `length` gets a group of its own; the caller has already truncated or rejected it.
    """
    done: list[list[Row]] = []
    open_groups: list[tuple[int, list[Row]]] = []
    for row in rows:
        for index, (used, group) in enumerate(open_groups):
            if used + len(row) <= length:
                group.append(row)
                open_groups[index] = (used + len(row), group)
                break
        else:
            open_groups.append((len(row), [row]))
            if len(open_groups) > 8:
                fullest = max(range(len(open_groups)), key=lambda i: open_groups[i][0])
                done.append(open_groups.pop(fullest)[1])
    return done + [group for _, group in open_groups]


def microbatches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split row numbers into groups of similar length that hold at most `budget` tokens each.

    Args:
        lengths: Tokens of each row.
        budget: Tokens a group may hold; a single longer row still forms a group.
    """
    groups: list[list[int]] = []
    room = 0
    # Longest first: a lack of memory shows at once and not an hour into training, and rows of like length
    # leave little padding in the attention product.
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not groups or lengths[index] > room:
            groups.append([])
            room = budget
        groups[-1].append(index)
        room -= lengths[index]
    return groups


class Order:
    """Which examples each step sees: a fresh shuffle every epoch, a pure function of (seed, step).

    Nothing needs saving for a resume: the order after step k is the same whether or not the run was interrupted.

    Args:
        size: Number of examples (at least 1).
        batch: Examples a step.
        seed: Seed of the shuffles.
    """

    def __init__(self, size: int, batch: int, seed: int) -> None:
        if size < 1:
            raise ValueError("Order needs at least one example")
        self.size = size
        self.batch = batch
        self.seed = seed
        self._epoch = -1
        self._permutation: list[int] = []

    def at(self, step: int) -> list[int]:
        """Indices of the examples of a step, counted from 0. A batch may straddle two epochs."""
        return [self._index(position) for position in range(step * self.batch, (step + 1) * self.batch)]

    def steps(self, epochs: float) -> int:
        """Steps needed to see every example `epochs` times, at least 1."""
        return max(1, round(epochs * self.size / self.batch))

    def _index(self, position: int) -> int:
        epoch, offset = divmod(position, self.size)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)  # torch takes 64 bits
            self._permutation = torch.randperm(self.size, generator=generator).tolist()
            self._epoch = epoch
        return self._permutation[offset]
