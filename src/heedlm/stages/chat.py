"""Chat with a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.models.compute import find_device
from heedlm.models.forward import context_limit
from heedlm.models.load import load_with_tokenizer
from heedlm.records import Message, Prompt
from heedlm.report.graph import printable
from heedlm.rollout import Engine, Native, Sampling
from heedlm.rollout.answering import answer
from heedlm.runs import Input, Run
from heedlm.train.loop import use_threads

HELP = "/new starts over, /again answers once more, /quit leaves"


class Config(StageConfig):
    """Settings of a chat."""

    positional: ClassVar[str | None] = "model"

    model: str = Field(description="model to talk to: a run or a Hugging Face folder")
    system: str | None = Field(None, description="instruction that stands before the conversation")
    sampling: Sampling = Field(Sampling(temperature=0.7, max_new_tokens=128), description="how answers are sampled")
    engine: Engine = Field(Native(), description="what generates")
    device: Device = "auto"


def run(config: Config, resume: Path | None = None) -> Run:
    """Talk until the input ends; the conversation is kept in the run's samples."""
    use_threads(config.threads)
    device = find_device(config.device)
    model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    named = config.model_copy(update={"name": config.name or runs.unused_name(config.out, "chat", "chat")})
    this = Run.resume(resume) if resume else Run.create("chat", named, [Input("model", config.model)])
    with this:
        conversation = Conversation(config, model, Chat(tokenizer))
        print(f"{this.name}: {HELP}", file=sys.stderr)
        for line in _lines():
            turns = len(conversation.kept)
            said = conversation.hear(line)
            if said is None:
                break
            if said:
                # Escape sequences of a model must not reach the terminal.
                print("\n".join(printable(part) for part in said.split("\n")), flush=True)
            # Turn by turn, so that Ctrl-C loses nothing.
            this.samples(0, conversation.kept[turns:])
        this.note(turns=len(conversation.kept))
    return this


class Conversation:
    """Turns so far and the model that answers them."""

    def __init__(self, config: Config, model: PreTrainedModel, chat: Chat) -> None:
        self.config, self.chat = config, chat
        self.engine = config.engine.bind(model, chat.tokenizer)
        limit = context_limit(model) or 10**9
        # In a short context the answer is cut rather than the question refused.
        self.room = max(limit - config.sampling.max_new_tokens, limit // 2)
        self.kept: list[dict[str, str]] = []
        self.count = 0
        self._start()

    def _start(self) -> None:
        system = self.config.system
        self.messages = [Message(role="system", content=system)] if system else []

    def hear(self, line: str) -> str | None:
        """What to print for a line the user typed; None to leave."""
        line = line.strip()
        if line in ("/quit", "/exit"):
            return None
        if line == "/new":
            self._start()
            return "(a new conversation)"
        if line in ("/help", "/?"):
            return HELP
        if line == "/again":
            if not self.messages or self.messages[-1].role != "assistant":
                return "(nothing to answer again)"
            self.messages.pop()
        elif not line:
            return ""
        elif line.startswith("/"):
            return f"(unknown command {line.split()[0]}; {HELP})"
        else:
            self.messages.append(Message(role="user", content=line))
        return self._answer()

    def _answer(self) -> str:
        try:
            # Whole oldest turns leave when the context is full; the last question always stays.
            prompt = Prompt(messages=tuple(self.chat.truncate(self.messages, self.room)))
        except BadInput as error:
            self.messages.pop()
            return f"({error})"
        self.count += 1
        texts, _ = answer(self.engine, self.chat, [prompt], self.config.sampling, self.config.seed + self.count)
        self.kept.append({"prompt": prompt.messages[-1].content, "answer": texts[0]})
        self.messages.append(Message(role="assistant", content=texts[0]))
        return texts[0]


def _lines() -> Iterable[str]:
    """Lines from the keyboard with a prompt, or from a pipe without."""
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
