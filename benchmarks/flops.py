"""Floating-point operations of a decoder, counted exactly from row lengths: the bound beside every figure.

A multiplication and an addition count as two. Matrix products and attention are counted; norms, rotations, softmax,
sampling and the optimiser are not, so that a bound is never lower than the truth. With

    N = layers · (2·D·H·d + 2·D·Hkv·d + 3·D·F)     weights outside embedding and head (width D, H heads of d, F hidden)

    forward  = 2·N a token + 2·D·V a token whose logits are needed + 4·H·d·layers for each (query, key) pair
    training = 3 · forward

a row of T tokens has T·(T+1)/2 pairs of a query and a key that it may look at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """The shape of a Llama-like decoder."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    hidden: int
    vocabulary: int

    @staticmethod
    def of(config: Any) -> Decoder:
        """The shape in a configuration of transformers."""
        return Decoder(
            width=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            hidden=config.intermediate_size,
            vocabulary=config.vocab_size,
        )

    @property
    def weights(self) -> int:
        """Weights of the layers' matrices: without embedding, head and norms."""
        attention = 2 * self.width * self.heads * self.head + 2 * self.width * self.kv_heads * self.head
        return self.layers * (attention + 3 * self.width * self.hidden)

    def forward(self, tokens: int, pairs: int, logits: int) -> int:
        """Operations of a forward pass over `tokens`, with so many attention pairs and rows of logits."""
        attention = 4 * self.heads * self.head * self.layers * pairs
        return 2 * self.weights * tokens + attention + 2 * self.width * self.vocabulary * logits

    def rows(self, lengths: Iterable[int], logits: int) -> int:
        """Forward pass over rows that do not look at each other."""
        lengths = list(lengths)
        return self.forward(sum(lengths), sum(map(causal, lengths)), logits)

    def shared(self, prompt: int, answers: Iterable[int], logits: int) -> int:
        """Forward pass over the answers of one prompt, the prompt computed once."""
        answers = list(answers)
        pairs = causal(prompt) + sum(prompt * n + causal(n) for n in answers)
        return self.forward(prompt + sum(answers), pairs, logits)

    def decoding(self, prompts: Iterable[int], answers: Iterable[int]) -> int:
        """Reading each prompt and sampling its answer: the last token of an answer is never read."""
        total = 0
        for prompt, answer in zip(prompts, answers, strict=True):
            read = prompt + answer - 1
            total += self.forward(read, causal(read), answer)
        return total

    def rl_step(self, prompts: Iterable[int], answers: Iterable[int], *, critic: bool) -> int:
        """Sampling, reference, reward model, and an update of the policy (and of the critic, with its values).

        Log-probs under the policy come with sampling. Every answer counts as a row of its own: sharing the prompt
        of K answers can go below this.
        """
        prompts, answers = list(prompts), list(answers)
        rows = [p + a for p, a in zip(prompts, answers, strict=True)]
        states, logits = self.rows(rows, 0), self.rows(rows, sum(answers))
        total = self.decoding(prompts, answers) + logits + states + training(logits)
        return total + (states + training(states) if critic else 0)


def causal(length: int) -> int:
    """Pairs of a query and a key at or before it in a row of `length` tokens."""
    return length * (length + 1) // 2


def training(forward: int) -> int:
    """Forward and backward pass: the backward pass has two products for each one of the forward pass."""
    return 3 * forward
