"""Prompts as records in, texts and rollouts out."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from heedlm.models.chat import Chat
from heedlm.models.forward import context_limit
from heedlm.ops.types import Rollouts
from heedlm.records import Prompt, Rows
from heedlm.rollout.sampling import Sampling
from heedlm.seams import RolloutEngine


def answer(
    engine: RolloutEngine, chat: Chat, prompts: Sequence[Prompt], sampling: Sampling, seed: int
) -> tuple[list[str], Rollouts]:
    """One answer for each prompt, in order.

    Args:
        engine: What generates.
        chat: Tokenizer and template of the engine's model.
        prompts: Conversations that end with the user's turn.
        sampling: Temperature, nucleus, length.
        seed: Decides all random choices.
    """
    rollouts = engine.generate([chat.prompt_ids(prompt.messages) for prompt in prompts], sampling, seed)
    return [chat.decode(ids) for ids in rollouts.responses()], rollouts


def fitting(prompts: Rows[Prompt], chat: Chat, model: PreTrainedModel, room: int = 1) -> Rows[Prompt]:
    """The prompts that leave room for `room` more tokens in the model's context; the others are put aside.

    Raises:
        BadInput: None remain, or more are put aside than the file's `max_bad_rows` allows.
    """
    limit = context_limit(model)

    def too_long(prompt: Prompt) -> str | None:
        length = len(chat.prompt_ids(prompt.messages))
        if limit is None or length + room <= limit:
            return None
        return f"{length} tokens, which leave no room for {room} more in the model's context of {limit}: shorten it"

    return prompts.filter(too_long)
