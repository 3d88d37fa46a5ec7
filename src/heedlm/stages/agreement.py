"""Agreement: how far annotators agree in a file of judgements, what sways them, and who may not have read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from heedlm import runs
from heedlm.config import Config as Settings
from heedlm.errors import BadInput
from heedlm.feedback import quality
from heedlm.feedback.agreement import Agreement, Line, Person, Report, report
from heedlm.feedback.coefficients import Interval
from heedlm.feedback.interchange import Columns, Imported, load
from heedlm.feedback.judgements import Judgement, Value, judgements_of
from heedlm.records import Comparison, Message, Rating, Row, Thumb
from heedlm.report.graph import printable

Asked = tuple[tuple[Message, ...], str]  # a prompt and an answer to it


class Config(Settings):
    """Settings of measuring agreement."""

    positional: ClassVar[str | None] = "file"

    file: str = Field(description="comparisons, ratings or thumbs with annotators, in any format Heed reads, or a run")
    gold: Path | None = Field(None, description="file of some of the same items with the right judgements")
    reward: str | None = Field(None, description="reward model to compare each annotator with: a run or a folder")
    prompt: str | None = Field(None, description="field that holds the prompt, where its name does not say it")
    answers: tuple[str, ...] = Field((), description="fields that hold the answers, where their names do not say it")
    labels: dict[str, str] = Field({}, description="what a tool's own labels mean: good, bad, tie or an answer's field")
    predictions: bool = Field(False, description="take what models suggested as well, under the models' names")
    spam: quality.Thresholds = Field(quality.Thresholds(), description="when an annotator is held to be careless")
    resamples: int = Field(1000, ge=100, description="redraws of the items for the intervals")
    seed: int = Field(0, description="seed of the redraws")
    worst: int = Field(10, ge=0, description="how many disputed items to list")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


def run(config: Config) -> dict[str, Any]:
    """Measure and return everything; `text` says the same for people.

    Raises:
        BadInput: A file cannot be read, no judgement in it names its annotator, or two of an item do not fit.
    """
    path = runs.find_data(config.file, "comparisons") if runs.has_data(config.file, "comparisons") else config.file
    found = _read(Path(path), config)
    said, rows = _judgements(found.rows.rows)
    if not said:
        raise BadInput(f"{config.file}: no comparison, rating or thumb names its annotator: add a field annotator")
    gold = None if config.gold is None else _gold(_read(config.gold, config).rows.rows)
    scores = None if config.reward is None else _scores(config.reward, rows)
    told = report(said, gold, scores, seed=config.seed, resamples=config.resamples, worst=config.worst)
    row_of = dict(zip((one.item for one in said), rows, strict=True))
    biases = {"position_bias": quality.position_bias(said), "length_bias": quality.length_bias(said)}
    facts: dict[str, Any] = {
        "file": config.file,
        "bad": len(found.rows.bad),
        "left_out": found.left_out,
        **asdict(told),
        **{name: None if bias is None else asdict(bias) for name, bias in biases.items()},
        "suspects": [asdict(one) for one in quality.suspects(said, gold, config.spam)],
    }
    for item in facts["disagreements"]:
        item["prompt"] = row_of[item["item"]].prompt[-1].content
    return {**facts, "text": "\n".join(_text(facts, told, biases))}


def _read(path: Path, config: Config) -> Imported:
    columns = Columns(prompt=config.prompt, answers=config.answers, labels=config.labels)
    return load(path, columns=columns, predictions=config.predictions, max_bad_rows=config.max_bad_rows)


def _judgements(rows: Sequence[Row]) -> tuple[list[Judgement], list[Comparison | Rating | Thumb]]:
    """The judgements that name their annotator, and the row of each."""
    judged = [row for row in rows if isinstance(row, Comparison | Rating | Thumb) and row.annotator is not None]
    return judgements_of(judged), judged


def _gold(rows: Sequence[Row]) -> dict[str, Value]:
    """The right value of each item, whoever gave it."""
    judged = [row for row in rows if isinstance(row, Comparison | Rating | Thumb)]
    if not judged:
        raise BadInput("gold: the file holds no comparison, rating or thumb")
    named = [row.model_copy(update={"annotator": "gold"}) for row in judged]
    return {one.item: one.value for one in judgements_of(named)}


def _scores(path: str, rows: Sequence[Comparison | Rating | Thumb]) -> dict[str, float | tuple[float, ...]]:
    """A reward model's scores of every answer, by item, in the order in which judgements count the answers."""
    asked = list(dict.fromkeys((row.prompt, text) for row in rows for text in _texts(row)))
    score = dict(zip(asked, _rewards(path, asked), strict=True))
    found: dict[str, float | tuple[float, ...]] = {}
    for one, row in zip(judgements_of(rows), rows, strict=True):
        values = tuple(score[row.prompt, text] for text in sorted(_texts(row)))
        found[one.item] = values if isinstance(row, Comparison) else values[0]
    return found


def _texts(row: Comparison | Rating | Thumb) -> list[str]:
    return [answer.text for answer in row.answers] if isinstance(row, Comparison) else [row.answer.text]


def _rewards(path: str, asked: Sequence[Asked]) -> list[float]:
    # Torch takes seconds to import, and only this needs it.
    from heedlm.models.chat import Chat
    from heedlm.models.tokenizer import load_tokenizer
    from heedlm.records import Prompt
    from heedlm.rewards import Episodes, Learned
    from heedlm.train.batching import Row as Tokens
    from heedlm.train.ranking import as_rollouts

    chat = Chat(load_tokenizer(runs.find_model(path)))
    source = Learned(path=path).open(chat)
    found: list[float] = []
    for start in range(0, len(asked), 256):
        some = asked[start : start + 256]
        heads = [chat.prompt_ids(prompt) for prompt, _ in some]
        tails = [chat.response_ids(text) for _, text in some]
        given = [
            Tokens(head + tail, [False] * len(head) + [True] * len(tail))
            for head, tail in zip(heads, tails, strict=True)
        ]
        prompts = [Prompt(messages=prompt) for prompt, _ in some]
        found += source.score(Episodes(prompts, [text for _, text in some], as_rollouts(given))).total.tolist()
    return found


# ---------------------------------------------------------------------------------------------- for people


def _text(facts: Mapping[str, Any], told: Report, biases: Mapping[str, quality.Bias | None]) -> Iterator[str]:
    yield printable(facts["file"])
    if facts["bad"] or facts["left_out"]:
        reasons = {"bad rows": facts["bad"], **facts["left_out"]}
        yield f"  left out       {', '.join(f'{count} {reason}' for reason, count in reasons.items() if count)}"
    for kind, measured in told.overall.items():
        yield from _overall(kind, measured)
        for name, parts in (("project", told.projects), ("group", told.groups)):
            for part, kinds in parts.items():
                if kind in kinds:
                    yield f"    {name} {printable(part)}: {_brief(kinds[kind])}"
        for one, two, line in told.between_groups.get(kind, []):
            yield f"    {printable(one)} with {printable(two)}: {_share(line)} over {line.compared:,} comparisons"
    yield from _people(told.people)
    if (position := biases["position_bias"]) is not None:
        yield (
            f"  shown first    chosen in {_interval(position.share)} of {position.n:,} judgements; chance gives "
            f"{_percent(position.expected)} (p = {position.p_value:.2g})"
        )
    if (length := biases["length_bias"]) is not None:
        yield f"  longer answer  better in {_interval(length.share)} of {length.n:,} pairs (p = {length.p_value:.2g})"
    yield from _suspects(facts["suspects"])
    yield from _disputed(facts["disagreements"])


def _overall(kind: str, measured: Agreement) -> Iterator[str]:
    yield (
        f"  {kind + 's':<14} {measured.judgements:,} by {measured.annotators} annotators; {measured.items:,} items "
        f"judged by two or more, {measured.compared:,} comparisons"
    )
    if not measured.compared:
        yield "    nothing was judged by two annotators: agreement is not defined"
        return
    ties = measured.percent_with_ties
    with_ties = f"; ties counted {_interval(ties)}" if ties is not None else ""
    yield f"    agreement            {_interval(measured.percent)}{with_ties}"
    yield f"    Cohen's kappa        {_plain(measured.cohen)}"
    yield f"    Fleiss' kappa        {_interval(measured.fleiss, share=False)}"
    for metric, value in measured.alpha.items():
        yield f"    alpha, {metric:<13} {_interval(value, share=False)}"


def _brief(measured: Agreement) -> str:
    value = measured.alpha["nominal"]
    return f"{_interval(measured.percent)}, alpha {_interval(value, share=False)}, {measured.items:,} items"


def _people(people: Sequence[Person]) -> Iterator[str]:
    columns = ["others", "kappa"]
    columns += ["gold"] if any(person.gold for person in people) else []
    columns += ["model"] if any(person.model for person in people) else []
    yield f"  {'annotator':<24} {'kind':<8} {'judged':>7} " + " ".join(f"{name:>8}" for name in columns)
    for person in sorted(people, key=lambda person: (person.kind, person.annotator)):
        values = {
            "others": _share(person.others),
            "kappa": _plain(person.others.kappa),
            "gold": _share(person.gold),
            "model": _share(person.model),
        }
        cells = " ".join(f"{values[name]:>8}" for name in columns)
        yield f"    {printable(person.annotator)[:22]:<22} {person.kind:<8} {person.judgements:>7,} {cells}"


def _suspects(suspects: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not suspects:
        yield "  careless       nobody stands out"
    for one in suspects:
        yield f"  careless?      {printable(one['annotator'])}: {printable('; '.join(one['reasons']))}"


def _disputed(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if items:
        yield "  disputed       share of pairs of annotators who differ, and the prompt"
    for item in items:
        yield f"    {item['share']:>6.1%} of {len(item['said'])}  {printable(item['prompt'])[:80]}"


def _interval(value: Interval | None, share: bool = True) -> str:
    if value is None:
        return "not defined"
    if share:
        return f"{_percent(value.estimate)} ({100 * value.low:.1f} to {100 * value.high:.1f})"
    return f"{value.estimate:.3f} ({value.low:.3f} to {value.high:.3f})"


def _share(line: Line | None) -> str:
    return "–" if line is None or line.share is None else _percent(line.share)


def _plain(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
