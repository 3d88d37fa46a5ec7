"""Prompts as records in, texts and rollouts out."""

from __future__ import annotations

from collections.abc import Sequence

from heedlm.models.chat import Chat
from heedlm.ops.types import Rollouts
from heedlm.records import Prompt
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
