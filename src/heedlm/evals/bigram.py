"""A language model by counting, to check sentence probabilities against: add-k bigrams."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

BOS, EOS = "<bos>", "<eos>"


class Bigram:
    """P(word | previous word) = (count + k) ÷ (previous word's count + k·V), with V the words seen plus EOS.

    Args:
        sentences: Sentences as words, each with how often it occurs.
        k: What is added to every count; above 0, so that nothing is impossible.

    Source: Lidstone smoothing; the worked number N1 of docs/methods.md §10.
    """

    def __init__(self, sentences: Mapping[Sequence[str], int] | Iterable[Sequence[str]], k: float = 0.1) -> None:
        counted = sentences if isinstance(sentences, Mapping) else Counter(tuple(s) for s in sentences)
        self.k = k
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.contexts: Counter[str] = Counter()
        words = {EOS}
        for sentence, times in counted.items():
            chain = [BOS, *sentence, EOS]
            words.update(sentence)
            for previous, word in itertools.pairwise(chain):
                self.pairs[previous, word] += times
                self.contexts[previous] += times
        self.vocabulary = len(words)

    def logp(self, sentence: Sequence[str]) -> float:
        """Log-probability (nats) of a whole sentence, EOS included, by the chain rule."""
        chain = [BOS, *sentence, EOS]
        return sum(self._logp(previous, word) for previous, word in itertools.pairwise(chain))

    def _logp(self, previous: str, word: str) -> float:
        above = self.pairs[previous, word] + self.k
        return math.log(above / (self.contexts[previous] + self.k * self.vocabulary))
