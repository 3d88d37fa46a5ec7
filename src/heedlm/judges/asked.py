"""What all judges have in common that are asked in words: their questions, whoever answers them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from heedlm.config import Config
from heedlm.judges import frames
from heedlm.seams import Verdict

if TYPE_CHECKING:
    from heedlm.judges.constitution import Case
    from heedlm.records import Message

Pair = tuple["Sequence[Message]", str, str]  # a conversation and two answers to it
_GRADING_TEMPERATURE = 0.7  # several judgements of one answer must be able to differ
_QUALITY = "How good is this answer: how helpful, how honest and how harmless?"


class Choice(NamedTuple):
    """Probabilities of the options, in their order, or None where the reply could not be read; and why."""

    probabilities: tuple[float, ...] | None
    reason: str = ""


class Asked(Config):
    """A model that judges, rates, grades and reviews in words. Members say how it chooses and how it writes."""

    criterion: Literal["overall", "helpful", "honest", "harmless"] = Field(
        "overall", description="what the judge is asked about"
    )
    question: str | None = Field(None, description="a question of your own in place of the criterion's")
    reasoning: bool = Field(
        False, description="let the judge write down what speaks for each answer before it compares them"
    )

    def choose(self, questions: Sequence[str], options: Sequence[str]) -> list[Choice]:
        """How likely each option is as the reply to each question."""
        raise TypeError(f"{type(self).__name__} does not say how it chooses")

    def write(
        self, questions: Sequence[str], *, tokens: int, temperature: float, seed: int, whole: bool = False
    ) -> list[str | None]:
        """A reply of at most so many tokens to each question; None where there was none.

        With `whole`, also None where it was not at its end by then.
        """
        raise TypeError(f"{type(self).__name__} does not say how it writes")

    def prepare(self, questions: Sequence[str], tokens: int) -> None:
        """Told before questions are asked for replies of at most `tokens`; a judge that costs money says how much."""

    def prepare_ratings(self, prompts: Sequence[Sequence[Message]], count: int, tokens: int) -> None:
        """Told before `count` answers of at most so many tokens to such prompts are rated; see `prepare`."""
        asked = [frames.rating(prompt, "word" * tokens, self.question or _QUALITY) for prompt in prompts]
        self.prepare([asked[place % len(asked)] for place in range(count)], frames.SHORT)

    def prepare_comparisons(self, prompts: Sequence[Sequence[Message]], count: int, tokens: int) -> None:
        """Told before so many pairs of answers are compared in both orders; see `prepare_ratings`."""
        asked = [self.ask(prompt, "word" * tokens, "word" * tokens) for prompt in prompts]
        # With reasoning each is asked twice, and the first reply is long.
        times, most = (4, frames.LONG) if self.reasoning else (2, frames.SHORT)
        self.prepare([asked[place % len(asked)] for place in range(count * times)], most)

    def usage(self) -> dict[str, float]:
        """What was asked so far and what it cost, for a judge that keeps count."""
        return {}

    def ask(self, prompt: Sequence[Message], a: str, b: str) -> str:
        """The question that compares two answers, a shown first."""
        return frames.comparison(prompt, a, b, self.question or frames.CRITERIA[self.criterion])

    def compare(self, prompt: Sequence[Message], a: str, b: str) -> Verdict:
        """Which answer is better, a shown first.

        Raises:
            BadInput: The judge cannot be reached or loaded.
        """
        return self.compare_all([(prompt, a, b)])[0]

    def compare_all(self, pairs: Sequence[Pair], questions: Sequence[str] | None = None) -> list[Verdict]:
        """Which answer of each pair is better, the first shown first; with a question of each pair's own, if given."""
        if questions is None:
            questions = [self.question or frames.CRITERIA[self.criterion]] * len(pairs)
        asked = [frames.comparison(*pair, question) for pair, question in zip(pairs, questions, strict=True)]
        if self.reasoning:
            thought = [frames.reasons(*pair, question) for pair, question in zip(pairs, questions, strict=True)]
            notes = self.write(thought, tokens=frames.LONG, temperature=0.0, seed=0)
            rows = zip(pairs, questions, notes, asked, strict=True)
            asked = [
                frames.comparison(*pair, question, note) if note else plain for pair, question, note, plain in rows
            ]
        choices = self.choose(asked, frames.LETTERS)
        return [Verdict(None if choice[0] is None else choice[0][0], choice.reason) for choice in choices]

    def rate_all(self, cases: Sequence[tuple[Sequence[Message], str]]) -> list[float | None]:
        """The expected score of each answer, Σ i·P(i) over 1 … 10. Source: Lee et al. 2023 (direct RLAIF)."""
        asked = [frames.rating(prompt, answer, self.question or _QUALITY) for prompt, answer in cases]
        return [expected_score(choice.probabilities) for choice in self.choose(asked, frames.SCALE)]

    def grade(self, cases: Sequence[Case], seed: int = 0) -> list[float | None]:
        """Points from 0 to 5 by the additive rubric; another seed is another judgement. Source: Yuan et al. 2024."""
        asked = [frames.rubric(case.prompt.messages, case.answer) for case in cases]
        return [
            None if reply is None else frames.read_points(reply)
            for reply in self.write(asked, tokens=frames.LONG, temperature=_GRADING_TEMPERATURE, seed=seed)
        ]

    def critique(self, cases: Sequence[Case], seed: int = 0) -> list[str | None]:
        """What is wrong with each answer under its principle; None where the reply could not be read."""
        asked = [frames.critique(case.prompt.messages, case.answer, case.request("critique")) for case in cases]
        replies = self.write(asked, tokens=frames.LONG, temperature=_GRADING_TEMPERATURE, seed=seed)
        return [None if reply is None else frames.read_text(reply, "CRITIQUE") for reply in replies]

    def revise(self, cases: Sequence[Case], critiques: Sequence[str], seed: int = 0) -> list[str | None]:
        """A better answer in the light of each critique; None where the reply could not be read, or was cut.

        A revision is learned from: one without its end would teach the end in the wrong place.
        """
        asked = [
            frames.revision(case.prompt.messages, case.answer, found, case.request("revision"))
            for case, found in zip(cases, critiques, strict=True)
        ]
        replies = self.write(asked, tokens=frames.WHOLE, temperature=_GRADING_TEMPERATURE, seed=seed, whole=True)
        return [None if reply is None else frames.read_text(reply, "REVISION") for reply in replies]


class Tally:
    """What a judge used for one run: not what others asked it in this process, but what was used before a resumption.

    Args:
        who: The judge; others than `Asked` keep no count.
        earlier: What the run had used when it stopped.
    """

    def __init__(self, who: object, earlier: Mapping[str, float]) -> None:
        self.who = who if isinstance(who, Asked) else None
        self.earlier, self.start = earlier, self._now()

    def so_far(self) -> dict[str, dict[str, float]]:
        """`{"usage": counts}`, those of 0 left out; nothing for a judge that keeps no count."""
        if self.who is None:
            return {}
        now = self._now()
        counts = {name: now.get(name, 0) - self.start.get(name, 0) + self.earlier.get(name, 0) for name in
                  [*now, *(name for name in self.earlier if name not in now)]}  # fmt: skip
        return {"usage": {name: count for name, count in counts.items() if count or name == "cost"}}

    def _now(self) -> dict[str, float]:
        return {} if self.who is None else self.who.usage()


def softmax(logps: Sequence[float]) -> tuple[float, ...]:
    """Probabilities in proportion to exp of log-probabilities (nats)."""
    top = max(logps)
    raised = [math.exp(logp - top) for logp in logps]
    return tuple(value / sum(raised) for value in raised)


def expected_score(probabilities: Sequence[float] | None) -> float | None:
    """Σ i·P(i) of the probabilities of the scores 1, 2, …; None stays None."""
    return None if probabilities is None else sum(i * p for i, p in enumerate(probabilities, start=1))


def centred(score: float) -> float:
    """A score of 1 … 10 as a reward in [−1, 1]: (s − 5.5)/4.5. Source: docs/methods.md §6.1, worked number N16."""
    return (score - 5.5) / 4.5
