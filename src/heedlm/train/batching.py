"""Rows of token ids into batches: padding, packing, microbatches and a shuffled order without state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One training row: token ids and, for each of them, whether the loss counts it."""

    ids: list[int]
    mask: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """Right-padded rows.

    Attributes:
        tokens: (B, T) token ids; whatever stands beyond a row's end is never looked at.
        lengths: (B,) real tokens of each row.
        mask: (B, T) true where the loss counts the token.
        blocks: (B, T) number of the packed example each token belongs to, or None if every row is one example.
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
    blocks: Tensor | None = None

    @property
    def count(self) -> int:
        """Tokens the loss counts. The first token of an example has no prediction and never counts."""
        return int(self.mask.sum())

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.lengths.sum())


def pad(rows: Sequence[Row], fill: int = 0) -> Batch:
    """Right-pad rows to the longest. The first token of each row is taken out of the loss: nothing predicts it."""
    return _assemble([[row] for row in rows], fill, packed=False)


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


def pad_packed(groups: Sequence[Sequence[Row]], fill: int = 0) -> Batch:
    """Lay each group of rows end to end in one row of the batch, with `blocks` telling the examples apart."""
    return _assemble(groups, fill, packed=True)


def _assemble(groups: Sequence[Sequence[Row]], fill: int, *, packed: bool) -> Batch:
    lengths = [sum(len(row) for row in group) for group in groups]
    width = max(lengths)
    ids: list[list[int]] = []
    masks: list[list[bool]] = []
    blocks: list[list[int]] = []
    for group, length in zip(groups, lengths, strict=True):
        padding = width - length
        ids.append([token for row in group for token in row.ids] + [fill] * padding)
        masks.append([m for row in group for m in (False, *row.mask[1:])] + [False] * padding)
        if packed:
            # Padding is a block of its own, so that no real token could ever look at it.
            numbers = [number for number, row in enumerate(group) for _ in row.ids]
            blocks.append(numbers + [len(group)] * padding)
    return Batch(
        tokens=torch.tensor(ids, dtype=torch.long),
        lengths=torch.tensor(lengths, dtype=torch.long),
        mask=torch.tensor(masks, dtype=torch.bool),
        blocks=torch.tensor(blocks, dtype=torch.long) if packed else None,
    )


def microbatches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split row numbers into groups of similar length whose padded size stays within `budget` tokens.

    Args:
        lengths: Tokens of each row.
        budget: Padded tokens (rows × longest row) a group may hold; a single longer row still forms a group.
    """
    groups: list[list[int]] = []
    current: list[int] = []
    # Longest first: the first row of a group sets its width, and the largest batch runs first, so that a lack
    # of memory shows at once and not an hour into training.
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if current and lengths[current[0]] * (len(current) + 1) > budget:
            groups.append(current)
            current = []
        current.append(index)
    return [*groups, current] if current else groups


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
