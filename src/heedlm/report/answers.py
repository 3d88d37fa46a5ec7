"""Answers side by side: what each watched prompt got before training and gets now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedlm.report.words import as_number, number, percent

PROMPTS = 24
STEPS = 8
_FIGURES = (
    ("length_mean", "mean length, tokens", "number"),
    ("length_median", "median length, tokens", "number"),
    ("truncated", "cut at the limit", "share"),
    ("empty", "empty", "share"),
    ("distinct_1", "different words (distinct-1)", "number"),
    ("distinct_2", "different word pairs (distinct-2)", "number"),
    ("repetition_4", "repeated runs of four words", "share"),
)
_SYMPTOMS = (
    ("list", "written as a list", "share"),
    ("closing", "closes with “overall”", "share"),
    ("apologies", "apologies a hundred words", "number"),
    ("as_an_ai", "opens with “as an AI”", "share"),
    ("hedges", "hedges a hundred words", "number"),
    ("refusal", "refuses", "share"),
    ("please", "ends in “please”", "share"),
    ("questions", "three question marks", "share"),
)


@dataclass(frozen=True)
class Reply:
    """One answer with the step it is from and its scores in words."""

    text: str
    when: str
    scores: list[tuple[str, str]]


@dataclass(frozen=True)
class Exchange:
    """A prompt, its answer before and after, and answers from steps between."""

    prompt: str
    before: Reply | None
    after: Reply
    between: list[Reply] = field(default_factory=list)


def exchanges(rows: Sequence[Mapping[str, Any]]) -> list[Exchange]:
    """The first PROMPTS prompts of `samples.jsonl`, in its order.

    A row's own `before` is the answer before; without one the prompt's earliest row is.
    """
    by_prompt: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if isinstance(row.get("answer"), str) and "prompt" in row:
            by_prompt.setdefault(_text(row["prompt"]), []).append(row)
    return [_exchange(prompt, found) for prompt, found in list(by_prompt.items())[:PROMPTS]]


@dataclass(frozen=True)
class Figures:
    """The texts of both models in figures: rows of measure, this model, the other; and the symptoms neither shows."""

    rows: list[list[str]]
    unseen: list[str]


def in_figures(results: Mapping[str, Any]) -> Figures | None:
    """What `evals.text.describe` found for the measured model, beside the model it is compared with."""
    ours, theirs = results.get("text"), results.get("text_against")
    if not isinstance(ours, Mapping):
        return None
    other = theirs if isinstance(theirs, Mapping) else {}
    rows = [_figure(label, form, ours.get(key), other.get(key)) for key, label, form in _FIGURES]
    unseen = []
    inner, outer = _mapping(ours.get("symptoms")), _mapping(other.get("symptoms"))
    for key, label, form in _SYMPTOMS:
        if as_number(inner.get(key)) or as_number(outer.get(key)):
            rows.append(_figure(label, form, inner.get(key), outer.get(key)))
        elif key in inner:
            unseen.append(label)
    return Figures([row for row in rows if row[1] != "–"], unseen)


def _figure(label: str, form: str, ours: Any, theirs: Any) -> list[str]:
    cells = []
    for value in map(as_number, (ours, theirs)):
        cells.append("–" if value is None else percent(value) if form == "share" else number(value))
    return [label, *cells]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _exchange(prompt: str, rows: Sequence[Mapping[str, Any]]) -> Exchange:
    ordered = sorted(rows, key=_step)
    last = ordered[-1]
    earlier = list(ordered[:-1])
    before = None
    if isinstance(last.get("before"), str):
        before = Reply(str(last["before"]), "before", _scores(last, "_before"))
    elif earlier and _step(earlier[0]) < _step(last):
        before = _reply(earlier.pop(0))
    every = max(1, -(-len(earlier) // STEPS))
    after = Reply(str(last["answer"]), "after" if isinstance(last.get("before"), str) else _when(last), _scores(last))
    return Exchange(prompt, before, after, [_reply(row) for row in earlier[::every]])


def _reply(row: Mapping[str, Any]) -> Reply:
    return Reply(str(row["answer"]), _when(row), _scores(row))


def _scores(row: Mapping[str, Any], suffix: str = "") -> list[tuple[str, str]]:
    found = []
    for name in ("gold", "reward"):
        value = as_number(row.get(f"{name}{suffix}"))
        if value is not None:
            found.append((name, number(value)))
    return found


def _step(row: Mapping[str, Any]) -> float:
    return as_number(row.get("step")) or 0.0


def _when(row: Mapping[str, Any]) -> str:
    return f"step {number(_step(row))}"


def _text(value: Any) -> str:
    """A prompt as text: itself, or its messages one below the other."""
    if isinstance(value, list):
        return "\n".join(
            f"{each.get('role', '')}: {each.get('content', '')}" for each in value if isinstance(each, Mapping)
        )
    return str(value)
