"""Critique and revision: a model's answers in, better ones out as demonstrations (constitutional AI's first half)."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.judges import Asked, frames
from heedlm.judges.asked import Tally
from heedlm.judges.constitution import Case, Principle, draw, principles
from heedlm.judges.reviewers import Reviewer, VillageReviewer
from heedlm.progress import progress
from heedlm.records import Answers, Demonstration, Message, Prompt, read, write
from heedlm.runs import Input, Run
from heedlm.runs.files import read_lines
from heedlm.village import score

_CHUNK = 32  # prompts reviewed before what came of them is written down


class Config(StageConfig):
    """Settings of critique and revision."""

    answers: str = Field(description="answers to improve, the first to each prompt: a file or a sample run")
    constitution: str | None = Field(None, description="TOML file of principles; none: those that come with Heed")
    reviewer: Reviewer = Field(
        VillageReviewer(), description="who criticises and revises: a local model, an endpoint, or the village's truth"
    )
    rounds: PositiveInt = Field(4, description="rounds of critique and revision, each by a principle drawn anew")
    revisions: Literal["all", "last"] = Field("all", description="which rounds' answers become demonstrations")
    also: str | None = Field(
        None, description="demonstrations that go beside the revisions, as many as there are revisions: a file or a run"
    )
    limit: PositiveInt | None = Field(None, description="only the first so many prompts")
    dev_share: float = Field(0.05, ge=0, lt=1, description="share of prompts held out")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


def run(config: Config, resume: Path | None = None) -> Run:
    """Review every prompt's first answer; the outputs have the roles `demonstrations` and `demonstrations_dev`.

    A reply that cannot be read drops its prompt; the run counts them. What was reviewed is in `reviews.jsonl`.

    Raises:
        BadInput: The answers, principles or reviewer cannot be used, or no reply could be read.
        Interrupted: The run was stopped; what was reviewed so far is kept.
    """
    found = principles(config.constitution)
    rows = read(
        runs.find_data(config.answers, "answers"), Answers, max_bad_rows=config.max_bad_rows, limit=config.limit
    )
    usable = [row for row in rows.rows if row.answers[0].text.strip()]
    beside = _beside(config)
    _prepare(config, found, usable)
    this = Run.resume(resume) if resume else Run.create("critique", config, _inputs(config))
    with this:
        runs.quarantine(this, "answers", rows)
        reviews = _review(this, config, found, usable)
        kept = [(row, review) for row, review in zip(usable, reviews, strict=True) if not review["dropped"]]
        if not kept:
            raise BadInput(
                f"no reply of the reviewer could be read; {this.path / 'reviews.jsonl'} holds what it said of"
            )
        made = [_demonstrations(config, row, review) for row, review in kept]
        order = list(range(len(made)))
        random.Random(config.seed).shuffle(order)
        held_out = round(len(order) * config.dev_share)
        parts = {"demonstrations_dev": order[:held_out], "demonstrations": order[held_out:]}
        for role, places in parts.items():
            demonstrations = [each for place in places for each in made[place]]
            if role == "demonstrations":
                demonstrations += beside[: len(demonstrations)]
            if demonstrations:
                output = this.path / f"{role}.jsonl"
                write(output, demonstrations)
                this.add_output(role, output, rows=len(demonstrations))
        this.note(**_facts(config, rows.rows, kept, reviews))
    return this


def _review(this: Run, config: Config, found: Sequence[Principle], rows: Sequence[Answers]) -> list[dict[str, Any]]:
    """What the reviewer said and made of each row's first answer, from the log where it is there already."""
    log = this.path / "reviews.jsonl"
    done = {int(line["row"]): line for line in read_lines(log) if not line["dropped"]}
    left = [place for place in range(len(rows)) if place not in done]
    tally = Tally(config.reviewer, this.info.results.get("usage", {}))
    with progress("critique", total=len(rows), unit="prompts") as bar, log.open("a", encoding="utf-8") as file:
        bar.advance(len(done))
        for at in range(0, len(left), _CHUNK):
            if runs.stop_requested():
                raise runs.interrupted(this, f"after {len(done)} of {len(rows)} prompts")
            places = left[at : at + _CHUNK]
            for place, review in zip(places, _rounds(config, found, [rows[i] for i in places]), strict=True):
                done[place] = {"row": place, "id": rows[place].id, **review}
                file.write(json.dumps(done[place], ensure_ascii=False) + "\n")
            file.flush()
            this.note(**tally.so_far())
            bar.advance(len(places))
    return [done[place] for place in range(len(rows))]


def _rounds(config: Config, found: Sequence[Principle], rows: Sequence[Answers]) -> list[dict[str, Any]]:
    """All rounds of some rows; a row whose critique or revision cannot be read goes no further."""
    prompts = [Prompt(id=row.id, messages=row.prompt, meta=row.meta) for row in rows]
    reviews: list[dict[str, Any]] = [{"dropped": None, "answer": row.answers[0].text, "rounds": []} for row in rows]
    for number in range(config.rounds):
        seed = config.seed * 1_009 + number
        live = [place for place, review in enumerate(reviews) if not review["dropped"]]
        cases = [Case(prompts[i], _newest(reviews[i]), draw(found, seed, rows[i].id)) for i in live]
        critiques = config.reviewer.critique(cases, seed)
        sound = [k for k, critique in enumerate(critiques) if critique is not None]
        revisions = config.reviewer.revise([cases[k] for k in sound], [str(critiques[k]) for k in sound], seed)
        for k, place in enumerate(live):
            if critiques[k] is None:
                reviews[place]["dropped"] = "critique"
        for k, revision in zip(sound, revisions, strict=True):
            review, principle = reviews[live[k]], cases[k].principle
            if revision is None or not revision.strip():
                review["dropped"] = "revision"
                continue
            assert principle is not None
            review["rounds"].append({"principle": principle.id, "critique": critiques[k], "revision": revision})
    return reviews


def _newest(review: Mapping[str, Any]) -> str:
    return str(review["rounds"][-1]["revision"] if review["rounds"] else review["answer"])


def _demonstrations(config: Config, row: Answers, review: Mapping[str, Any]) -> list[Demonstration]:
    """The revisions as demonstrations, equal ones once."""
    texts = [each["revision"] for each in review["rounds"]]
    texts = texts[-1:] if config.revisions == "last" else list(dict.fromkeys(texts))
    return [
        Demonstration(
            id=f"{row.id}-revision-{number}",
            messages=(*row.prompt, Message(role="assistant", content=text)),
            meta=row.meta,
        )
        for number, text in enumerate(texts, start=1)
    ]


def _facts(
    config: Config, rows: Sequence[Answers], kept: Sequence[tuple[Answers, Mapping[str, Any]]], reviews: Sequence[Any]
) -> dict[str, Any]:
    """Counts, lengths by round, and gold by round where there is a ground truth."""
    by_round = [[review["answer"] for _, review in kept]]
    by_round += [[review["rounds"][number]["revision"] for _, review in kept] for number in range(config.rounds)]
    facts: dict[str, Any] = {
        "prompts": len(kept),
        "empty_answers": len(rows) - len(reviews),
        "dropped_critiques": sum(review["dropped"] == "critique" for review in reviews),
        "dropped_revisions": sum(review["dropped"] == "revision" for review in reviews),
        "unchanged": statistics.fmean(_newest(review) == review["answer"] for _, review in kept),
        "characters_by_round": [statistics.fmean(map(len, texts)) for texts in by_round],
    }
    tasks = [row.meta.task for row, _ in kept]
    if all(task is not None for task in tasks):
        facts["gold_by_round"] = [
            statistics.fmean(
                score(task, text).total for task, text in zip(tasks, texts, strict=True) if task is not None
            )
            for texts in by_round
        ]
    return facts


def _beside(config: Config) -> list[Demonstration]:
    if config.also is None:
        return []
    rows = list(
        read(runs.find_data(config.also, "demonstrations"), Demonstration, max_bad_rows=config.max_bad_rows).rows
    )
    random.Random(config.seed).shuffle(rows)
    return rows


def _prepare(config: Config, found: Sequence[Principle], rows: Sequence[Answers]) -> None:
    """Have a reviewer that costs money say how much: later rounds are taken to be as long as the first.

    Of a round's two questions one may be replied to with a whole answer, so both are counted as if they were.
    """
    if isinstance(config.reviewer, Asked):
        longest = max(found, key=lambda each: len(each.request("critique", "en")))
        asked = [
            frames.critique(row.prompt, row.answers[0].text, longest.request("critique", row.meta.lang)) for row in rows
        ]
        config.reviewer.prepare(asked * (2 * config.rounds), frames.WHOLE)


def _inputs(config: Config) -> list[Input]:
    extra = {"constitution": config.constitution, "demonstrations": config.also}
    return [Input("answers", config.answers)] + [Input(role, path) for role, path in extra.items() if path is not None]
