"""An engine that says what it was told to: for tests, and for trying a pipeline without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedlm.config import Config
from heedlm.models.chat import Chat
from heedlm.ops.types import Rollouts
from heedlm.rollout.sampling import Sampling


class Scripted(Config):
    """Settings of the scripted engine: prompt i is answered by answer i, starting over after the last."""

    name: Literal["scripted"] = "scripted"
    answers: tuple[str, ...] = Field(("ok",), min_length=1, description="the answers, in the order of the prompts")
    logp: float = Field(-1.0, le=0, description="log-probability (nats) that is reported for every token")

    def bind(self, model: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase) -> ScriptedEngine:
        """An engine that gives these answers in the tokenizer's ids; the model is not used."""
        chat = Chat(tokenizer)
        return ScriptedEngine([chat.response_ids(text) for text in self.answers], self.logp)


class ScriptedEngine:
    """Gives fixed answers, cut like any other at `max_new_tokens`. Seed and temperature change nothing.

    Args:
        answers: Token ids of each answer, EOS included.
        logp: Log-probability (nats) of every token.
    """

    def __init__(self, answers: Sequence[Sequence[int]], logp: float = -1.0) -> None:
        self.answers = [list(answer) for answer in answers]
        self.logp = logp
        self.synced = 0

    def sync(self, weights: Mapping[str, Tensor]) -> None:
        """Count the call; there are no weights."""
        self.synced += 1

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> Rollouts:
        """The scripted answer for each prompt (token ids), in order."""
        full = [self.answers[i % len(self.answers)] for i in range(len(prompts))]
        given = [answer[: sampling.max_new_tokens] for answer in full]
        lengths = torch.tensor([len(p) + len(a) for p, a in zip(prompts, given, strict=True)], dtype=torch.long)
        starts = torch.tensor([len(p) for p in prompts], dtype=torch.long)
        width = int(lengths.max()) if len(prompts) else 0
        rows = [[*p, *a] + [0] * (width - len(p) - len(a)) for p, a in zip(prompts, given, strict=True)]
        place = torch.arange(width)[None, :]
        answer = (place >= starts[:, None]) & (place < lengths[:, None])
        return Rollouts(
            tokens=torch.tensor(rows, dtype=torch.long).view(len(prompts), width),
            prompt_lengths=starts,
            lengths=lengths,
            logps=torch.where(answer, self.logp, 0.0),
            ended=torch.tensor([len(a) == len(f) for a, f in zip(given, full, strict=True)], dtype=torch.bool),
        )
