"""The models behind chat: runs and Hugging Face models in this process, endpoints, and one that only repeats.

Only a local model brings torch in, and only when it is loaded.
"""

from __future__ import annotations

import copy
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from heedlm import runs
from heedlm.config import Config, Device
from heedlm.errors import BadInput
from heedlm.records import Message
from heedlm.stages.serve.endpoint import Endpoint
from heedlm.web.services import ChatModel, Cut, LeftOut, Piece

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENDPOINT = re.compile(r"(?P<url>https?://[^\s#@]+)#(?P<model>[^\s]+?)(@(?P<key>[A-Z_][A-Z0-9_]*))?")


class Manner(Config):
    """How models answer in chat."""

    temperature: float = Field(0.7, ge=0, le=5, description="0 takes the likeliest token, 1 the model's distribution")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the likeliest tokens that hold this probability; 1: all")
    max_new_tokens: int = Field(256, ge=1, description="longest answer in tokens")
    timeout: float = Field(60.0, gt=0, description="seconds that an endpoint may be silent")
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = Field(
        "float32", description="precision that local models are loaded in"
    )
    device: Device = "auto"
    threads: int | None = Field(None, ge=1, description="CPU threads; all cores if not given")


def load_all(names: Sequence[str], manner: Manner) -> dict[str, ChatModel]:
    """The models called so, by the names they are shown under.

    Raises:
        BadInput: One cannot be loaded, an endpoint's key is not set, or two would have the same name.
    """
    found: dict[str, ChatModel] = {}
    for name in names:
        shown = shown_name(name)
        if shown in found:
            shown = name.partition("@")[0]
        if shown in found:
            raise BadInput(f"chat: {name!r} is named twice")
        found[shown] = load(name, manner)
    return found


def shown_name(name: str) -> str:
    """The name that people see: of an endpoint its model, of a run its stage and name, else the last part."""
    endpoint = ENDPOINT.fullmatch(name)
    if endpoint is not None:
        return endpoint["model"]
    path = Path(name)
    inside = path.is_dir() and (path / "run.json").is_file()
    return "/".join(path.absolute().parts[-2:]) if inside else path.name


def load(name: str, manner: Manner) -> ChatModel:
    """One model: `echo`, an endpoint `https://host/v1#model@KEY_VARIABLE`, a run, a folder or a name on the hub.

    Raises:
        BadInput: It cannot be loaded, or the endpoint's key is not set.
    """
    if name == "echo":
        return Echo()
    if "://" in name:
        found = ENDPOINT.fullmatch(name)
        if found is None:
            # What was given is not repeated: it may hold a password.
            raise BadInput("chat: an endpoint is written https://HOST/v1#MODEL, with @VARIABLE if it needs a key")
        return Endpoint(found["url"], found["model"], found["key"], manner)
    return _local(name, manner)


class Echo:
    """Repeats the question word by word: for demonstrations and tests."""

    at_once = 8

    def __init__(self, pause: float = 0.02, longest: int = 2000) -> None:
        self.pause, self.longest = pause, longest

    def adjusted(self, **sampling: float) -> Echo:
        """The same with another number of words at most; temperature changes nothing."""
        return Echo(self.pause, int(sampling.get("max_new_tokens", self.longest)))

    def reply(self, messages: Sequence[Message], seed: int) -> Iterator[Piece]:
        """The last question, with a word before it that the seed chooses, so that two answers may differ."""
        start = ("You said:", "I heard:", "Again:")[seed % 3]
        words = re.findall(r"\s*\S+\s*", f"{start} {messages[-1].content}")
        for word in words[: self.longest]:
            threading.Event().wait(self.pause)
            yield word
        if len(words) > self.longest:
            yield Cut()


def _local(name: str, manner: Manner) -> ChatModel:
    path = runs.find_model(name)
    print(f"loading {path}", file=sys.stderr, flush=True)
    from heedlm.models.compute import find_device
    from heedlm.models.load import load_with_tokenizer
    from heedlm.train.loop import use_threads

    use_threads(manner.threads)
    model, tokenizer = load_with_tokenizer(path, device=find_device(manner.device), dtype=manner.dtype)
    return Local(model, tokenizer, manner)


class Local:
    """A model in this process; it writes one answer at a time.

    Args:
        model: A causal model.
        tokenizer: Its tokenizer.
        manner: How it answers.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, manner: Manner) -> None:
        from heedlm.models.chat import Chat, stop_ids
        from heedlm.models.forward import context_limit
        from heedlm.rollout import Native

        self.chat = Chat(tokenizer)
        self.engine, self.stop = Native().bind(model, tokenizer), stop_ids(tokenizer, model)
        self.limit = context_limit(model) or 10**9
        self._sample(manner)

    def _sample(self, manner: Manner) -> None:
        from heedlm.rollout import Sampling

        self.manner = manner
        self.sampling = Sampling(
            temperature=manner.temperature, top_p=manner.top_p, max_new_tokens=manner.max_new_tokens
        )
        # In a short context the answer is cut rather than the question refused.
        self.room = max(self.limit - manner.max_new_tokens, self.limit // 2)

    def adjusted(self, **sampling: float) -> Local:
        """The same weights with another temperature, top_p or max_new_tokens."""
        other = copy.copy(self)
        other._sample(self.manner.model_copy(update=sampling))
        return other

    def reply(self, messages: Sequence[Message], seed: int) -> Iterator[Piece]:
        """An answer token by token; whole oldest turns are left out where the context is too short.

        Raises:
            BadInput: Even the last question does not fit.
        """
        from heedlm.rollout.streaming import stream

        kept = self.chat.truncate(messages, self.room)
        if len(kept) < len(messages):
            yield LeftOut(len(messages) - len(kept))
        ids = yield from stream(self.engine, self.chat, kept, self.sampling, seed)
        if not ids or ids[-1] not in self.stop:
            yield Cut()
