"""A judge that is a local causal model: how likely it finds the options as replies to a question."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, PositiveInt

from heedlm.config import Device
from heedlm.judges.asked import Asked, Choice, softmax


class Local(Asked):
    """P(option) = softmax over the model's log-probabilities of the options as replies (docs/methods.md §6.1).

    To choose, no text is generated, so every verdict can be read; a question too long for the model's context gets
    none. The end of the reply counts where one option begins another, as "1" does "10".
    """

    name: Literal["local"] = "local"
    path: str = Field(description="the judging model: a run, a folder in Hugging Face layout, or a hub name")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the weights")
    device: Device = "auto"
    budget: PositiveInt = Field(4096, description="tokens a forward pass may hold")

    def choose(self, questions: Sequence[str], options: Sequence[str]) -> list[Choice]:
        """How likely each option is as the reply to each question.

        Raises:
            BadInput: The model cannot be found or loaded.
        """
        from heedlm.models.forward import context_limit
        from heedlm.train.batching import microbatches

        model, chat = _open(self.path, self.dtype, self.device)
        fronts = [_front(chat, question) for question in questions]
        closed = [chat.response_ids(option) for option in options]
        bare = [ids[:-1] for ids in closed]
        nested = any(a[: len(b)] == b for i, a in enumerate(bare) for j, b in enumerate(bare) if i != j)
        replies = closed if nested else bare
        room, limit = max(map(len, replies)), context_limit(model)
        fits = [i for i, front in enumerate(fronts) if limit is None or len(front) + room <= limit]
        sizes = [len(fronts[i]) + sum(map(len, replies)) for i in fits]
        found = [
            Choice(None, f"the question has {len(front) + room} tokens, the judge's context holds {limit}")
            for front in fronts
        ]
        for part in microbatches(sizes, self.budget):
            places = [fits[k] for k in part]
            for place, sums in zip(places, _reply_logps(model, [fronts[i] for i in places], replies), strict=True):
                told = ", ".join(f"log P({o}) {s:.3f}" for o, s in zip(options, sums, strict=True))
                found[place] = Choice(softmax(sums), told)
        return found

    def write(
        self, questions: Sequence[str], *, tokens: int, temperature: float, seed: int, whole: bool = False
    ) -> list[str | None]:
        """A reply to each question; None where the question leaves no room for `tokens`; see `Asked.write`."""
        from heedlm.models.forward import context_limit
        from heedlm.rollout import Native, Sampling

        model, chat = _open(self.path, self.dtype, self.device)
        fronts, limit = [_front(chat, question) for question in questions], context_limit(model)
        places = [i for i, front in enumerate(fronts) if limit is None or len(front) + tokens <= limit]
        found: list[str | None] = [None] * len(fronts)
        if places:
            sampling = Sampling(temperature=temperature, max_new_tokens=tokens)
            engine = Native().bind(model, chat.tokenizer)
            rollouts = engine.generate([fronts[i] for i in places], sampling, seed)
            for place, ids, ended in zip(places, rollouts.responses(), rollouts.ended.tolist(), strict=True):
                found[place] = chat.decode(ids) if ended or not whole else None
        return found


def _front(chat: Any, question: str) -> list[int]:
    from heedlm.records import Message

    return list(chat.prompt_ids([Message(role="user", content=question)]))


def _reply_logps(model: Any, fronts: Sequence[list[int]], replies: Sequence[list[int]]) -> list[list[float]]:
    """Summed log-probability (nats) of each reply to each front; a front's states are computed once."""
    import torch

    from heedlm.models.forward import sequence_logps, tensor_device
    from heedlm.models.packed import pack_sequences

    rows = [reply for _ in fronts for reply in replies]
    packed = pack_sequences(rows, [front for front in fronts for _ in replies], tensor_device(model))
    with torch.inference_mode():
        logps = sequence_logps(model, packed, packed.own)
    sums = [float(part.sum()) for part in torch.split(logps, [len(row) for row in rows])]
    return [sums[at : at + len(replies)] for at in range(0, len(sums), len(replies))]


@lru_cache(maxsize=2)
def _open(path: str, dtype: str, device: str) -> tuple[Any, Any]:
    """The model and its chat rendering, loaded once for all questions."""
    from heedlm.models import Chat, load_with_tokenizer
    from heedlm.runs import find_model

    model, tokenizer = load_with_tokenizer(find_model(path), dtype=dtype, device=device)
    return model, Chat(tokenizer)
