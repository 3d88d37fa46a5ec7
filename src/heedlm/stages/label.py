"""Labelling by simulated annotators or by AI: answers in, rankings out. People label in the web application."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.judges import Asked, Judge
from heedlm.judges.asked import Tally
from heedlm.judges.constitution import principles
from heedlm.judges.labelling import ByGrades, ByJudge, Source, as_line
from heedlm.judges.reviewers import Reviewer
from heedlm.progress import progress
from heedlm.records import Answers, Comparison, read, write
from heedlm.runs import Input, Run
from heedlm.runs.files import read_lines
from heedlm.village import score
from heedlm.village.annotators import Annotators

_CHUNK = 32  # prompts asked about before their verdicts are written down


class Config(StageConfig):
    """Settings of labelling. Simulated annotators rank, unless a judge or a grader is named."""

    answers: str = Field(description="answers to rank: a file or a sample run; annotators need ground truth in it")
    annotators: Annotators = Field(Annotators(), description="how the simulated annotators judge")
    judge: Judge | None = Field(None, description="a judge that compares every pair of answers in both orders")
    grader: Reviewer | None = Field(None, description="a grader that gives each answer 0 to 5 points by a rubric")
    judgements: PositiveInt = Field(3, description="times that the grader grades each answer; the mean counts")
    constitution: str | None = Field(
        None, description="principles the judge compares by, one drawn for each prompt: a TOML file, or own for Heed's"
    )
    clamp: tuple[float, float] | None = Field(
        None, description="bounds of the judge's preferences, such as [0.4, 0.6] after reasoning; none: as they are"
    )
    tie_band: float = Field(0.02, ge=0, lt=1, description="mean preferences by the judge closer than this are a tie")
    test_share: float = Field(0.1, ge=0, lt=1, description="share of prompts kept for the reward model's test")
    dev_share: float = Field(0.05, ge=0, lt=1, description="share of prompts kept for choosing the reward model")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


def run(config: Config, resume: Path | None = None) -> Run:
    """Rank each prompt's answers; the outputs have the roles `comparisons`, `comparisons_dev`, `comparisons_test`.

    Raises:
        BadInput: The answers cannot be ranked, or the judge cannot be asked or would cost too much.
        Interrupted: The run was stopped; what was said so far is kept.
    """
    _check(config)
    path = runs.find_data(config.answers, "answers")
    rows = read(path, Answers, max_bad_rows=config.max_bad_rows)
    usable = _distinct(rows.rows)
    source = _source(config)
    worths = None if source else _golds(usable)
    if source is not None:
        source.prepare(usable)
    this = Run.resume(resume) if resume else Run.create("label", config, _inputs(config))
    with this:
        runs.quarantine(this, "answers", rows)
        facts: dict[str, Any]
        if source is None:
            assert worths is not None
            made, facts = _annotate(config, usable, worths)
        else:
            made, facts = _by_ai(this, source, usable)
        parts = _split(config, len(made))
        for role, places in parts.items():
            if places:
                output = this.path / f"{role}.jsonl"
                write(output, [made[i] for i in places])
                this.add_output(role, output, rows=len(places))
        if worths is not None:
            held_out = [worths[i] for i in parts["comparisons_test"]] or worths
            facts["ceiling"] = config.annotators.ceiling(held_out, facts["scale"])
        this.note(prompts=len(made), without_a_choice=len(rows.rows) - len(usable), **facts)
    return this


def _check(config: Config) -> None:
    """Refuse settings that contradict each other."""
    if config.judge is not None and config.grader is not None:
        raise BadInput("give either judge= (pairs are compared) or grader= (answers get points), not both")
    if config.judge is None:
        if config.constitution is not None or config.clamp is not None:
            raise BadInput("constitution= and clamp= are for a judge: name one, as in judge.name=endpoint judge.url=…")
        return
    if config.constitution is not None and not isinstance(config.judge, Asked):
        raise BadInput(f"constitution: judge {config.judge.name!r} reads no principles; name a model that does")
    if config.clamp is not None and not 0 <= config.clamp[0] < 0.5 < config.clamp[1] <= 1:
        raise BadInput(f"clamp: {list(config.clamp)} must be a share below and one above a half, such as [0.4, 0.6]")


def _source(config: Config) -> Source | None:
    """Who ranks, if not the annotators."""
    if config.grader is not None:
        return ByGrades(config.grader, config.judgements, config.seed)
    if config.judge is None:
        return None
    found = (
        [] if config.constitution is None else principles(None if config.constitution == "own" else config.constitution)
    )
    return ByJudge(config.judge, found, config.clamp, config.tie_band, config.seed)


def _inputs(config: Config) -> list[Input]:
    own = config.constitution in {None, "own"}
    return [Input("answers", config.answers)] + ([] if own else [Input("constitution", str(config.constitution))])


def _annotate(
    config: Config, rows: Sequence[Answers], worths: Sequence[Sequence[float]]
) -> tuple[list[Comparison], dict[str, Any]]:
    """Rankings by annotators as noisy as the settings say."""
    scale = config.annotators.calibrate(worths)
    made: list[Comparison] = []
    with progress("label", total=len(rows), unit="prompts") as bar:
        for row, worth in zip(rows, worths, strict=True):
            made.append(config.annotators.compare(row, worth, scale, random.Random(f"{config.seed} {row.id}")))
            bar.advance(1)
    return made, {"scale": scale, "agreement": config.annotators.agreement_at(worths, scale)}


def _by_ai(this: Run, source: Source, rows: Sequence[Answers]) -> tuple[list[Comparison], dict[str, Any]]:
    """Rankings by a judge or grader; each word of theirs is written down before it is used."""
    log = this.path / "verdicts.jsonl"
    entries = {int(line["row"]): line for line in read_lines(log) if source.whole(line)}
    tally = Tally(source.who, this.info.results.get("usage", {}))
    with progress("label", total=len(rows), unit="prompts") as bar, log.open("a", encoding="utf-8") as file:
        bar.advance(len(entries))
        for chunk in _chunks([place for place in range(len(rows)) if place not in entries]):
            if runs.stop_requested():
                raise runs.interrupted(this, f"after {len(entries)} of {len(rows)} prompts")
            found = source.ask([rows[place] for place in chunk])
            for place, entry in zip(chunk, found, strict=True):
                entries[place] = dict(entry)
                file.write(as_line(place, rows[place], entry))
            file.flush()
            this.note(**tally.so_far())
            bar.advance(len(chunk))
    ranked = [source.ranking(row, entries[place]) for place, row in enumerate(rows)]
    made = [comparison for comparison in ranked if comparison is not None]
    if not made:
        raise BadInput(f"no verdict on any of {len(rows)} prompts could be read; {log} holds what was said")
    facts = source.facts([entries[place] for place in range(len(rows))])
    if facts.get("unread_verdicts") or facts.get("unread_grades"):
        print(f"label: {len(ranked) - len(made)} prompts dropped, replies could not be read ({log})", file=sys.stderr)
    facts["dropped_unread"] = len(ranked) - len(made)
    return made, facts | _against_gold(made) | tally.so_far()


def _against_gold(made: Sequence[Comparison]) -> dict[str, Any]:
    """Share of the ranked pairs that gold ranks alike (equal gold ½), where there is a ground truth."""
    right, pairs = 0.0, 0
    for row in made:
        task = row.meta.task
        if task is None:
            return {}
        golds = [score(task, answer.text).total for answer in row.answers]
        for i, j in row.pairs():
            right += 1.0 if golds[i] > golds[j] else 0.5 if golds[i] == golds[j] else 0.0
            pairs += 1
    return {"gold_accuracy": right / pairs, "ranked_pairs": pairs} if pairs else {"ranked_pairs": 0}


def _split(config: Config, count: int) -> Mapping[str, Sequence[int]]:
    """Places of the comparisons for each output, by chance."""
    order = list(range(count))
    random.Random(config.seed).shuffle(order)
    test, dev = round(count * config.test_share), round(count * config.dev_share)
    return {
        "comparisons_test": order[:test],
        "comparisons_dev": order[test : test + dev],
        "comparisons": order[test + dev :],
    }


def _chunks(places: Sequence[int]) -> Iterator[Sequence[int]]:
    return (places[at : at + _CHUNK] for at in range(0, len(places), _CHUNK))


def _distinct(rows: Sequence[Answers]) -> list[Answers]:
    """Rows with at least two different, non-empty answers, repeats dropped."""
    usable: list[Answers] = []
    for row in rows:
        distinct = {answer.text: answer for answer in row.answers if answer.text.strip()}
        if len(distinct) >= 2:
            usable.append(row.model_copy(update={"answers": tuple(distinct.values())}))
    if not usable:
        raise BadInput("no prompt has two different answers to choose from; sample at a higher temperature")
    return usable


def _golds(rows: Sequence[Answers]) -> list[list[float]]:
    """The gold total of each answer."""
    golds: list[list[float]] = []
    for row in rows:
        task = row.meta.task
        if task is None:
            raise BadInput(
                f"answers {row.id}: no ground truth (meta.task), so nobody to simulate; label them by hand, "
                "or name a judge="
            )
        golds.append([score(task, answer.text).total for answer in row.answers])
    return golds
