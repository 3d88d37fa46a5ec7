"""Scoring: how likely a model finds a text, and how good a reward model finds an answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import Config as Settings
from heedlm.config import Device
from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.models.compute import find_device
from heedlm.models.forward import context_limit, logits, tensor_device
from heedlm.models.load import load_config, load_reward, load_with_tokenizer
from heedlm.models.tokenizer import load_tokenizer
from heedlm.ops.logprobs import token_logps
from heedlm.records import Document, Message, Prompt, read
from heedlm.rewards import Ensemble, Episodes, Learned, ProcessReward
from heedlm.seams import Scorer
from heedlm.train.batching import Row
from heedlm.train.loop import use_threads
from heedlm.train.ranking import as_rollouts
from heedlm.train.steps import reads_steps

Scored = dict[str, float | int | str]


class Config(Settings):
    """Settings of scoring: a language model scores texts, a reward model scores the answer to a prompt."""

    positional: ClassVar[str | None] = "model"

    model: str = Field(
        description="a language model or a reward model: a run or a folder; several reward models with commas between"
    )
    text: tuple[str, ...] = Field((), description="texts to score")
    data: str | None = Field(None, description="file of texts to score")
    prompt: str | None = Field(None, description="with a reward model: the prompt that the texts answer")
    device: Device = "auto"
    threads: PositiveInt | None = Field(None, description="CPU threads; all cores if not given")


def run(config: Config) -> dict[str, Any]:
    """Score and return one row a text; nothing is written.

    A language model gives the log-probability of the whole text, BOS given and EOS included, in nats; the mean a
    token; and the perplexity exp(−mean). A reward model gives a reward, several their
    mean, with each one's and their deviation. A process reward model gives the product of its steps' P(right), with
    how many steps there are and the least of them.
    """
    use_threads(config.threads)
    device = find_device(config.device)
    texts = list(config.text)
    if config.data is not None:
        texts += [document.text for document in read(runs.find_data(config.data, "corpus"), Document).rows]
    if not texts:
        raise BadInput("nothing to score: give text='…' or data=FILE")
    folders = [runs.find_model(path.strip()) for path in config.model.split(",")]
    folder = folders[0]
    architectures = load_config(folder).architectures or [""]
    is_reward = architectures[0].endswith("ForSequenceClassification")
    if is_reward and config.prompt is None:
        raise BadInput(f"{config.model} is a reward model: give the prompt='…' that the texts answer")
    if config.prompt is not None and not is_reward:
        raise BadInput(f"{config.model} is a language model and scores texts alone: leave out prompt=")
    if config.prompt is not None:
        rows = _rewards(folders, device, config.prompt, texts)
    else:
        rows = _likelihoods(folder, device, texts)
    return {"scores": rows, "text": "\n".join(_line(row) for row in rows)}


def _line(row: Mapping[str, float | int | str]) -> str:
    if "reward" in row:
        return f"reward {row['reward']:8.3f}  {row['text']}"
    return f"log-prob {row['logp']:10.3f}  perplexity {row['perplexity']:8.3f}  {row['text']}"


@torch.no_grad()
def _likelihoods(folder: Path, device: torch.device, texts: list[str]) -> list[Scored]:
    model, tokenizer = load_with_tokenizer(folder, device=device)
    chat, limit = Chat(tokenizer), context_limit(model)
    rows: list[Scored] = []
    for number, text in enumerate(texts):
        ids = chat.document_ids(text)
        if limit is not None and len(ids) > limit:
            raise BadInput(f"text {number + 1}: {len(ids)} tokens, more than the model's context of {limit}; split it")
        tokens = torch.tensor([ids], device=tensor_device(model))
        logps = token_logps(logits(model, tokens), tokens)[0, 1:].double()
        mean = float(logps.mean()) if len(logps) else 0.0
        perplexity = float(torch.tensor(-mean).exp())
        rows.append(
            {
                "text": text,
                "logp": float(logps.sum()),
                "tokens": len(logps),
                "per_token": mean,
                "perplexity": perplexity,
            }
        )
    return rows


def _rewards(folders: list[Path], device: torch.device, prompt: str, texts: list[str]) -> list[Scored]:
    chat = Chat(load_tokenizer(folders[0]))
    source: Scorer
    if len(folders) > 1:
        source = Ensemble(paths=tuple(map(str, folders))).open(chat, device)
    elif reads_steps(load_reward(folders[0])):
        source = ProcessReward(path=str(folders[0])).open(chat, device)
    else:
        source = Learned(path=str(folders[0])).open(chat, device)
    asked = Prompt(messages=(Message(role="user", content=prompt),))
    head = chat.prompt_ids(asked.messages)
    answers = [chat.response_ids(text) for text in texts]
    given = [Row(head + ids, [False] * len(head) + [True] * len(ids)) for ids in answers]
    found = source.score(Episodes([asked] * len(texts), texts, as_rollouts(given).to(device)))
    rows: list[Scored] = []
    for place, text in enumerate(texts):
        row: Scored = {"text": text, "reward": float(found.total[place]), "tokens": len(given[place])}
        rows.append(row | {name: float(part[place]) for name, part in found.parts.items()})
    return rows
