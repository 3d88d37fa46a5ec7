"""A key-value cache of slots, in which every row's latest token lies in the same column.

Rows that join later have their prompt written up to the present column, so a decode step writes one column and
reads one range of columns whatever the rows' lengths are; what lies left of a row's start is hidden from it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedlm.rollout.network import Network


class Slots:
    """Keys and values of all layers for up to `slots` rows, used from column 0 on.

    Args:
        network: Whose cache it is.
        slots: Rows held at once.
        columns: Room; when it is used up, what is still needed moves to the left.
        column: The first column to be written by a decode step.
    """

    def __init__(self, network: Network, slots: int, columns: int, column: int) -> None:
        shape, device = (slots, network.kv_heads), network.embedding.device
        # Zeros, because what is hidden is still multiplied, and must not be NaN.
        self.layers = [
            (
                torch.zeros((*shape, network.head_dim, columns), dtype=network.dtype, device=device),
                torch.zeros((*shape, columns, network.head_dim), dtype=network.dtype, device=device),
            )
            for _ in network.layers
        ]
        self.columns, self.column = columns, column

    def place(self, kept: list[tuple[Tensor, Tensor]], tokens: Tensor, slots: Tensor, columns: Tensor) -> None:
        """Write prompts that were read.

        Args:
            kept: Each layer's keys and values (N, H, D).
            tokens: Which of the N to write (M,).
            slots: Where to, each (M,).
            columns: Where to, each (M,).
        """
        for (keys, values), (k, v) in zip(self.layers, kept, strict=True):
            keys[slots, :, :, columns] = k[tokens]
            values[slots, :, columns] = v[tokens]

    def rows(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Each layer's keys and values of the first `count` slots."""
        return [(keys[:count], values[:count]) for keys, values in self.layers]

    def move(self, source: Tensor, target: Tensor, first: int) -> None:
        """Copy slots onto others, from column `first` on."""
        for keys, values in self.layers:
            keys[target, :, :, first : self.column] = keys[source, :, :, first : self.column]
            values[target, :, first : self.column] = values[source, :, first : self.column]

    def shift(self, first: int, column: int) -> int:
        """Move the columns from `first` on to the left, so that `column` is the next; how far they moved."""
        by = self.column - column
        for keys, values in self.layers:
            keys[..., first - by : column] = keys[..., first : self.column].clone()
            values[:, :, first - by : column] = values[:, :, first : self.column].clone()
        self.column = column
        return by
