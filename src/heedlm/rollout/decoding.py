"""Continuous batching: rows leave when their answer ends, and prompts that wait take their slots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heedlm.errors import NotFinite
from heedlm.ops.kernels import Block
from heedlm.ops.sampling import pick
from heedlm.rollout.network import Network, Seen
from heedlm.rollout.sampling import Sampling
from heedlm.rollout.slots import Slots

# Rows that ended stay, and are decoded for nothing, until they are one in this many: changing the batch has a price.
_SPARE = 12
# Prompts are read together up to so many tokens, so that what was read and waits for a slot stays small.
_READ = 4096


@dataclass
class _Read:
    """Prompts that were read.

    Attributes:
        rows: Rows that wait for a slot.
        prompt: Which of these prompts each of them has.
        starts: Where each prompt begins among the N tokens.
        logits: What follows each prompt (prompts, V).
        kept: Each layer's keys and values (N, H, D).
    """

    rows: list[int]
    prompt: list[int]
    starts: list[int]
    logits: Tensor
    kept: list[tuple[Tensor, Tensor]]


@dataclass
class Answers:
    """Sampled tokens in no particular order.

    Attributes:
        row: Whose each is (M,).
        place: Its place in the answer, from 0 (M,).
        tokens: Ids (M,).
        logps: Log-probabilities (M,).
        counts: Tokens of each row's answer (B,).
        ended: Whether it ended by itself (B,).
    """

    row: Tensor
    place: Tensor
    tokens: Tensor
    logps: Tensor
    counts: Tensor
    ended: Tensor


class Decoding:
    """One round of answers.

    Args:
        network: What computes.
        prompts: Token ids, in the order in which they are begun; equal ones side by side.
        rooms: The most tokens of each answer.
        noise: Each row's random numbers (B, most).
        sampling: Temperature, nucleus, length.
        stop: Ids that end an answer.
        slots: Rows decoded at once.
    """

    def __init__(
        self,
        network: Network,
        prompts: Sequence[Sequence[int]],
        rooms: list[int],
        noise: Tensor,
        sampling: Sampling,
        stop: frozenset[int],
        slots: int,
    ) -> None:
        self.network, self.prompts, self.rooms, self.stop = network, prompts, rooms, stop
        self.settings = (sampling.temperature, sampling.top_k, sampling.top_p)
        self.device = network.embedding.device
        self.noise = noise.to(self.device)
        self.size = min(slots, len(prompts))
        self.slots = Slots(network, self.size, max(map(len, prompts)))
        self.unread = 0  # the first prompt that was not read yet
        self.read = _Read([], [], [], self.noise, [])
        self.step = 0
        self.begun = [0] * len(prompts)  # the step of each row's first token
        self.start = [0] * len(prompts)  # the column of each row's first token
        self.counts = [0] * len(prompts)  # tokens of the answer; 0 while it goes on
        self.ended = [False] * len(prompts)
        self.here: list[int] = []  # the row in each slot that is in use
        self.spare = 0  # how many of these have ended
        self.deadline = 0  # the next step at which one of them has used up its room
        none = self._tensor([])
        self.rows = self.numbers = self.last = self.places = self.before = none
        self.seen = Seen(none, 0)
        self.cache: list[list[Block]] = []  # their keys and values
        self.tokens = torch.zeros(self.size, dtype=torch.long, device=self.device)
        self.log: list[tuple[int, Tensor, Tensor, Tensor]] = []  # step, rows, tokens, logps

    def run(self) -> Answers:
        """Decode until every row has ended or used up its room.

        Raises:
            NotFinite: The model's logits are NaN or infinite.
        """
        while self._rearrange():
            self._decode()
        counts, begun = self._tensor(self.counts), self._tensor(self.begun)
        row = torch.cat([rows for _, rows, _, _ in self.log])
        step = torch.cat([torch.full_like(rows, number) for number, rows, _, _ in self.log])
        place = step - begun[row]
        real = place < counts[row]  # the others were drawn after their row's end
        return Answers(
            row=row[real],
            place=place[real],
            tokens=torch.cat([tokens for _, _, tokens, _ in self.log])[real],
            logps=torch.cat([logps for _, _, _, logps in self.log])[real],
            counts=counts,
            ended=torch.tensor(self.ended, device=self.device),
        )

    def stream(self) -> Iterator[int]:
        """The tokens of the only row, each as soon as it is drawn.

        Raises:
            NotFinite: The model's logits are NaN or infinite.
        """
        while self._rearrange():
            yield from self._news()
            self._decode()
        yield from self._news()

    def _news(self) -> Iterator[int]:
        """What was drawn since this was last called."""
        drawn, self.log = self.log, []
        for _, _, tokens, _ in drawn:
            yield int(tokens)

    def _tensor(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    # ------------------------------------------------------------ one token more

    def _decode(self) -> None:
        """The next token of every slot in use."""
        slots, count = self.slots, len(self.here)
        if slots.reach(slots.column):
            self._drop()
            self._refresh()
        self.seen.go_on()
        logits = self.network.step(self.tokens[:count], self.places, self.cache, self.seen)
        slots.column += 1
        self.step += 1
        self.tokens[:count] = self._draw(logits, self.rows, self.numbers, self.here)
        self.numbers = torch.minimum(self.numbers + 1, self.last)
        self.places = self.numbers + self.before

    def _draw(self, logits: Tensor, rows: Tensor, numbers: Tensor, names: list[int]) -> Tensor:
        """Tokens for these rows (twice: on the device and by name); notes which of them end."""
        tokens, logps = pick(logits, self.noise[rows, numbers], *self.settings)
        self.log.append((self.step, rows, tokens, logps))
        ids = torch.where(logps.isnan(), -1, tokens).tolist()  # the one wait for the device in a step
        seen = set(ids)
        if -1 in seen:
            raise NotFinite("the model's logits are NaN or infinite, so no token can be sampled from them")
        if self.step >= self.deadline or not seen.isdisjoint(self.stop):
            for row, token in zip(names, ids, strict=True):
                made = self.step - self.begun[row] + 1
                if self.counts[row] == 0 and (token in self.stop or made == self.rooms[row]):
                    self.counts[row], self.ended[row] = made, token in self.stop
                    self.spare += 1
            self._find_deadline()
        return tokens

    # ------------------------------------------------------------ who is in which slot

    def _rearrange(self) -> bool:
        """Let rows in and out where it pays; whether any are left."""
        while self.read.rows or self.unread < len(self.prompts):
            free = self.size - len(self.here) + self.spare
            if len(self.here) == self.size and free * _SPARE < self.size:
                return True
            self._admit(free)
        if self.spare == len(self.here):
            return False
        if self.spare * _SPARE >= len(self.here):
            self._compact()
        return True

    def _admit(self, most: int) -> None:
        """Give slots to up to `most` rows that wait, and draw their first tokens."""
        if not self.read.rows:
            self._read_on()
        read = self.read
        rows, prompt = read.rows[:most], read.prompt[:most]
        read.rows, read.prompt = read.rows[most:], read.prompt[most:]
        free = [slot for slot, row in enumerate(self.here) if self.counts[row]] + [*range(len(self.here), self.size)]
        column, source, target, columns = self.slots.column, list[int](), list[int](), list[int]()
        for row, which, slot in zip(rows, prompt, free, strict=False):
            length, begin = len(self.prompts[row]), read.starts[which]
            source += range(begin, begin + length)
            target += [slot] * length
            columns += range(column - length, column)
            self.begun[row], self.start[row] = self.step, column - length
            if slot < len(self.here):
                self.here[slot] = row
                self.spare -= 1
            else:
                self.here.append(row)
        self.slots.place(read.kept, self._tensor(source), self._tensor(target), self._tensor(columns))
        names = self._tensor(rows)
        self._find_deadline()
        logits = read.logits[self._tensor(prompt)]
        self.tokens[self._tensor(free[: len(rows)])] = self._draw(logits, names, torch.zeros_like(names), rows)
        self._refresh()

    def _read_on(self) -> None:
        """Read the next prompts, equal ones once."""
        starts: list[int] = []
        lengths: list[int] = []
        tokens: list[int] = []
        rows: list[int] = []
        prompt: list[int] = []
        for row in range(self.unread, len(self.prompts)):
            ids = list(self.prompts[row])
            if not rows or ids != list(self.prompts[row - 1]):
                if rows and len(tokens) + len(ids) > _READ:
                    break
                starts.append(len(tokens))
                lengths.append(len(ids))
                tokens += ids
            rows.append(row)
            prompt.append(len(starts) - 1)
        self.unread += len(rows)
        logits, kept = self.network.prefill(self._tensor(tokens), starts, lengths)
        self.read = _Read(rows, prompt, starts, logits, kept)

    def _compact(self) -> None:
        """Move the last rows into the slots of those that ended."""
        going = [slot for slot, row in enumerate(self.here) if not self.counts[row]]
        count = len(going)
        holes = sorted(set(range(count)) - set(going))
        movers = [slot for slot in going if slot >= count]
        if movers:
            source, target = self._tensor(movers), self._tensor(holes)
            self.slots.move(source, target)
            self.tokens[target] = self.tokens[source]
        for hole, slot in zip(holes, movers, strict=True):
            self.here[hole] = self.here[slot]
        del self.here[count:]
        self.spare = 0
        self._refresh()

    def _drop(self) -> None:
        """Let go of the columns that no row needs, be it here or waiting."""
        waiting = [*self.read.rows, *range(self.unread, len(self.prompts))]
        widest = max((len(self.prompts[row]) for row in waiting), default=0)
        starts = [self.start[row] for row in self.here if not self.counts[row]]
        self.slots.drop(min([self.slots.column - widest, *starts]))

    def _find_deadline(self) -> None:
        """When some row will next have used up its room."""
        going = [self.begun[row] + self.rooms[row] - 1 for row in self.here if not self.counts[row]]
        self.deadline = min(going, default=0)

    def _refresh(self) -> None:
        """What the next steps need to know of the rows in the slots."""
        self.rows = self._tensor(self.here)
        self.cache = self.slots.rows(len(self.here))
        lasts = [self.rooms[row] - 1 for row in self.here]
        self.last = self._tensor(lasts)
        self.numbers = torch.minimum(self.step + 1 - self._tensor([self.begun[row] for row in self.here]), self.last)
        self.before = self._tensor([len(self.prompts[row]) - 1 for row in self.here])
        self.places = self.numbers + self.before
        first = self._tensor([max(self.start[row] - self.slots.base, 0) for row in self.here])
        self.seen = Seen(first, self.slots.column - self.slots.base - 1)
