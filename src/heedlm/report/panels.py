"""Which curves belong into one chart, what they are called, and what a reader should know about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from heedlm.report.series import Series, throughput


@dataclass(frozen=True)
class Line:
    """One curve of a chart: the metric it draws and its name in the legend."""

    key: str
    label: str


@dataclass(frozen=True)
class Panel:
    """One chart. `band` names two metrics whose range is shaded; `level` draws a line to compare with."""

    group: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    note: str = ""
    band: tuple[str, str] | None = None
    level: float | None = None

    def metrics(self) -> set[str]:
        """All metrics the chart uses."""
        return {line.key for line in self.lines} | set(self.band or ())


GROUPS = (
    "Outcome",
    "Reward",
    "KL",
    "Length and text",
    "Perplexity and entropy",
    "Loss",
    "Optimiser",
    "Throughput",
    "Other",
)


def _panel(
    group: str,
    title: str,
    unit: str,
    lines: dict[str, str],
    note: str = "",
    band: tuple[str, str] | None = None,
    level: float | None = None,
) -> Panel:
    return Panel(group, title, unit, tuple(Line(key, label) for key, label in lines.items()), note, band, level)


KNOWN = (
    _panel(
        "Outcome",
        "Win rate over the start",
        "share",
        {"watch/win_rate": "by gold score", "watch/win_rate_by_reward": "by training reward"},
        "On watched prompts. Where the reward wins ever more and the gold score does not, the reward is being gamed.",
        ("watch/win_rate_low", "watch/win_rate_high"),
        0.5,
    ),
    _panel("Outcome", "Gold score", "0 to 1", {"watch/gold": "watched prompts"}),
    _panel("Outcome", "Accuracy", "share of pairs", {"accuracy": "training", "accuracy/held_out": "held out"}),
    _panel("Reward", "Reward", "reward units", {"reward/mean": "rollouts", "watch/reward": "watched prompts"}),
    _panel(
        "Reward",
        "Spread of the reward",
        "reward units",
        {"reward/p50": "median"},
        "The shade runs from the 1st to the 99th percentile. A widening top is an early sign of collapse.",
        ("reward/p01", "reward/p99"),
    ),
    _panel("Reward", "Shaped reward", "reward units", {"reward/shaped_mean": "normalised and clipped"}),
    _panel("Reward", "Scores", "reward units", {"score_mean": "mean", "difference": "better minus worse"}),
    _panel("Reward", "Reward deviation", "reward units", {"reward/std": "standard deviation"}),
    _panel(
        "KL",
        "KL from the reference",
        "nats an answer",
        {"kl/mean_nats": "k1"},
        "How far the policy has moved. One negative sample is normal, a negative mean is not.",
    ),
    _panel("KL", "KL a token", "nats a token", {"kl/token_nats": "k1", "kl/k3_token_nats": "k3"}),
    _panel("KL", "KL coefficient", "β", {"kl/coef": "β"}),
    _panel("Length and text", "Length", "tokens", {"length/mean": "rollouts", "watch/length": "watched prompts"}),
    _panel(
        "Length and text",
        "Cut at the limit",
        "share of answers",
        {"length/truncated": "without an end"},
        "Answers that run into the limit are the commonest sign of a policy that has forgotten how to end.",
    ),
    _panel(
        "Perplexity and entropy",
        "Perplexity of the answers",
        "",
        {"perplexity/policy": "policy", "perplexity/reference": "reference"},
        "Falling towards 1 means that the policy always says the same.",
    ),
    _panel(
        "Perplexity and entropy",
        "Loss of the answers",
        "nats a token",
        {"nll/policy": "policy", "nll/reference": "reference"},
    ),
    _panel("Perplexity and entropy", "Perplexity of held-out text", "", {"perplexity/held_out": "held out"}),
    _panel("Perplexity and entropy", "Entropy", "nats a token", {"entropy/mean": "policy"}),
    _panel("Length and text", "Different word pairs", "share", {"text/distinct_2": "distinct-2"}),
    _panel("Length and text", "Repeated runs of four words", "share", {"text/repetition_4": "within an answer"}),
    _panel("Loss", "Loss", "nats", {"loss/train": "training", "loss/held_out": "held out"}),
    _panel(
        "Loss",
        "Policy loss",
        "",
        {"loss/policy": "policy"},
        "It says nothing about success; watch KL and length instead.",
    ),
    _panel("Loss", "Value loss", "", {"loss/value": "critic"}),
    _panel("Loss", "Loss on the pretraining mix", "nats a token", {"loss/mix": "mix"}),
    _panel(
        "Loss",
        "Value and return",
        "reward units",
        {"critic/value_mean": "value", "critic/return_mean": "return"},
    ),
    _panel("Loss", "Error of the values", "squared", {"critic/value_error": "critic"}),
    _panel("Loss", "Explained variance", "share", {"critic/explained_variance": "critic"}, level=0.0),
    _panel(
        "Optimiser",
        "Gradient norm",
        "",
        {"grad_norm": "model", "policy/grad_norm": "policy", "critic/grad_norm": "critic"},
    ),
    _panel("Optimiser", "Learning rate", "", {"lr": "model", "policy/lr": "policy", "critic/lr": "critic"}),
    _panel("Optimiser", "Ratio", "", {"policy/ratio": "new to old policy"}, level=1.0),
    _panel(
        "Optimiser",
        "Clipped share",
        "share of tokens",
        {"policy/clip_fraction": "policy", "critic/clip_fraction": "critic", "critic/value_clip_fraction": "critic"},
    ),
    _panel("Optimiser", "Approximate KL of an update", "nats a token", {"policy/approx_kl": "old to new"}),
    _panel("Optimiser", "Sampler against trainer", "nats a token", {"gap/engine_trainer": "mean difference"}),
    _panel("Throughput", "Throughput", "tokens a second", {"tokens a second": "tokens a second"}),
    _panel(
        "Throughput",
        "Time of a step",
        "seconds",
        {"time/collect_seconds": "collecting", "time/learn_seconds": "learning"},
    ),
)
_PREFIX_GROUP = {
    "reward": "Reward",
    "watch": "Outcome",
    "accuracy": "Outcome",
    "kl": "KL",
    "length": "Length and text",
    "text": "Length and text",
    "perplexity": "Perplexity and entropy",
    "nll": "Perplexity and entropy",
    "entropy": "Perplexity and entropy",
    "loss": "Loss",
    "policy": "Optimiser",
    "critic": "Optimiser",
    "time": "Throughput",
}
# A clock, a counter shown as throughput, and what the losses show already.
_NOT_DRAWN = {"seconds", "tokens", "nll", "policy/nll"}


def arrange(series: Mapping[str, Series]) -> dict[str, list[tuple[Panel, dict[str, Series]]]]:
    """Charts by group, in reading order; a metric nobody named here gets a chart of its own under its prefix."""
    known = {key: each for key, each in series.items() if each.values}
    speed = throughput(series)
    if speed is not None:
        known[speed.key] = speed
    groups: dict[str, list[tuple[Panel, dict[str, Series]]]] = {group: [] for group in GROUPS}
    used = {key for key in known if key in _NOT_DRAWN or key.startswith("first/")}
    for panel in KNOWN:
        lines = tuple(line for line in panel.lines if line.key in known)
        if not lines:
            continue
        band = panel.band if panel.band and all(key in known for key in panel.band) else None
        shown = replace(panel, lines=lines, band=band)
        used |= panel.metrics()
        groups[panel.group].append((shown, {key: known[key] for key in sorted(shown.metrics())}))
    for key in known:
        if key not in used:
            prefix, _, name = key.partition("/")
            group = _PREFIX_GROUP.get(prefix, "Other")
            title = (name or prefix).replace("_", " ").replace("/", " ")
            single = Panel(group, f"{title[:1].upper()}{title[1:]}", "", (Line(key, key),))
            groups[group].append((single, {key: known[key]}))
    return {group: charts for group, charts in groups.items() if charts}
