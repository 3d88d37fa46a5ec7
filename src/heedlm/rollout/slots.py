"""A key-value cache of slots, in which every row's latest token lies in the same column.

Columns are counted from the beginning of a round and lie in blocks. A row that joins later has its prompt written up to
the present column, so a decode step writes one column and reads the same blocks for all rows, whatever their lengths;
what lies left of a row's start is hidden from it. Blocks are added on the right and dropped on the left, and each is
read from end to end: on a CPU, reading the beginnings of longer stretches takes two to three times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedlm.models.packed import round_up
from heedlm.ops.kernels import COLUMNS, Block
from heedlm.rollout.network import Network

# Columns of a block. On a CPU a block is a few kilobytes a head; on a GPU few blocks mean few launches.
_CPU_WIDTH, _CPU_NUMBERS, _GPU_WIDTH = 32, 512, 128


class Slots:
    """Keys and values of all layers for up to `slots` rows.

    Args:
        network: Whose cache it is.
        slots: Rows held at once.
        column: The first column to be written by a decode step.
    """

    def __init__(self, network: Network, slots: int, column: int) -> None:
        self.network, self.slots = network, slots
        on_cpu = network.embedding.device.type == "cpu"
        self.width = max(_CPU_WIDTH, round_up(_CPU_NUMBERS // network.head_dim, COLUMNS)) if on_cpu else _GPU_WIDTH
        self.column = column  # the next to be written
        self.base = 0  # the first that is kept
        self.blocks: list[list[Block]] = []  # of each layer, from left to right
        self.unused: list[list[Block]] = []
        self.reach(column)

    @property
    def columns(self) -> int:
        """How many columns are kept, written or not."""
        return len(self.blocks) * self.width

    def reach(self, column: int) -> bool:
        """Make sure that this column exists; whether that took a new block."""
        missing = column >= self.base + self.columns
        while column >= self.base + self.columns:
            self.blocks.append(self.unused.pop() if self.unused else self._new())
        return missing

    def drop(self, column: int) -> None:
        """Let go of blocks left of this column."""
        while self.base + self.width <= column:
            self.unused.append(self.blocks.pop(0))
            self.base += self.width

    def place(self, kept: list[tuple[Tensor, Tensor]], tokens: Tensor, slots: Tensor, columns: Tensor) -> None:
        """Write prompts that were read.

        Args:
            kept: Each layer's keys and values (N, H, D).
            tokens: Which of the N to write (M,).
            slots: Where to (M,).
            columns: Where to (M,).
        """
        number = (columns - self.base) // self.width
        within = (columns - self.base) % self.width
        for i, block in enumerate(self.blocks):
            here = (number == i).nonzero().squeeze(1)
            if len(here):
                at = (slots[here], slice(None), within[here])
                for (keys, values), (k, v) in zip(block, kept, strict=True):
                    keys.transpose(2, 3)[at], values[at] = k[tokens[here]], v[tokens[here]]

    def rows(self, count: int) -> list[list[Block]]:
        """For each layer, the blocks of the first `count` slots: keys (count · H, D, columns), values with D last."""
        return [
            [(keys[:count].flatten(0, 1), values[:count].flatten(0, 1)) for keys, values in layer]
            for layer in zip(*self.blocks, strict=True)
        ]

    def move(self, source: Tensor, target: Tensor) -> None:
        """Copy slots onto others."""
        for block in self.blocks:
            for keys, values in block:
                keys[target], values[target] = keys[source], values[source]

    def _new(self) -> list[Block]:
        # Zeros, because what is hidden is multiplied all the same, and must not be NaN.
        network = self.network

        def zeros(*shape: int) -> Tensor:
            whole = (self.slots, network.kv_heads, *shape)
            return torch.zeros(whole, dtype=network.dtype, device=network.embedding.device)

        width, dim = self.width, network.head_dim
        return [(zeros(dim, width), zeros(width, dim)) for _ in network.layers]
