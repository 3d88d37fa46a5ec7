"""Asking a judge in both orders, which takes out its liking for whatever it is shown first (or second)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedlm.errors import NotFinite
from heedlm.judges.asked import Asked, Pair, softmax

if TYPE_CHECKING:
    from heedlm.records import Message
    from heedlm.seams import Judge


@dataclass(frozen=True)
class BothOrders:
    """A judge's word on a and b in both orders, always as P(a better).

    `shown_first` is its word when a came first, `shown_second` when a came second, mapped back to a. Each is
    None where the reply could not be read, and `preference` is then None too.
    """

    shown_first: float | None
    shown_second: float | None
    reason: str = ""

    @property
    def preference(self) -> float | None:
        """Mean of both orders."""
        if self.shown_first is None or self.shown_second is None:
            return None
        return (self.shown_first + self.shown_second) / 2

    @property
    def consistent(self) -> bool | None:
        """Whether both orders prefer the same answer; None where one could not be read."""
        if self.shown_first is None or self.shown_second is None:
            return None
        return (self.shown_first > 0.5) == (self.shown_second > 0.5) and (self.shown_first < 0.5) == (
            self.shown_second < 0.5
        )


def both_orders(judge: Judge, prompt: Sequence[Message], a: str, b: str) -> BothOrders:
    """Ask with a first, then with b first. Source: docs/methods.md §6.1, worked number N16.

    Raises:
        NotFinite: The judge's probability is NaN or outside [0, 1].
    """
    return both_orders_all(judge, [(prompt, a, b)])[0]


def both_orders_all(judge: Judge, pairs: Sequence[Pair], questions: Sequence[str] | None = None) -> list[BothOrders]:
    """`both_orders` of many pairs, asked together where the judge can.

    Args:
        judge: Who is asked.
        pairs: Conversations with two answers each.
        questions: A question for each pair, for judges that are asked in words.

    Raises:
        NotFinite: A probability is NaN or outside [0, 1].
    """
    swapped = [(prompt, b, a) for prompt, a, b in pairs]
    if isinstance(judge, Asked):
        verdicts = judge.compare_all([*pairs, *swapped], None if questions is None else [*questions, *questions])
    else:
        verdicts = [judge.compare(*pair) for pair in [*pairs, *swapped]]
    found = []
    for first, second in zip(verdicts[: len(pairs)], verdicts[len(pairs) :], strict=True):
        one, two = _checked(first.preference, judge.name), _checked(second.preference, judge.name)
        found.append(BothOrders(one, None if two is None else 1 - two, first.reason or second.reason))
    return found


def option_probability(logp_a: float, logp_b: float) -> float:
    """P(A) from the log-probabilities (nats) of two options: softmax over {A, B}. Source: docs/methods.md §6.1."""
    return softmax((logp_a, logp_b))[0]


def clamp(preference: float, low: float = 0.4, high: float = 0.6) -> float:
    """A preference held within [low, high]; labels after reasoning are over-confident (docs/methods.md §6.1)."""
    return min(max(preference, low), high)


def _checked(preference: float | None, name: str) -> float | None:
    if preference is not None and not 0 <= preference <= 1:
        raise NotFinite(f"judge {name!r}: its preference is {preference}, not a probability")
    return preference
