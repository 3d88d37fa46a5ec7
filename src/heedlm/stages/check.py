"""Checking: what a data file holds and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from heedlm import records, runs
from heedlm.config import Config as Settings
from heedlm.progress import progress
from heedlm.records import survey

KINDS: dict[str, type[records.Row]] = {
    "documents": records.Document,
    "prompts": records.Prompt,
    "demonstrations": records.Demonstration,
    "answers": records.Answers,
    "comparisons": records.Comparison,
    "ratings": records.Rating,
    "steps": records.Steps,
    "thumbs": records.Thumb,
}
DUPLICATE = "says the same as an earlier row"
Kind = Literal["documents", "prompts", "demonstrations", "answers", "comparisons", "ratings", "steps", "thumbs"]


class Problem(NamedTuple):
    """What is wrong with one row: its line, the sort of problem, the problem."""

    line: int
    sort: str
    reason: str


class Config(Settings):
    """Settings of checking."""

    positional: ClassVar[str | None] = "file"

    file: Path = Field(description="data file to look at")
    other: Path | None = Field(None, description="second data file, to count what both hold")
    kind: Kind | None = Field(None, description="what to read the rows as; the kind that loses least if not given")
    model: str | None = Field(None, description="model whose tokenizer counts tokens, and whose context is the limit")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that stages will be told to accept")
    shown: int = Field(10, ge=0, description="how many problems to list")


def run(config: Config) -> dict[str, Any]:
    """Look at a file and return what it holds; `text` says the same for people.

    Raises:
        BadInput: If a file cannot be read, its format is unknown or none of its rows is sound.
    """
    kind = KINDS[config.kind] if config.kind else records.detect_kind(config.file)
    # Every row may be bad but one: this command is there to tell of them.
    rows = records.read(config.file, kind, max_bad_rows=1.0)
    facts: dict[str, Any] = {
        "file": str(config.file),
        "format": rows.format,
        "formats": rows.formats,
        "kind": next(name for name, known in KINDS.items() if known is kind),
        "rows": rows.total,
        "sound": len(rows),
        "bad": len(rows.bad),
        "acceptable": len(rows.bad) <= config.max_bad_rows * rows.total,
        "prompts": len({survey.prompt_key(row) for row in rows if survey.turns(row)}),
        "turns": survey.spread(len(survey.turns(row)) for row in rows if survey.turns(row)),
        "answers": dict(sorted(Counter(len(survey.answers(row)) for row in rows).items())),
        "characters": survey.lengths(rows, len),
        "words": survey.lengths(rows, survey.words),
        "languages": survey.languages(rows),
        "longer_answer_wins": survey.longer_wins(rows),
        "notes": survey.notes(rows),
    }
    problems = [Problem(bad.line, _sort_of(bad.reason), bad.reason) for bad in rows.bad]
    for line, first in survey.repeats(rows):
        problems.append(Problem(line, DUPLICATE, f"says the same as line {first}"))
    for line, first in survey.contradictions(rows):
        reason = f"ranks two answers in the opposite order of line {first}"
        problems.append(Problem(line, "contradicts an earlier row", reason))
    if config.model is not None:
        problems += _tokens(config.model, rows, facts)
    if config.other is not None:
        others = records.read(config.other, records.detect_kind(config.other), max_bad_rows=1.0)
        facts["overlap"] = {"other": str(config.other), **survey.overlap(rows.rows, others.rows)}
    counts = Counter(problem.sort for problem in problems)
    facts["reasons"] = dict(counts.most_common())
    facts["duplicates"], facts["duplicate_ids"] = counts[DUPLICATE], counts["duplicate id"]
    facts["problems"] = [{"line": problem.line, "reason": problem.reason} for problem in sorted(problems)]
    return {**facts, "text": _text(facts, config)}


def _tokens(model: str, rows: records.Rows[Any], facts: dict[str, Any]) -> list[Problem]:
    """Add the lengths in tokens, as the model sees them, to the facts; return the rows longer than its context.

    A document may be longer than the context, as pretraining cuts it into pieces.
    """
    from heedlm.models import Chat, load_tokenizer  # tokenizers take seconds to import
    from heedlm.models.load import load_config

    folder = runs.find_model(model)
    chat = Chat(load_tokenizer(folder))
    limit = getattr(load_config(folder).get_text_config(), "max_position_embeddings", None)
    asked, told, problems = [], [], []
    with progress("tokenize", total=len(rows), unit="rows") as bar:
        for line, row in zip(rows.lines, rows.rows, strict=True):
            prompt = len(chat.prompt_ids(survey.turns(row))) if survey.turns(row) else 0
            answers = [_answer_tokens(chat, row, answer.text) for answer in survey.answers(row)]
            asked.append(prompt)
            told += answers
            longest = prompt + max(answers, default=0)
            if limit is not None and longest > limit and not isinstance(row, records.Document):
                reason = f"{longest} tokens, the model's context holds {limit}"
                problems.append(Problem(line, "longer than the model's context", reason))
            bar.advance(1, tokens=prompt + sum(answers))
    is_text = facts["kind"] == "documents"
    spreads = (
        {"text": survey.spread(told)} if is_text else {"prompt": survey.spread(asked), "answer": survey.spread(told)}
    )
    facts["tokens"] = {name: spread for name, spread in spreads.items() if spread}
    facts["context"] = limit
    return problems


def _answer_tokens(chat: Any, row: records.Row, text: str) -> int:
    return len(chat.document_ids(text) if isinstance(row, records.Document) else chat.response_ids(text))


def _sort_of(reason: str) -> str:
    """Return the reason without what differs from row to row."""
    for mark in (" at byte", " at character", " (", ": message", " 'row"):
        reason = reason.partition(mark)[0]
    return "duplicate id" if reason.startswith("duplicate id") else reason


# ---------------------------------------------------------------------------------------------- for people


def _text(facts: dict[str, Any], config: Config) -> str:
    lines = [
        f"{facts['file']}",
        f"  format      {facts['format']}, read as {facts['kind']}",
        f"  rows        {_rows(facts, config)}",
    ]
    if facts["prompts"]:
        spread = facts["turns"]
        several = f" to {spread['max']}, median {spread['median']}" if spread["max"] > spread["min"] else ""
        lines.append(f"  prompts     {facts['prompts']} different; messages in each: {spread['min']}{several}")
    if facts["kind"] in {"answers", "comparisons"}:
        each = ", ".join(f"{count} in {rows} rows" for count, rows in facts["answers"].items())
        longer = facts["longer_answer_wins"]
        wins = "" if longer is None else f"; the longer one is better in {_percent(longer)} of pairs"
        lines.append(f"  answers     {each}{wins}")
    for unit in ("characters", "words", "tokens"):
        for part, spread in facts.get(unit, {}).items():
            middle = f"{spread['min']:,} to {spread['max']:,}, median {spread['median']:,}, 95 % ≤ {spread['p95']:,}"
            lines.append(f"  {unit:<11} {part}: {middle}; {spread['total']:,} in all")
    found = list(facts["languages"].items())
    named = ", ".join(f"{name} {_percent(count / facts['sound'])}" for name, count in found[:6])
    lines.append(f"  languages   {named}{f', {len(found) - 6} more' if len(found) > 6 else ''}")
    lines += [f"  note        {note}" for note in facts["notes"]]
    if "overlap" in facts:
        lines += _overlap(facts["overlap"])
    return "\n".join([*lines, *_problems(facts, config.shown)])


def _rows(facts: dict[str, Any], config: Config) -> str:
    if not facts["bad"]:
        return f"{facts['rows']}, all sound"
    share = facts["bad"] / facts["rows"]
    verdict = (
        "stages leave them out"
        if facts["acceptable"]
        else f"stages refuse the file at max_bad_rows={config.max_bad_rows:g}"
    )
    return f"{facts['rows']}, {facts['sound']} sound, {facts['bad']} bad ({_percent(share)}): {verdict}"


def _overlap(overlap: dict[str, Any]) -> list[str]:
    counted = {name: of for name, of in overlap.items() if name != "other"}
    return [
        f"  overlap     {name}: {of['shared']} of {of['of']} rows ({_percent(of['share'])}) also in {overlap['other']}"
        for name, of in counted.items()
    ]


def _problems(facts: dict[str, Any], shown: int) -> list[str]:
    problems = facts["problems"]
    if not problems:
        return ["  problems    none found"]
    lines = [f"  problems    {', '.join(f'{reason} ({count})' for reason, count in facts['reasons'].items())}"]
    lines += [f"    line {problem['line']}: {problem['reason']}" for problem in problems[:shown]]
    more = len(problems) - shown
    return [*lines, f"    and {more} more (shown={len(problems)} lists all)"] if more > 0 else lines


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
