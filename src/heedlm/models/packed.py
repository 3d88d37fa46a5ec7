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
from itertools import accumulate, chain

import torch
from torch import Tensor

from heedlm.ops.kernels import Pieces
from heedlm.ops.shapes import Bool, Int

Ids = Sequence[int]

_ALIKE, _FULL = 0.8, 384  # see `_sections`
_ROUND = 16  # widths of padded rows: kernels are made for each shape of a product, so there should be few of them


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
        steps = torch.arange(round_up(max(lengths, default=0), _ROUND), device=device)
        real = steps < count[:, None]
        starts = count.cumsum(0) - count
        index = torch.where(real, starts[:, None] + steps, 0)
        flat = real.flatten()
        return Table(index, flat.nonzero().squeeze(1), None if bool(flat.all()) else ~flat, count)


@dataclass(frozen=True)
class Branches:
    """The pieces of a section that follow a shared prefix.

    Attributes:
        table: Their own tokens as padded rows.
        parents: (S,) which of the section's roots each follows.
        longest: Tokens of the longest root.
        offsets: (S,) tokens of each branch's prefix.
        masks: What attention keeps from one layer to the next.
    """

    table: Table
    parents: Int[Tensor, "S"]
    longest: int
    offsets: Int[Tensor, "S"]
    masks: dict[object, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """Sequences of like length, side by side: attention is computed a section at a time, with little padding.

    Attributes:
        roots: Pieces at the start of a sequence: whole sequences, or prefixes that several share.
        branches: Pieces that follow these, or None where nothing is shared.
        root_tokens: Tokens of the roots; the branches' come after them.
        tokens: Tokens of both.
    """

    roots: Table
    branches: Branches | None
    root_tokens: int
    tokens: int

    @property
    def columns(self) -> int:
        """Keys of the longest row, padding included."""
        own = 0 if self.branches is None else self.branches.table.index.shape[1]
        return self.roots.index.shape[1] + own


@dataclass(frozen=True)
class Packed:
    """Sequences in one row.

    Attributes:
        tokens: (N,) token ids.
        positions: (N,) place of each token in its own sequence, from 0.
        before: (N,) index of the token before it in its sequence; its own index where there is none.
        sections: What of the row belongs together, from its beginning to its end.
        families: Of each root and the pieces that follow it: where the root begins and how many of its tokens are the
            piece's prefix, where the piece's own tokens begin and how many they are.
        sequences: (first, length) of each sequence's own part, in the order they were given: the whole
            sequence, or what follows its prefix.
        prefixes: (first, length) of what comes before that part; length 0 where nothing does.
    """

    tokens: Int[Tensor, "N"]
    positions: Int[Tensor, "N"]
    before: Int[Tensor, "N"]
    sections: list[Section]
    families: list[list[tuple[int, int, int, int]]]
    sequences: list[tuple[int, int]]
    prefixes: list[tuple[int, int]]

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    @cached_property
    def pieces(self) -> Pieces:
        """The families as the loops in C take them."""
        spans = [piece for family in self.families for piece in family]
        ends = accumulate((len(family) for family in self.families), initial=0)
        return Pieces(torch.tensor(spans), torch.tensor(list(ends)))

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
    where = torch.device(device)
    lengths: list[int] = []  # of the pieces, in the order they are laid down
    offsets: list[int] = []  # where in its sequence each piece begins
    ends: list[int] = []  # index of the token before each piece; -1 where there is none
    ids: list[int] = []
    own: list[tuple[int, int]] = [(0, 0)] * len(sequences)
    before: list[tuple[int, int]] = [(0, 0)] * len(sequences)
    sections, families = [], []
    for groups in _sections(_groups(sequences, starts)):
        first_piece, begin = len(lengths), len(ids)
        for group in groups:
            group.first = len(ids)
            for i in group.members[:1] if group.whole else []:
                before[i] = (len(ids), len(starts[i]))
                own[i] = (len(ids) + len(starts[i]), len(sequences[i]))
            lengths.append(len(group.root))
            offsets.append(0)
            ends.append(-1)
            ids += group.root
        middle, split = len(lengths), len(ids)
        for group in groups:
            families.append([(group.first, 0, group.first, len(group.root))])
            for i in [] if group.whole else group.members:
                families[-1].append((group.first, len(group.root), len(ids), len(sequences[i])))
                before[i], own[i] = (group.first, len(group.root)), (len(ids), len(sequences[i]))
                lengths.append(len(sequences[i]))
                offsets.append(len(group.root))
                ends.append(group.first + len(group.root) - 1)
                ids += sequences[i]
        parents = [place for place, group in enumerate(groups) if not group.whole for _ in group.members]
        branches = None
        roots = Table.of(lengths[first_piece:middle], where)
        if parents:
            branches = Branches(
                table=Table.of(lengths[middle:], where),
                parents=torch.tensor(parents, device=where),
                longest=roots.index.shape[1],
                offsets=torch.tensor(offsets[middle:], device=where),
            )
        sections.append(Section(roots, branches, split - begin, len(ids) - begin))
    sizes = torch.tensor(lengths, device=where)
    heads = sizes.cumsum(0) - sizes
    places = torch.arange(len(ids), device=where)
    previous, last = places - 1, torch.tensor(ends, device=where)
    previous[heads] = torch.where(last < 0, heads, last)
    shifts = torch.tensor(offsets, device=where) - heads
    return Packed(
        tokens=torch.tensor(ids, dtype=torch.long, device=where),
        positions=places + shifts.repeat_interleave(sizes),
        before=previous,
        sections=sections,
        families=families,
        sequences=own,
        prefixes=before,
    )


@dataclass
class _Group:
    """A root and the sequences that follow it, or a sequence by itself (`whole`)."""

    root: list[int]
    members: list[int]
    whole: bool
    longest: int  # tokens of the longest sequence, its prefix included
    first: int = 0  # where the root begins

    @property
    def tokens(self) -> int:
        return self.longest * max(1, len(self.members))


def _groups(sequences: Sequence[Ids], starts: Sequence[tuple[int, ...]]) -> list[_Group]:
    """Those with a shared prefix, then those without; each kind from long to short."""
    shared = {start: _Group(list(start), [], False, 0) for start in _shared(starts)}
    alone = []
    for i, (start, ids) in enumerate(zip(starts, sequences, strict=True)):
        length = len(start) + len(ids)
        if start in shared:
            shared[start].members.append(i)
            shared[start].longest = max(shared[start].longest, length)
        else:
            alone.append(_Group([*start, *ids], [i], True, length))
    return sorted([*shared.values(), *alone], key=lambda group: (group.whole, -group.longest))


def _sections(groups: list[_Group]) -> list[list[_Group]]:
    """Neighbours in one section while they are of one kind and nearly as long as its longest.

    Padding costs attention the square of the length, another section the price of a few calls: short sections
    go on until they hold some tokens.
    """
    found: list[list[_Group]] = []
    held = 0
    for group in groups:
        alike = bool(found) and found[-1][0].whole == group.whole
        if not alike or (group.longest < _ALIKE * found[-1][0].longest and held >= _FULL):
            found.append([])
            held = 0
        found[-1].append(group)
        held += group.tokens
    return found


def round_up(number: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-number // unit) * unit


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
