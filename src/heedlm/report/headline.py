"""The figures on top: what the run achieved, each with its interval where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedlm.report.series import Series
from heedlm.report.source import Source
from heedlm.report.words import as_number, count, duration, number, percent
from heedlm.runs import RunInfo


@dataclass(frozen=True)
class Tile:
    """One figure: what it is, its value, and a line of context."""

    label: str
    value: str
    context: str = ""


@dataclass(frozen=True)
class Bar:
    """An interval drawn against 50 %: all numbers in percent; `main` marks the one that counts."""

    label: str
    detail: str
    rate: float
    low: float
    high: float
    main: bool = False
    matched: bool = False

    @property
    def text(self) -> str:
        """The interval in figures."""
        return f"{self.rate:.1f} % ({self.low:.1f} to {self.high:.1f})"


@dataclass(frozen=True)
class Headline:
    """Verdict in one sentence, figures, interval bars, and the table behind them."""

    sentence: str
    tiles: list[Tile]
    bars: list[Bar]
    columns: list[str]
    rows: list[list[str]]
    bar_title: str = "Win rate"
    bar_note: str = ""


def headline(source: Source, series: Mapping[str, Series]) -> Headline:
    """The headline of a run: its own results, or those of the newest evaluation that measured it."""
    results, measured = source.results, source.measured
    settings = [row for row in _list(results.get("settings")) if _is_rate(row.get("win_rate"))]
    if not settings and _is_rate(results.get("win_rate")):
        settings = [{"name": "win rate", "counts": True, **results}]
    accuracy = results.get("accuracy")
    tiles = list(_tiles(results, series, source))
    if settings:
        return Headline(
            _win_sentence(settings, _rival(measured.info if measured else source.info)),
            tiles,
            list(_bars(settings)),
            *_settings_table(settings),
            bar_note=_decided(results) + (f" Measured in evaluate/{measured.name}." if measured else ""),
        )
    if isinstance(accuracy, Mapping) and _is_interval(accuracy.get("accuracy")):
        bar = _accuracy_bar(accuracy)
        sentence = (
            f"Orders {bar.rate:.1f}\u202f% of held-out pairs as people did "
            f"(95\u202f% interval {bar.low:.1f} to {bar.high:.1f}).{_advice(results)}"
        )
        return Headline(sentence, tiles, [bar], *_bins_table(accuracy), bar_title="Held-out accuracy")
    return Headline(_plain_sentence(results, series, source), tiles, [], [], [])


def _advice(results: Mapping[str, Any]) -> str:
    """Whether PPO should start, and why not."""
    found = results.get("advice")
    line = found.get("line") if isinstance(found, Mapping) else None
    return f" {line}" if isinstance(line, str) else ""


def _win_sentence(settings: Sequence[Mapping[str, Any]], rival: str) -> str:
    row = next((row for row in settings if row.get("counts")), settings[-1])
    rate = row["win_rate"]
    low, high = 100 * rate["low"], 100 * rate["high"]
    verdict = "Better than" if low > 50 else "Worse than" if high < 50 else "Not told apart from"
    prompts = f" on {rate['n']} prompts" if isinstance(rate.get("n"), int) else ""
    return f"{verdict} {rival}: win rate {percent(rate['rate'])}{prompts} (95\u202f% interval {low:.1f} to {high:.1f})."


def _rival(info: RunInfo) -> str:
    """What the measured model was compared with."""
    for item in info.inputs:
        if item.role in ("against", "reference", "baseline"):
            return item.run or item.path
    return "the model it is compared with"


def _plain_sentence(results: Mapping[str, Any], series: Mapping[str, Series], source: Source) -> str:
    if as_number(results.get("held_out_loss")) is not None:
        step = results.get("best_step")
        at = f" at step {step}, whose weights were kept" if isinstance(step, int) else ""
        return f"Lowest held-out loss {number(results['held_out_loss'])} nats{at}."
    reward, wins = series.get("reward/mean"), series.get("watch/win_rate")
    if reward is not None and reward.values:
        steps = number(reward.steps[-1])
        change = f"eward went from {number(reward.start())} to {number(reward.end())} in {steps} steps"
        if wins is not None and wins.values:
            return f"Wins {percent(wins.last)} of the watched prompts against its start by gold score; r{change}."
        return f"R{change}."
    if source.info.outputs:
        made = ", ".join(
            f"{output.role.replace('_', ' ')}" + (f" ({output.rows} rows)" if output.rows is not None else "")
            for output in source.info.outputs
        )
        return f"Made: {made}."
    return "This run recorded no figures."


def _tiles(results: Mapping[str, Any], series: Mapping[str, Series], source: Source) -> Iterator[Tile]:
    """At most eight figures; each kind of run has those that matter to it."""
    counting: Mapping[str, Any] = next((row for row in _list(results.get("settings")) if row.get("counts")), {})
    for key, label in (("gold", "Gold score"), ("length", "Answer length")):
        ours, theirs = as_number(counting.get(key)), as_number(counting.get(f"other_{key}"))
        if ours is not None:
            yield Tile(label, number(ours), f"against {number(theirs)}" if theirs is not None else "")
    kl = as_number(results.get("kl_nats"))
    if kl is not None:
        token = as_number(results.get("kl_nats_per_token"))
        yield Tile("KL", number(kl), "nats an answer" + (f", {number(token)} a token" if token is not None else ""))
    elif "kl/mean_nats" in series and series["kl/mean_nats"].values:
        yield Tile("KL", number(series["kl/mean_nats"].end()), "nats an answer, last steps")
    ours, theirs = _mean(results.get("reward")), _mean(results.get("reward_against"))
    if ours is not None:
        yield Tile("Reward", number(ours), f"against {number(theirs)}" if theirs is not None else "")
    elif "reward/mean" in series and series["reward/mean"].values:
        reward = series["reward/mean"]
        yield Tile("Reward", number(reward.end()), f"from {number(reward.start())}")
    yield from _model_tiles(results, source.info.stage)
    if source.metrics:
        yield Tile("Steps", number(max((each.steps[-1] for each in series.values() if each.steps), default=0.0)))
    seconds = source.info.seconds
    if source.info.status == "running" and "seconds" in series and series["seconds"].values:
        seconds = series["seconds"].last
    yield Tile("Time", duration(seconds), _memory(source))


def _model_tiles(results: Mapping[str, Any], stage: str) -> Iterator[Tile]:
    loss, perplexity = as_number(results.get("held_out_loss")), as_number(results.get("perplexity"))
    if loss is not None:
        per = {"reward": "nats a prompt", "prefer": "a pair or answer"}.get(stage, "nats a token")
        yield Tile("Held-out loss", number(loss), per)
    if perplexity is not None:
        theirs = as_number(results.get("perplexity_against"))
        yield Tile("Perplexity", number(perplexity), f"against {number(theirs)}" if theirs is not None else "")
    accuracy = results.get("accuracy")
    if isinstance(accuracy, Mapping) and as_number(accuracy.get("ece")) is not None:
        yield Tile("Calibration error", number(accuracy["ece"]), "0 is perfect")
    judge, ceiling = as_number(results.get("reward_model_accuracy")), as_number(results.get("reward_model_ceiling"))
    if judge is not None:
        best = f"at best {percent(ceiling)}" if ceiling is not None else "held out"
        yield Tile("Reward model", percent(judge), f"held-out accuracy, {best}")
    gap = as_number(results.get("gap_to_ceiling"))
    if gap is not None:
        yield Tile("Gap to the ceiling", f"{number(100 * gap)} points", "best possible minus reached")
    parameters = as_number(results.get("parameters"))
    if parameters is not None:
        yield Tile("Parameters", count(parameters))


def _bars(settings: Sequence[Mapping[str, Any]]) -> Iterator[Bar]:
    for row in settings:
        yield _bar(row["win_rate"], str(row.get("name", "")), _temperatures(row), bool(row.get("counts")))
        matched = row.get("length_matched")
        if isinstance(matched, Mapping) and _is_rate(matched):
            yield _bar(
                matched, "of similar length", f"{matched.get('n', '?')} prompts, ratio 0.8 to 1.25", matched=True
            )


def _bar(rate: Mapping[str, Any], label: str, detail: str, main: bool = False, matched: bool = False) -> Bar:
    low, high = 100 * float(rate["low"]), 100 * float(rate["high"])
    return Bar(label, detail, 100 * float(rate["rate"]), low, high, main, matched)


def _temperatures(row: Mapping[str, Any]) -> str:
    ours, theirs = as_number(row.get("temperature")), as_number(row.get("other_temperature"))
    if ours is None:
        return ""
    if theirs is None or theirs == ours:
        return ""
    return " against ".join("greedy" if each == 0 else f"temperature {each:g}" for each in (ours, theirs))


def _settings_table(settings: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    columns = ["setting", "win rate", "95 % interval", "win / tie / lose", "similar length", "tokens", "gold"]
    rows = []
    for row in settings:
        rate, matched = row["win_rate"], row.get("length_matched") or {}
        rows.append(
            [
                str(row.get("name", "")) + (" (counts)" if row.get("counts") else ""),
                f"{100 * rate['rate']:.1f} %",
                f"{100 * rate['low']:.1f} to {100 * rate['high']:.1f}",
                " / ".join(str(rate.get(key, "–")) for key in ("wins", "ties", "losses")),
                f"{100 * matched['rate']:.1f} % of {matched.get('n', '?')}" if _is_rate(matched) else "–",
                _against(row, "length"),
                _against(row, "gold"),
            ]
        )
    return columns, rows


def _against(row: Mapping[str, Any], key: str) -> str:
    ours, theirs = as_number(row.get(key)), as_number(row.get(f"other_{key}"))
    if ours is None:
        return "–"
    return number(ours) if theirs is None else f"{number(ours)} against {number(theirs)}"


def _accuracy_bar(accuracy: Mapping[str, Any]) -> Bar:
    interval = accuracy["accuracy"]
    prompts = accuracy.get("prompts")
    detail = f"{interval.get('n', '?')} pairs" + (f" of {prompts} prompts" if prompts is not None else "")
    rate, low, high = (100 * float(interval[key]) for key in ("estimate", "low", "high"))
    return Bar("accuracy", detail, rate, low, high, main=True)


def _bins_table(accuracy: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Accuracy by certainty, by length difference, by criterion and by source."""
    rows = []
    for key, what in (("by_margin", "margin"), ("by_length", "length difference")):
        for each in _list(accuracy.get(key)):
            if each.get("n"):
                span = f"{number(float(each['low']))} to {number(float(each['high']))}"
                rows.append([f"{what} {span}", str(each["n"]), f"{100 * float(each['accuracy']):.1f} %"])
    for key, what in (("by_criterion", "criterion"), ("by_source", "source")):
        parts = accuracy.get(key)
        for name, each in parts.items() if isinstance(parts, Mapping) else ():
            rows.append([f"{what} {name}", str(each["n"]), f"{100 * float(each['accuracy']):.1f} %"])
    return ["pairs with", "pairs", "accuracy"], rows


def _decided(results: Mapping[str, Any]) -> str:
    by = results.get("decided_by")
    names = {"gold": "the village's gold score", "learned": "a reward model", "local": "a local judge"}
    return f"Decided by {names.get(str(by), str(by))}." if by else ""


def _memory(source: Source) -> str:
    peak = source.info.peak_mib
    return f"peak {peak / 1024:.2f} GiB" if peak else ""


def _list(value: Any) -> list[Any]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _is_rate(value: Any) -> bool:
    return isinstance(value, Mapping) and all(as_number(value.get(key)) is not None for key in ("rate", "low", "high"))


def _is_interval(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        as_number(value.get(key)) is not None for key in ("estimate", "low", "high")
    )


def _mean(value: Any) -> float | None:
    return as_number(value.get("mean")) if isinstance(value, Mapping) else as_number(value)
