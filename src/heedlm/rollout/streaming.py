"""One answer, token by token, for people who read along."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

from heedlm.models.chat import Chat
from heedlm.records import Message
from heedlm.rollout.sampling import Sampling


class Streaming(Protocol):
    """An engine that gives away each token when it is drawn."""

    def tokens(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Iterator[int]:
        """The ids of one answer, those that end it included; the same that `generate` gives."""
        ...


def stream(
    engine: Streaming, chat: Chat, messages: Sequence[Message], sampling: Sampling, seed: int
) -> Generator[str, None, list[int]]:
    """The text of an answer as it grows, and at the end its ids; a piece is empty while a character is not whole yet.

    The pieces together are what `answering.answer` gives for the same seed.

    Args:
        engine: What generates.
        chat: Tokenizer and template of the engine's model.
        messages: A conversation that ends with the user's turn.
        sampling: Temperature, nucleus, length.
        seed: Decides all random choices.

    Raises:
        BadInput: The prompt leaves no room for an answer.
        NotFinite: The model's logits are NaN or infinite.
    """
    ids: list[int] = []
    said = ""
    for token in engine.tokens(chat.prompt_ids(messages), sampling, seed):
        ids.append(token)
        text = chat.decode(ids)
        # A tokenizer may yet change what a torn character, or a space, at the end becomes.
        whole = text if text.startswith(said) and not text.endswith("\ufffd") else said
        yield whole[len(said) :]
        said = whole
    text = chat.decode(ids)
    if text.startswith(said):
        yield text[len(said) :]
    return ids
