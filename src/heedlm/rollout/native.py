"""The engine of Heed's own: the usual small decoders, with continuous batching and little overhead."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedlm.config import Config
from heedlm.models.chat import stop_ids
from heedlm.models.load import torch_dtype
from heedlm.ops.types import Rollouts
from heedlm.rollout.decoding import Answers, Decoding
from heedlm.rollout.network import Network
from heedlm.rollout.rows import by_length, rooms, uniforms
from heedlm.rollout.sampling import Sampling
from heedlm.rollout.transformers import TransformersEngine
from heedlm.rollout.weights import read, why_not, window

_log = logging.getLogger(__name__)
_told: set[str] = set()


class Native(Config):
    """Settings of Heed's own engine; what it does not know, the engine `transformers` does."""

    name: Literal["native"] = "native"
    max_batch: int = Field(256, ge=1, description="answers decoded at once; the others wait for a free slot")
    dtype: Literal["auto", "float32", "float64", "bfloat16", "float16"] = Field(
        "auto", description="precision of decoding; auto: the weights' own. Another than theirs changes results"
    )

    def bind(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> NativeEngine | TransformersEngine:
        """An engine that samples from `model` as it is at each call: in-process training needs no `sync`."""
        stop = stop_ids(tokenizer, model)
        reason = why_not(model)
        if reason is not None:
            _tell(reason)
            return TransformersEngine(model, stop, self.max_batch)
        return NativeEngine(model, stop, self.max_batch, self.dtype)


class NativeEngine:
    """Samples answers from a Llama, Mistral, Qwen2, Qwen3 or GPT-2.

    It promises what `TransformersEngine` does and, but for rounding, gives the same answers. It reads the model's
    weights at every call and computes by itself: finished rows leave, waiting prompts take their slots, equal
    prompts are read once, nothing is padded but attention.

    Args:
        model: One of which `weights.why_not` is None. It is only read, whatever mode it is in; dropout is off.
        stop: Ids that end an answer.
        max_batch: Rows decoded at once.
        dtype: "auto" or the name of the precision to decode in.
    """

    def __init__(self, model: PreTrainedModel, stop: frozenset[int], max_batch: int = 256, dtype: str = "auto") -> None:
        self.model, self.stop, self.max_batch, self.dtype = model, stop, max_batch, dtype
        self.window = window(model)

    def sync(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the model; names and shapes must be the model's."""
        self.model.load_state_dict(dict(weights))

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> Rollouts:
        """One answer for each prompt (token ids), in order.

        An answer is cut (`ended` False) at `max_new_tokens`, or where the model's context is full.

        Raises:
            BadInput: A prompt is empty or leaves no room for an answer.
            NotFinite: The model's logits are NaN or infinite.
        """
        room = rooms(self.model, prompts, sampling.max_new_tokens)
        longest = max((len(prompt) + more for prompt, more in zip(prompts, room, strict=True)), default=0)
        if not prompts or self._too_long(longest):
            return TransformersEngine(self.model, self.stop, self.max_batch).generate(prompts, sampling, seed)
        order = by_length(prompts)
        with torch.inference_mode():
            answers = Decoding(
                self._network(longest),
                [prompts[i] for i in order],
                [room[i] for i in order],
                uniforms(len(prompts), sampling.max_new_tokens, seed)[order],
                sampling,
                self.stop,
                self.max_batch,
            ).run()
        return _assemble(prompts, order, answers)

    @torch.inference_mode()
    def tokens(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Iterator[int]:
        """The ids that `generate` gives to this prompt alone, each as soon as it is drawn.

        Raises:
            BadInput: The prompt is empty or leaves no room for an answer.
            NotFinite: The model's logits are NaN or infinite.
        """
        (room,) = rooms(self.model, [prompt], sampling.max_new_tokens)
        longest = len(prompt) + room
        if self._too_long(longest):
            yield from TransformersEngine(self.model, self.stop).tokens(prompt, sampling, seed)
            return
        noise = uniforms(1, sampling.max_new_tokens, seed)
        yield from Decoding(self._network(longest), [prompt], [room], noise, sampling, self.stop, 1).stream()

    def _too_long(self, longest: int) -> bool:
        """Whether rows of `longest` tokens are another engine's; says so once."""
        if self.window is None or longest <= self.window:
            return False
        _tell(f"rows of up to {longest} tokens are longer than its sliding window of {self.window}")
        return True

    def _network(self, longest: int) -> Network:
        own = next(self.model.parameters()).dtype
        return read(self.model, own if self.dtype == "auto" else torch_dtype(self.dtype), longest)


def _tell(reason: str) -> None:
    """Say once why another engine takes over."""
    if reason not in _told:
        _told.add(reason)
        _log.warning("rollouts by the engine `transformers` instead of `native`: %s", reason)


def _assemble(prompts: Sequence[Sequence[int]], order: list[int], answers: Answers) -> Rollouts:
    """Prompts and answers as right-padded rows, in the order that the prompts came in."""
    device = answers.tokens.device
    place = torch.tensor(order, device=device)
    starts = torch.tensor([len(prompt) for prompt in prompts], device=device)
    counts = torch.empty_like(starts)
    counts[place] = answers.counts
    ended = torch.empty_like(starts, dtype=torch.bool)
    ended[place] = answers.ended
    lengths = starts + counts
    width = int(lengths.max())
    rows = [[*prompt, *[0] * (width - len(prompt))] for prompt in prompts]
    tokens = torch.tensor(rows, dtype=torch.long, device=device)
    logps = torch.zeros(tokens.shape, dtype=answers.logps.dtype, device=device)
    row = place[answers.row]
    column = starts[row] + answers.place
    tokens[row, column], logps[row, column] = answers.tokens, answers.logps
    return Rollouts(tokens=tokens, prompt_lengths=starts, lengths=lengths, logps=logps, ended=ended)
