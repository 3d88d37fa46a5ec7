"""Token sequences laid end to end: no padding in any matrix product, and a shared prompt computed once.

A padded batch spends its time on padding, and K answers to one prompt as K rows spend it on the prompt, K times.
Here the real tokens of all sequences stand in one row. Each attends to its own sequence only and has the
position it would have alone, so what the model computes is the same. Where several sequences begin with the
same prefix, causal attention makes that prefix's states the same in each: it is laid down once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor

from heedlm.ops.shapes import Bool, Int

Ids = Sequence[int]


@dataclass(frozen=True)
class Table:
    """Pieces of the one row as padded rows, for attention.

    Attributes:
        index: (S, T) place of each token among the pieces' own tokens; 0 at padding.
        inverse: (n,) cell of `index`, flattened, that holds each token.
        padding: (S · T) True at padding, or None if there is none.
        lengths: (S,) tokens of each piece.
    """

    index: Int[Tensor, "S T"]
    inverse: Int[Tensor, "n"]
    padding: Bool[Tensor, "S*T"] | None
    lengths: Int[Tensor, "S"]

    @staticmethod
    def of(lengths: Sequence[int], device: torch.device) -> Table:
        """The table of pieces of these lengths that follow one another."""
        count = torch.tensor(lengths, device=device)
        steps = torch.arange(max(lengths, default=0), device=device)
        real = steps < count[:, None]
        starts = count.cumsum(0) - count
        index = torch.where(real, starts[:, None] + steps, 0)
        flat = real.flatten()
        return Table(index, flat.nonzero().squeeze(1), None if bool(flat.all()) else ~flat, count)


@dataclass(frozen=True)
class Branches:
    """The pieces that follow a shared prefix.

    Attributes:
        table: Their own tokens as padded rows.
        parents: (S,) which of the shared roots each follows.
        shared: How many roots are shared prefixes; they are the first roots.
        longest: Tokens of the longest of those.
        offsets: (S,) tokens of each branch's prefix.
        masks: What attention keeps from one layer to the next.
    """

    table: Table
    parents: Int[Tensor, "S"]
    shared: int
    longest: int
    offsets: Int[Tensor, "S"]
    masks: dict[object, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Packed:
    """Sequences in one row: first the pieces that stand alone or are shared, then those that follow a shared one.

    Attributes:
        tokens: (N,) token ids.
        positions: (N,) place of each token in its own sequence, from 0.
        before: (N,) index of the token before it in its sequence; its own index where there is none.
        roots: Pieces at the start of a sequence.
        branches: Pieces that follow a shared prefix, or None where nothing is shared.
        sequences: (first, length) of each sequence's own part, in the order they were given: the whole
            sequence, or what follows its prefix.
        prefixes: (first, length) of what comes before that part; length 0 where nothing does.
    """

    tokens: Int[Tensor, "N"]
    positions: Int[Tensor, "N"]
    before: Int[Tensor, "N"]
    roots: Table
    branches: Branches | None
    sequences: list[tuple[int, int]]
    prefixes: list[tuple[int, int]]

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def root_tokens(self) -> int:
        """Tokens of the roots; the branches' come after them."""
        return int(self.roots.inverse.shape[0])

    @cached_property
    def last(self) -> Int[Tensor, "S"]:
        """Index of each sequence's last token."""
        return torch.tensor([first + length - 1 for first, length in self.sequences], device=self.tokens.device)

    @cached_property
    def own(self) -> Int[Tensor, "M"]:
        """Index of every token of each sequence's own part, one sequence after the other."""
        ranges = (range(first, first + length) for first, length in self.sequences)
        return torch.tensor(list(chain.from_iterable(ranges)), dtype=torch.long, device=self.tokens.device)

    @cached_property
    def rows(self) -> tuple[Int[Tensor, "S T"], Int[Tensor, "N 2"]]:
        """The same sequences as right-padded rows, and a (row, column) of those for each token."""
        tokens = self.tokens.tolist()
        spans = list(zip(self.prefixes, self.sequences, strict=True))
        width = max((prefix[1] + own[1] for prefix, own in spans), default=0)
        rows, places = [], [(0, 0)] * len(tokens)
        for row, spans_of_row in enumerate(spans):
            indices = [i for first, length in spans_of_row for i in range(first, first + length)]
            for column, i in enumerate(indices):
                places[i] = (row, column)
            rows.append([tokens[i] for i in indices] + [0] * (width - len(indices)))
        device = self.tokens.device
        return torch.tensor(rows, device=device), torch.tensor(places, device=device)


def pack_sequences(
    sequences: Sequence[Ids], prefixes: Sequence[Ids] | None = None, device: torch.device | str = "cpu"
) -> Packed:
    """Lay sequences end to end.

    Args:
        sequences: Token ids of each, at least one.
        prefixes: What comes before each of them; equal ones that are not empty are laid down once.
        device: Where the tensors go.

    Raises:
        ValueError: A sequence is empty.
    """
    starts = [()] * len(sequences) if prefixes is None else [tuple(prefix) for prefix in prefixes]
    if not all(sequences):
        raise ValueError("every sequence needs at least one token of its own")
    shared = _shared(starts)
    alone = [i for i, start in enumerate(starts) if start not in shared]
    roots: list[Ids] = [*shared, *((*starts[i], *sequences[i]) for i in alone)]
    following = [i for i, start in enumerate(starts) if start in shared]
    branches = [sequences[i] for i in following]
    firsts = _firsts(map(len, [*roots, *branches]))

    own: list[tuple[int, int]] = [(0, 0)] * len(sequences)
    before: list[tuple[int, int]] = [(0, 0)] * len(sequences)
    for place, i in enumerate(alone, start=len(shared)):
        before[i] = (firsts[place], len(starts[i]))
        own[i] = (firsts[place] + len(starts[i]), len(sequences[i]))
    for place, i in enumerate(following, start=len(roots)):
        before[i] = (firsts[shared[starts[i]]], len(starts[i]))
        own[i] = (firsts[place], len(sequences[i]))

    where = torch.device(device)
    lengths = [len(piece) for piece in (*roots, *branches)]
    offsets = [len(starts[i]) for i in following]
    parents = [shared[starts[i]] for i in following]
    repeats, heads = torch.tensor(lengths, device=where), torch.tensor(firsts, device=where)
    places = torch.arange(sum(lengths), device=where)
    inside = places - heads.repeat_interleave(repeats)
    previous = places - 1
    ends = [firsts[parent] + offset - 1 for parent, offset in zip(parents, offsets, strict=True)]
    previous[heads] = torch.tensor([*firsts[: len(roots)], *ends], device=where)
    shifts = torch.tensor([*[0] * len(roots), *offsets], device=where)
    return Packed(
        tokens=torch.tensor(list(chain.from_iterable([*roots, *branches])), dtype=torch.long, device=where),
        positions=inside + shifts.repeat_interleave(repeats),
        before=previous,
        roots=Table.of(lengths[: len(roots)], where),
        branches=Branches(
            table=Table.of(lengths[len(roots) :], where),
            parents=torch.tensor(parents, device=where),
            shared=len(shared),
            longest=max(map(len, shared)),
            offsets=torch.tensor(offsets, device=where),
        )
        if shared
        else None,
        sequences=own,
        prefixes=before,
    )


def packed_length(sequences: Iterable[Ids], prefixes: Iterable[Ids]) -> int:
    """Tokens that `pack_sequences` would lay down."""
    starts = [tuple(prefix) for prefix in prefixes]
    shared = _shared(starts)
    alone = sum(len(start) for start in starts if start not in shared)
    return sum(map(len, sequences)) + sum(map(len, shared)) + alone


def _shared(starts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """The prefixes that more than one sequence has, numbered."""
    seen: set[tuple[int, ...]] = set()
    shared: dict[tuple[int, ...], int] = {}
    for start in starts:
        if start in seen and start and start not in shared:
            shared[start] = len(shared)
        seen.add(start)
    return shared


def _firsts(lengths: Iterable[int]) -> list[int]:
    """Where each of the pieces that follow one another begins."""
    firsts, total = [], 0
    for length in lengths:
        firsts.append(total)
        total += length
    return firsts
