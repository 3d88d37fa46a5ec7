"""What preference training learns from: answers to one prompt with what was said of them, as pairs or one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.records import Rows, Thumb
from heedlm.train.batching import Row
from heedlm.train.ranking import Ranking, answer_rows


@dataclass(frozen=True)
class Judged:
    """Answers to one prompt with what was said of them.

    Attributes:
        ranking: The answers; what nothing was said of is not among them.
        pairs: (better, worse), as places among the rows.
        good: For each row, whether it counts as a good answer or as a bad one where answers stand alone.
    """

    ranking: Ranking
    pairs: list[tuple[int, int]]
    good: list[bool]


def in_pairs(ranking: Ranking, which: Literal["all", "extremes"] = "all") -> Judged | None:
    """A ranking as pairs, each a better answer and a worse one; a tie makes none. None if there is no pair.

    Args:
        ranking: Answers with their ranks.
        which: All pairs, or only the (first) best answer against the (first) worst one.
    """
    ranks = ranking.ranks
    places = range(len(ranks))
    if min(ranks) == max(ranks):
        return None
    if which == "extremes":
        return _judged(ranking, [ranks.index(min(ranks)), ranks.index(max(ranks))])
    return _judged(ranking, [i for i in places if any(ranks[i] != rank for rank in ranks)])


def one_by_one(ranking: Ranking) -> Judged | None:
    """A ranking as answers that stand alone: good if it beats more of the others than beat it, bad if fewer.

    An answer in the middle is left out. None if none is left.
    """
    return _judged(ranking, [i for i in range(len(ranking.ranks)) if _lead(ranking.ranks, i)])


def _judged(ranking: Ranking, kept: Sequence[int]) -> Judged | None:
    if not kept:
        return None
    ranks = [ranking.ranks[i] for i in kept]
    places = range(len(kept))
    return Judged(
        Ranking([ranking.rows[i] for i in kept], ranks, ranking.strength),
        [(i, j) for i in places for j in places if ranks[i] < ranks[j]],
        [_lead(ranking.ranks, i) > 0 for i in kept],
    )


def _lead(ranks: Sequence[int], place: int) -> int:
    """How many answers it beats, less how many beat it."""
    return sum((rank > ranks[place]) - (rank < ranks[place]) for rank in ranks)


def thumbs_of(chat: Chat, thumbs: Rows[Thumb], limit: int) -> tuple[Rows[Thumb], list[Judged]]:
    """Token rows of answers with a thumb; one that is too long even with its oldest turns dropped is put aside."""
    made: list[Judged] = []

    def too_long(thumb: Thumb) -> str | None:
        try:
            rows = answer_rows(chat, thumb.prompt, [thumb.answer.text], limit)
        except BadInput as error:
            return str(error)
        made.append(Judged(Ranking(rows, [1]), [], [thumb.up]))
        return None

    return thumbs.filter(too_long), made


def mismatched(judged: Sequence[Judged], pool: Sequence[Judged], limit: int, seed: int) -> list[Ranking]:
    """For each prompt an answer to another one of the pool, drawn once: what KTO's z₀ is estimated on.

    Args:
        judged: Prompts.
        pool: Where answers come from.
        limit: Tokens a row may hold; an answer that is too long behind its new prompt loses its end.
        seed: Decides the draw.

    Raises:
        BadInput: All prompts are the same.
    """
    draw = random.Random(seed)
    asked = [_prompt(each) for each in pool]
    found = []
    for each in judged:
        prompt, start = _prompt(each), draw.randrange(len(pool))
        places = (place % len(pool) for place in range(start, start + len(pool)))
        other = next((place for place in places if asked[place] != prompt), None)
        if other is None:
            raise BadInput("kto: all answers are to one prompt, and it needs two different ones to estimate z0")
        row = draw.choice(pool[other].ranking.rows)
        answer = row.ids[row.mask.index(True) :][: limit - len(prompt)]
        mask = [False] * len(prompt) + [True] * len(answer)
        found.append(Ranking([Row(prompt + answer, mask)], [1]))
    return found


def _prompt(judged: Judged) -> list[int]:
    row = judged.ranking.rows[0]
    return row.ids[: row.mask.index(True)]
