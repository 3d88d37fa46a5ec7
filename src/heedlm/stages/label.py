"""Labelling by simulated annotators: answers in, rankings out. People label in the web application."""

from __future__ import annotations

import random
from pathlib import Path

from pydantic import Field

from heedlm import runs
from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.progress import progress
from heedlm.records import Answers, Comparison, read, write
from heedlm.runs import Input, Run
from heedlm.village import score
from heedlm.village.annotators import Annotators


class Config(StageConfig):
    """Settings of labelling."""

    answers: str = Field(description="answers to rank: a file with ground truth, or a sample run")
    annotators: Annotators = Field(Annotators(), description="how the simulated annotators judge")
    test_share: float = Field(0.1, ge=0, lt=1, description="share of prompts kept for the reward model's test")
    dev_share: float = Field(0.05, ge=0, lt=1, description="share of prompts kept for choosing the reward model")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


def run(config: Config, resume: Path | None = None) -> Run:
    """Rank each prompt's answers; the outputs have the roles `comparisons`, `comparisons_dev`, `comparisons_test`."""
    path = runs.find_data(config.answers, "answers")
    rows = read(path, Answers, max_bad_rows=config.max_bad_rows)
    this = Run.resume(resume) if resume else Run.create("label", config, [Input("answers", config.answers)])
    with this:
        runs.quarantine(this, "answers", rows)
        usable, worths = _distinct(rows.rows)
        scale = config.annotators.calibrate(worths)
        made: list[Comparison] = []
        with progress("label", total=len(usable), unit="prompts") as bar:
            for row, worth in zip(usable, worths, strict=True):
                made.append(config.annotators.compare(row, worth, scale, random.Random(f"{config.seed} {row.id}")))
                bar.advance(1)
        order = list(range(len(made)))
        random.Random(config.seed).shuffle(order)
        test, dev = round(len(order) * config.test_share), round(len(order) * config.dev_share)
        parts = {
            "comparisons_test": order[:test],
            "comparisons_dev": order[test : test + dev],
            "comparisons": order[test + dev :],
        }
        for role, places in parts.items():
            if places:
                output = this.path / f"{role}.jsonl"
                write(output, [made[i] for i in places])
                this.add_output(role, output, rows=len(places))
        this.note(
            prompts=len(made),
            without_a_choice=len(rows.rows) - len(made),
            scale=scale,
            agreement=config.annotators.agreement_at(worths, scale),
            ceiling=config.annotators.ceiling([worths[i] for i in parts["comparisons_test"]] or worths, scale),
        )
    return this


def _distinct(rows: list[Answers]) -> tuple[list[Answers], list[list[float]]]:
    """Rows with at least two different, non-empty answers (repeats dropped), and the gold total of each answer."""
    usable: list[Answers] = []
    golds: list[list[float]] = []
    for row in rows:
        task = row.meta.task
        if task is None:
            raise BadInput(f"answers {row.id}: no ground truth (meta.task), so nobody to simulate; label them by hand")
        distinct = {answer.text: answer for answer in row.answers if answer.text.strip()}
        if len(distinct) >= 2:
            usable.append(row.model_copy(update={"answers": tuple(distinct.values())}))
            golds.append([score(task, text).total for text in distinct])
    if not usable:
        raise BadInput("no prompt has two different answers to choose from; sample at a higher temperature")
    return usable, golds
