"""The engine for every causal model of transformers: a decode loop of its own over the model's cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedlm.config import Config
from heedlm.models.chat import stop_ids
from heedlm.models.forward import positions_of, takes, tensor_device
from heedlm.ops.sampling import draw
from heedlm.ops.types import Rollouts
from heedlm.rollout.cache import decode_cache
from heedlm.rollout.rows import by_length, rooms, uniforms
from heedlm.rollout.sampling import Sampling

# Finished rows leave the batch once they are this share of it: leaving copies the cache of those that stay.
_LEAVE = 0.25


class Transformers(Config):
    """Settings of the engine that decodes with transformers."""

    name: Literal["transformers"] = "transformers"
    max_batch: int = Field(256, ge=1, description="answers decoded at once; more are decoded in turns")

    def bind(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> TransformersEngine:
        """An engine that samples from `model` as it is at each call: in-process training needs no `sync`."""
        return TransformersEngine(model, stop_ids(tokenizer, model), self.max_batch)


class TransformersEngine:
    """Samples answers from a causal model.

    Prompts are padded on the left, positions are counted from the mask, equal prompts are read once, finished
    rows leave the batch, and the log-probs kept are those of the distribution that was sampled (PITFALLS 2
    and 4). Row i draws from the i-th stream of random numbers of the seed, so neither `max_batch` nor the
    other prompts change its answer, except where rounding does.

    Args:
        model: Any causal model with a key-value cache. It samples in eval mode and keeps the mode it was in.
        stop: Ids that end an answer.
        max_batch: Rows decoded at once.
    """

    def __init__(self, model: PreTrainedModel, stop: frozenset[int], max_batch: int = 256) -> None:
        self.model = model
        self.stop = torch.tensor(sorted(stop), device=tensor_device(model))
        self.max_batch = max_batch

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
        noise = uniforms(len(prompts), sampling.max_new_tokens, seed)
        order = by_length(prompts)
        chunks = [order[i : i + self.max_batch] for i in range(0, len(order), self.max_batch)]
        training = self.model.training
        self.model.train(False)
        try:
            with torch.inference_mode():
                parts = [
                    _Decoding(self.model, self.stop, sampling).run(
                        [prompts[i] for i in rows], [room[i] for i in rows], noise[rows].to(self.stop.device)
                    )
                    for rows in chunks
                ]
        finally:
            self.model.train(training)
        return _assemble(prompts, chunks, parts)

    @torch.inference_mode()
    def tokens(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Iterator[int]:
        """The ids that `generate` gives to this prompt alone, each as soon as it is drawn.

        Raises:
            BadInput: The prompt is empty or leaves no room for an answer.
            NotFinite: The model's logits are NaN or infinite.
        """
        (room,) = rooms(self.model, [prompt], sampling.max_new_tokens)
        noise = uniforms(1, sampling.max_new_tokens, seed).to(self.stop.device)
        training = self.model.training
        self.model.train(False)
        try:
            yield from _Decoding(self.model, self.stop, sampling).stream(prompt, room, noise)
        finally:
            self.model.train(training)


@dataclass
class _Sampled:
    """Answers of one chunk: tokens and log-probs (B, N), of which the first `counts` (B,) are the answer."""

    tokens: Tensor
    logps: Tensor
    counts: Tensor
    ended: Tensor


class _Decoding:
    """One pass over one chunk of prompts."""

    def __init__(self, model: PreTrainedModel, stop: Tensor, sampling: Sampling) -> None:
        self.model, self.stop, self.sampling = model, stop, sampling
        self.takes_positions = takes(model, "position_ids")

    def run(self, prompts: list[Sequence[int]], rooms: list[int], noise: Tensor) -> _Sampled:
        """Decode until every row has ended or used up its room."""
        device, size, most, sampling = self.stop.device, len(prompts), max(rooms), self.sampling
        logits, width = self._read(prompts, most)
        room = torch.tensor(rooms, device=device)
        out = _Sampled(
            tokens=torch.zeros((size, most), dtype=torch.long, device=device),
            logps=torch.zeros((size, most), dtype=torch.float32, device=device),
            counts=room.clone(),
            ended=torch.zeros(size, dtype=torch.bool, device=device),
        )
        rows = torch.arange(size, device=device)
        going = torch.ones(size, dtype=torch.bool, device=device)
        for step in range(most):
            tokens, logps = draw(logits, noise[:, step], sampling.temperature, sampling.top_k, sampling.top_p)
            out.logps = out.logps.to(logps.dtype)
            out.tokens[rows, step], out.logps[rows, step] = tokens, logps
            stopped = (tokens[:, None] == self.stop).any(1) & going
            done = stopped | (going & (room <= step + 1))
            if bool(done.any()):
                out.ended[rows[stopped]] = True
                out.counts[rows[done]] = step + 1
                going &= ~done
                left = int(going.sum())
                if left == 0:
                    break
                if left <= (1 - _LEAVE) * len(rows):
                    stay = going.nonzero().squeeze(1)
                    rows, room, noise, tokens, going = (x[stay] for x in (rows, room, noise, tokens, going))
                    self._keep(stay)
            logits = self._step(tokens, width + step + 1)
        return out

    def stream(self, prompt: Sequence[int], room: int, noise: Tensor) -> Iterator[int]:
        """The tokens of one answer, each as soon as it is drawn."""
        sampling, stop = self.sampling, set(self.stop.tolist())
        logits, width = self._read([prompt], room)
        for step in range(room):
            tokens, _ = draw(logits, noise[:, step], sampling.temperature, sampling.top_k, sampling.top_p)
            token = int(tokens)
            yield token
            if token in stop or step + 1 == room:
                return
            logits = self._step(tokens, width + step + 1)

    def _read(self, prompts: list[Sequence[int]], most: int) -> tuple[Tensor, int]:
        """Logits of the first answer token (B, V) and the prompts' width; equal prompts are read once."""
        different = list(dict.fromkeys(map(tuple, prompts)))
        width = max(map(len, different))
        device = self.stop.device
        tokens = torch.tensor([[0] * (width - len(p)) + list(p) for p in different], device=device)
        lengths = torch.tensor([len(p) for p in different], device=device)
        mask = torch.arange(width, device=device)[None, :] >= width - lengths[:, None]
        self.cache, plain = decode_cache(self.model.config, width + most)
        extra: dict[str, Any] = {}
        self.keys: Tensor | None = None
        if not bool(mask.all()):
            extra["attention_mask"] = mask.long()
            self.keys = torch.cat([mask, mask.new_ones((len(different), most))], dim=1)
        if self.takes_positions:
            extra["position_ids"] = positions_of(mask)
        if takes(self.model, "logits_to_keep"):
            extra["logits_to_keep"] = 1
        logits = self.model(input_ids=tokens, past_key_values=self.cache, use_cache=True, **extra).logits[:, -1]
        self.ready_mask = plain and _takes_ready_mask(self.model)
        self.position = lengths[:, None]
        if len(different) < len(prompts):
            place = {prompt: i for i, prompt in enumerate(different)}
            index = torch.tensor([place[tuple(p)] for p in prompts], device=device)
            self._keep(index)
            logits = logits[index]
        return logits, width

    def _step(self, tokens: Tensor, length: int) -> Tensor:
        """Logits after one more token (B,), which makes rows of `length` tokens, padding included."""
        extra: dict[str, Any] = {}
        if self.keys is not None:
            keys = self.keys[:, :length]
            extra["attention_mask"] = keys[:, None, None, :] if self.ready_mask else keys.long()
        if self.takes_positions:
            extra["position_ids"] = self.position
        out = self.model(input_ids=tokens[:, None], past_key_values=self.cache, use_cache=True, **extra)
        self.position = self.position + 1
        logits: Tensor = out.logits[:, -1]
        return logits

    def _keep(self, index: Tensor) -> None:
        """Go on with these rows only, in this order."""
        self.cache.batch_select_indices(index)
        self.position = self.position[index]
        if self.keys is not None:
            self.keys = self.keys[index]


def _takes_ready_mask(model: PreTrainedModel) -> bool:
    """Whether a boolean (B, 1, 1, T) mask can be passed at each step, so that transformers builds none."""
    config = model.config.get_text_config()
    rotary = getattr(config, "rope_parameters", None) is not None
    return model.config._attn_implementation == "sdpa" and (rotary or config.model_type == "gpt2")


def _assemble(prompts: Sequence[Sequence[int]], chunks: list[list[int]], parts: list[_Sampled]) -> Rollouts:
    """Prompts and answers as right-padded rows, in the order that the prompts came in."""
    answers: dict[int, tuple[Tensor, Tensor, bool]] = {}
    for rows, part in zip(chunks, parts, strict=True):
        tokens, logps = part.tokens.cpu(), part.logps.cpu()
        ended, counts = part.ended.tolist(), part.counts.tolist()
        for place, row in enumerate(rows):
            answers[row] = (tokens[place, : counts[place]], logps[place, : counts[place]], ended[place])
    starts = [len(prompt) for prompt in prompts]
    ends = [start + len(answers[i][0]) for i, start in enumerate(starts)]
    width = max(ends, default=0)
    dtype = parts[0].logps.dtype if parts else torch.float32
    all_tokens = torch.zeros((len(prompts), width), dtype=torch.long)
    all_logps = torch.zeros((len(prompts), width), dtype=dtype)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        all_tokens[i, :start] = torch.tensor(list(prompts[i]), dtype=torch.long)
        all_tokens[i, start:end], all_logps[i, start:end] = answers[i][0], answers[i][1]
    rollouts = Rollouts(
        tokens=all_tokens,
        prompt_lengths=torch.tensor(starts, dtype=torch.long),
        lengths=torch.tensor(ends, dtype=torch.long),
        logps=all_logps,
        ended=torch.tensor([answers[i][2] for i in range(len(prompts))], dtype=torch.bool),
    )
    return rollouts if not parts else rollouts.to(parts[0].tokens.device)
