"""Scoring: how likely a model finds a text, and how good a reward model finds an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from heedlm.progress import progress
from heedlm.records import Answers, Document, Message, Prompt, read
from heedlm.records.writing import whole_file
from heedlm.rewards import Ensemble, Episodes, Learned, ProcessReward
from heedlm.seams import Scorer
from heedlm.train.batching import Row
from heedlm.train.loop import use_threads
from heedlm.train.ranking import as_rollouts
from heedlm.train.steps import reads_steps

Scored = dict[str, float | int | str]
_AT_ONCE = 256  # answers laid side by side


class Config(Settings):
    """Settings of scoring: a language model scores texts, a reward model scores the answer to a prompt."""

    positional: ClassVar[str | None] = "model"

    model: str = Field(
        description="a language model or a reward model: a run or a folder; several reward models with commas between"
    )
    text: tuple[str, ...] = Field((), description="texts to score")
    data: str | None = Field(None, description="file of texts to score")
    prompt: str | None = Field(None, description="with a reward model: the prompt that the texts answer")
    answers: str | None = Field(
        None,
        description="with a reward model: answers to score, such as the answers.jsonl of a project's page, or a run",
    )
    to: Path | None = Field(None, description="file for the scores of answers=, a line an item, which that page takes")
    device: Device = "auto"
    threads: PositiveInt | None = Field(None, description="CPU threads; all cores if not given")


def run(config: Config) -> dict[str, Any]:
    """Score and return one row a text; nothing is written but the file `to` with the scores of `answers`.

    A language model gives the log-probability of the whole text, BOS given and EOS included, in nats; the mean a
    token; and the perplexity exp(−mean). A reward model gives a reward, several their
    mean, with each one's and their deviation. A process reward model gives the product of its steps' P(right), with
    how many steps there are and the least of them.
    """
    use_threads(config.threads)
    device = find_device(config.device)
    if config.answers is not None or config.to is not None:
        return _file(config, device)
    texts = list(config.text)
    if config.data is not None:
        texts += [document.text for document in read(runs.find_data(config.data, "corpus"), Document).rows]
    if not texts:
        raise BadInput("nothing to score: give text='…' or data=FILE")
    folders, is_reward = _models(config)
    if is_reward and config.prompt is None:
        raise BadInput(f"{config.model} is a reward model: give the prompt='…' that the texts answer")
    if config.prompt is not None and not is_reward:
        raise BadInput(f"{config.model} is a language model and scores texts alone: leave out prompt=")
    if config.prompt is not None:
        rows = _rewards(folders, device, config.prompt, texts)
    else:
        rows = _likelihoods(folders[0], device, texts)
    return {"scores": rows, "text": "\n".join(_line(row) for row in rows)}


def _models(config: Config) -> tuple[list[Path], bool]:
    """The folders of the models, and whether they are reward models."""
    folders = [runs.find_model(path.strip()) for path in config.model.split(",")]
    architectures = load_config(folders[0]).architectures or [""]
    return folders, architectures[0].endswith("ForSequenceClassification")


def _file(config: Config, device: torch.device) -> dict[str, Any]:
    """Score every answer of a file, and write one line an item: `{"id": …, "scores": [one an answer]}`.

    Raises:
        BadInput: Something else was asked for too, the model is no reward model, or the file cannot be made.
    """
    if config.answers is None or config.to is None or config.text or config.data or config.prompt is not None:
        raise BadInput("answers=FILE and to=FILE go together, and without text=, data= and prompt=")
    if config.to.exists():
        raise BadInput(f"{config.to}: exists already; nothing is overwritten, choose another name")
    folders, is_reward = _models(config)
    if not is_reward:
        raise BadInput(f"{config.model} is a language model: answers are scored by a reward model")
    found = read(runs.find_data(config.answers, "answers"), Answers)
    chat, source = _opened(folders, device)
    asked = [(Prompt(messages=row.prompt), answer.text) for row in found.rows for answer in row.answers]
    scores: list[float] = []
    with progress("score", total=len(asked), unit="answers") as bar:
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            scores += map(float, source.score(_episodes(chat, some, device)).total)
            bar.advance(len(some))
    left = iter(scores)
    lines = [{"id": row.id, "scores": [next(left) for _ in row.answers]} for row in found.rows]
    with whole_file(config.to) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    aside = f", {len(found.bad)} rows put aside (line {found.bad[0].line}: {found.bad[0].reason})" if found.bad else ""
    text = f"{config.to}: {len(asked)} answers of {len(lines)} items{aside}"
    return {"to": str(config.to), "items": len(lines), "answers": len(asked), "bad": len(found.bad), "text": text}


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


def _opened(folders: list[Path], device: torch.device) -> tuple[Chat, Scorer]:
    """What turns text into tokens, and the reward model, or several as one."""
    chat = Chat(load_tokenizer(folders[0]))
    if len(folders) > 1:
        return chat, Ensemble(paths=tuple(map(str, folders))).open(chat, device)
    if reads_steps(load_reward(folders[0])):
        return chat, ProcessReward(path=str(folders[0])).open(chat, device)
    return chat, Learned(path=str(folders[0])).open(chat, device)


def _episodes(chat: Chat, asked: Sequence[tuple[Prompt, str]], device: torch.device) -> Episodes:
    """Prompts with an answer each, as a reward reads them."""
    given = []
    for prompt, text in asked:
        head, ids = chat.prompt_ids(prompt.messages), chat.response_ids(text)
        given.append(Row(head + ids, [False] * len(head) + [True] * len(ids)))
    return Episodes([prompt for prompt, _ in asked], [text for _, text in asked], as_rollouts(given).to(device))


def _rewards(folders: list[Path], device: torch.device, prompt: str, texts: list[str]) -> list[Scored]:
    chat, source = _opened(folders, device)
    asked = Prompt(messages=(Message(role="user", content=prompt),))
    episodes = _episodes(chat, [(asked, text) for text in texts], device)
    found, lengths = source.score(episodes), episodes.rollouts.lengths.tolist()
    rows: list[Scored] = []
    for place, text in enumerate(texts):
        row: Scored = {"text": text, "reward": float(found.total[place]), "tokens": lengths[place]}
        rows.append(row | {name: float(part[place]) for name, part in found.parts.items()})
    return rows
