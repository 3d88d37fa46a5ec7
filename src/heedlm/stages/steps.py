"""Step labels: which steps of an answer are right, found by checking them or by completing from each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.models.compute import find_device
from heedlm.models.forward import context_limit
from heedlm.models.load import load_with_tokenizer
from heedlm.ops.types import Rollouts
from heedlm.progress import progress
from heedlm.records import Answers, Prompt, Steps, read, write
from heedlm.rewards import Episodes, RewardSource, Sums, files_of
from heedlm.rewards.verifiable import step_labels
from heedlm.rollout import Engine, Native, Sampling
from heedlm.runs import Input, Run
from heedlm.seams import Scorer
from heedlm.train.batching import Row
from heedlm.train.loop import use_threads
from heedlm.train.ranking import as_rollouts
from heedlm.train.state import seed_everything
from heedlm.train.steps import split_steps, step_ends


class Config(StageConfig):
    """Settings of step labelling."""

    answers: str = Field(description="answers to label: a file, or a sample run")
    how: Literal["check", "rollouts"] = Field(
        "check", description="check: by arithmetic, for sums; rollouts: by completing the answer from each step"
    )
    model: str | None = Field(None, description="rollouts: model that completes")
    by: RewardSource = Field(Sums(), description="rollouts: who says whether a completed answer is right")
    right: float = Field(1.0, description="rollouts: score from which on it is")
    completions: PositiveInt = Field(8, description="rollouts: completions from each step")
    sampling: Sampling = Field(Sampling(max_new_tokens=48), description="rollouts: temperature and length")
    engine: Engine = Field(Native(), description="rollouts: what generates")
    limit: PositiveInt | None = Field(None, description="label the answers to only the first so many prompts")
    test_share: float = Field(0.1, ge=0, lt=1, description="share of prompts kept for the test")
    dev_share: float = Field(0.05, ge=0, lt=1, description="share of prompts kept for choosing the weights")
    device: Device = "auto"
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


def run(config: Config, resume: Path | None = None) -> Run:
    """Label and return the run; its outputs have the roles `steps`, `steps_dev` and `steps_test`.

    Raises:
        BadInput: A file or model is unusable, or there is nobody to complete.
    """
    use_threads(config.threads)
    seed_everything(config.seed)
    path = runs.find_data(config.answers, "answers")
    rows = read(path, Answers, max_bad_rows=config.max_bad_rows, limit=config.limit)
    label: Callable[[Prompt, str, int], Steps | None] = _checked if config.how == "check" else _Completing(config)
    inputs = [Input("answers", config.answers)]
    if config.how == "rollouts":
        inputs += [Input(role, path) for role, path in {"model": str(config.model), **files_of(config.by)}.items()]
    this = Run.resume(resume) if resume else Run.create("steps", config, inputs)
    with this:
        runs.quarantine(this, "answers", rows)
        made: list[list[Steps]] = []
        with progress("steps", total=len(rows), unit="prompts") as bar:
            for number, row in enumerate(rows):
                prompt = Prompt(id=row.id, messages=row.prompt, meta=row.meta)
                texts = dict.fromkeys(answer.text for answer in row.answers if answer.text.strip())
                made.append([found for text in texts if (found := label(prompt, text, number)) is not None])
                bar.advance(1)
        _write(this, config, made)
    return this


def _checked(prompt: Prompt, text: str, number: int) -> Steps:
    steps, labels = step_labels(prompt, text)
    return _row(prompt, steps, labels, "check", None)


def _row(
    prompt: Prompt, steps: Sequence[str], labels: Sequence[int], annotator: str, chances: Sequence[float] | None
) -> Steps:
    fields: dict[str, Any] = {"labels": tuple(labels), "chances": None if chances is None else tuple(chances)}
    return Steps(prompt=prompt.messages, meta=prompt.meta, steps=tuple(steps), annotator=annotator, **fields)


class _Completing:
    """Labels steps by what became of completions from them: 1 if any is right, else −1, and the share as chance."""

    def __init__(self, config: Config) -> None:
        if config.model is None:
            raise BadInput("how=rollouts: name the model that completes the answers with model=")
        self.config, device = config, find_device(config.device)
        model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
        self.chat, self.limit = Chat(tokenizer), context_limit(model)
        self.engine = config.engine.bind(model, tokenizer)
        self.source: Scorer = config.by.open(self.chat, device)

    def __call__(self, prompt: Prompt, text: str, number: int) -> Steps | None:
        """Steps of answer `number` of all; None if it leaves no room to complete it."""
        ids, asked = self.chat.response_ids(text), self.chat.prompt_ids(prompt.messages)
        if self.limit is not None and len(asked) + len(ids) + self.config.sampling.max_new_tokens > self.limit:
            return None
        steps = split_steps(text)
        whole = Row(asked + ids, [False] * len(asked) + [True] * len(ids))
        begun = [ids[: end + 1] for end in step_ends(self.chat, ids, steps)[:-1]]
        chances = [*self._complete(prompt, asked, begun, number), self._judge(prompt, [text], as_rollouts([whole]))]
        return _row(prompt, steps, [1 if chance > 0 else -1 for chance in chances], "rollouts", chances)

    def _complete(self, prompt: Prompt, asked: list[int], begun: list[list[int]], number: int) -> list[float]:
        """For each beginning of an answer the share of its completions that are right."""
        count = self.config.completions
        rows = [ids for ids in begun for _ in range(count)]
        if not rows:
            return []
        seed = self.config.seed * 1_000_003 + number
        made = self.engine.generate([[*asked, *ids] for ids in rows], self.config.sampling, seed)
        texts = [self.chat.decode([*ids, *more]) for ids, more in zip(rows, made.responses(), strict=True)]
        whole = replace(made, prompt_lengths=torch.full_like(made.prompt_lengths, len(asked)))
        parts = [range(start, start + count) for start in range(0, len(rows), count)]
        return [self._judge(prompt, [texts[place] for place in part], whole.select(list(part))) for part in parts]

    def _judge(self, prompt: Prompt, texts: list[str], rollouts: Rollouts) -> float:
        """Share of answers that are right."""
        scores = self.source.score(Episodes([prompt] * len(texts), texts, rollouts)).total
        return float((scores >= self.config.right).double().mean())


def _write(this: Run, config: Config, made: Sequence[Sequence[Steps]]) -> None:
    """Deal prompts to training, development and test, and count."""
    order = [place for place, found in enumerate(made) if found]
    if not order:
        raise BadInput(f"{config.answers}: no answer could be labelled")
    random.Random(config.seed).shuffle(order)
    test, dev = round(len(order) * config.test_share), round(len(order) * config.dev_share)
    parts = {"steps_test": order[:test], "steps_dev": order[test : test + dev], "steps": order[test + dev :]}
    for role, places in parts.items():
        if places:
            output = this.path / f"{role}.jsonl"
            found = [row for place in places for row in made[place]]
            write(output, found)
            this.add_output(role, output, rows=len(found))
    every = [row for found in made for row in found]
    labels = [label for row in every for label in row.labels]
    this.note(
        prompts=len(order),
        answers=len(every),
        steps=len(labels),
        right=labels.count(1) / len(labels),
        neutral=labels.count(0) / len(labels),
        wrong=labels.count(-1) / len(labels),
    )
