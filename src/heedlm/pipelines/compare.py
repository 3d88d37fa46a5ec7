"""Compare: several ways to learn from the same feedback, each tuned alike, each over several seeds, measured alike.

Every method gets the same number of tries at its learning rate, judged on development prompts with the first seed;
the rate that wins there is trained with every seed and measured on test prompts that nothing was chosen by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from types import ModuleType
from typing import Any

from pydantic import Field, PositiveInt, field_validator

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput, Collapsed, NotFinite
from heedlm.evals.student import quantile_975
from heedlm.models.compute import find_device
from heedlm.pipelines.chain import Chain, check_settings, check_source, merged
from heedlm.report import forest, write_report
from heedlm.runs import Input, Run
from heedlm.stages import best_of_n, evaluate, prefer, rl, sft

FACTORS = (1.0, 2.0, 0.5, 4.0, 0.25, 8.0, 0.125)  # of the preset's learning rate, in the order they are tried


@dataclass(frozen=True)
class Method:
    """One way to learn: a stage and what makes it this method."""

    stage: str
    preset: str | None = None
    words: Mapping[str, Any] | None = None


METHODS: dict[str, Method] = {
    "dpo": Method("prefer", words={"objective": {"name": "dpo"}}),
    "cdpo": Method("prefer", words={"objective": {"name": "dpo", "label_smoothing": 0.1}}),
    "robust_dpo": Method("prefer", words={"objective": {"name": "dpo", "label_smoothing": 0.1, "smoothing": "robust"}}),
    "ipo": Method("prefer", words={"objective": {"name": "ipo"}}),
    "kto": Method("prefer", words={"objective": {"name": "kto"}}),
    "orpo": Method("prefer", words={"objective": {"name": "orpo"}}),
    "simpo": Method("prefer", words={"objective": {"name": "simpo"}}),
    "ppo": Method("ppo", "ppo_max"),
    "rloo": Method("ppo", "rloo"),
    "grpo": Method("ppo", "grpo"),
    "dr_grpo": Method("ppo", "dr_grpo"),
    "dapo": Method("ppo", "dapo"),
    "reinforce_pp": Method("ppo", "reinforce_pp"),
    "online_dpo": Method("ppo", "online_dpo"),
    "rejection": Method("sft"),
}
STAGES: dict[str, ModuleType] = {"prefer": prefer, "ppo": rl, "best_of_n": best_of_n, "sft": sft, "evaluate": evaluate}


class Config(StageConfig):
    """Settings of a comparison; each stage's own go under its name, as in ppo.steps=100."""

    model: str = Field(description="policy that every method starts from, usually the SFT run")
    data: str | None = Field(None, description="comparisons, for methods without a reward model: a file or a label run")
    reward: str | None = Field(None, description="reward run or rule, for the others")
    prompts: str = Field(description="a run with prompts, prompts_dev and prompts_test, such as a village run")
    methods: tuple[str, ...] = Field(tuple(METHODS), description="which methods; all by default")
    seeds: PositiveInt = Field(3, description="seeds each method is trained with, from 0 on")
    tries: PositiveInt = Field(3, le=len(FACTORS), description="learning rates each method may try")
    judge: str | None = Field(None, description="who decides: gold by default (village only), a reward run, a rule")
    preset: str | None = Field("tiny", description="preset that every stage starts from")
    device: Device = "auto"
    prefer: dict[str, Any] = Field({}, description="settings of preference training")
    ppo: dict[str, Any] = Field({}, description="settings of the methods that sample")
    best_of_n: dict[str, Any] = Field({}, description="settings of sampling for rejection")
    sft: dict[str, Any] = Field({}, description="settings of fine-tuning on what was kept")
    evaluate: dict[str, Any] = Field({}, description="settings of evaluation")

    @field_validator("methods", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for name in methods:
            if name not in METHODS:
                raise ValueError(f"{name!r} is none of {', '.join(METHODS)}")
        return methods


@dataclass(frozen=True)
class Measured:
    """One trained model on the test prompts."""

    seed: int
    win_rate: float
    se: float
    gold: float | None
    proxy: float | None
    kl: float
    length: float
    seconds: float
    tokens: float
    run: str


def run(config: Config, resume: Path | None = None) -> Run:
    """Tune, train and measure every method; the table is in the run's results and in `comparison.svg`.

    Raises:
        BadInput: A method lacks what it learns from, or a setting is wrong.
    """
    _check(config)
    find_device(config.device)
    overrides = {name: getattr(config, name) for name in STAGES}
    check_settings(STAGES, config.preset, overrides)
    given = {"model": config.model, "comparisons": config.data, "reward": config.reward, "prompts": config.prompts}
    inputs = [Input(role, path) for role, path in given.items() if path and Path(path).exists()]
    this = Run.resume(resume) if resume else Run.create("compare", config, inputs)
    with this:
        common = {key: getattr(config, key) for key in ("threads", "device", "tensorboard")}
        contest = _Contest(config, Chain(this, config.preset, common, {}))
        table = {}
        for name in config.methods:
            table[name] = contest.of(name)
            this.note(methods=table, seeds=config.seeds, tries=config.tries)  # what is known so far survives a stop
        rows = [
            forest.Row(name, row["win_rate"], row["low"], row["high"], [one["win_rate"] for one in row["runs"]])
            for name, row in _best_first(table)
            if row["runs"]
        ]
        drawing = this.path / "comparison.svg"
        drawing.write_text(forest.draw(rows, "win rate over the model all started from, %"), encoding="utf-8")
        this.add_output("picture", drawing)
    write_report(this.path)
    return this


def describe(done: Run) -> str:
    """The table for people, best first."""
    table = done.info.results["methods"]
    head = f"{'method':<14}{'win rate, %':>20}{'gold':>8}{'reward':>9}{'KL':>7}{'length':>8}"
    head += f"{'time, s':>9}{'tokens':>9}{'rate':>10}"
    lines = [head]
    for name, row in _best_first(table):
        if not row["runs"]:
            lines.append(f"{name:<14}{'failed':>20}  {row['failed'][0]}")
            continue
        rate = f"{100 * row['win_rate']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        gold = "" if row["gold"] is None else f"{row['gold']:.3f}"
        proxy = "" if row["proxy"] is None else f"{row['proxy']:.2f}"
        lines.append(
            f"{name:<14}{rate:>20}{gold:>8}{proxy:>9}{row['kl']:>7.2f}{row['length']:>8.1f}{row['seconds']:>9.0f}"
            f"{row['tokens'] / 1e6:>8.2f}M{row['rate']:>10.2g}"
        )
    lines.append(f"picture: {done.path / 'comparison.svg'}")
    return "\n".join(lines)


def _best_first(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Methods by their win rate; those whose training failed with every seed have none and come last."""
    return sorted(table.items(), key=lambda item: -(item[1]["win_rate"] or 0.0))


class _Contest:
    """Trains and measures methods inside one chain."""

    def __init__(self, config: Config, chain: Chain) -> None:
        self.config = config
        self.chain = chain

    def of(self, name: str) -> dict[str, Any]:
        """One method: its rate chosen, then every seed."""
        rate, tried = self.tune(name)
        found: list[Measured] = []
        failed: list[str] = []
        for seed in range(self.config.seeds):
            try:
                found.append(self.measure(name, seed, rate))
            except (Collapsed, NotFinite) as error:
                failed.append(f"seed {seed}: {error}")
        return {"rate": rate, "tried": tried, "failed": failed, **summary(found)}

    def tune(self, name: str) -> tuple[float, dict[str, float | None]]:
        """The learning rate with the best win rate on development prompts, first seed; None: training failed."""
        base = self._rate(name)
        if self.config.tries == 1:
            return base, {}
        tried: dict[float, float | None] = {}
        for factor in FACTORS[: self.config.tries]:
            rate = float(f"{base * factor:.3g}")
            try:
                trained = self.train(name, 0, rate)
                place = f"{name}/dev-{rate:g}"
                settings = {"role": "prompts_dev", "temperatures": [1.0]}
                tried[rate] = self._evaluated(trained, place, settings)["settings"][0]["win_rate"]["rate"]
            except (Collapsed, NotFinite):
                tried[rate] = None
        known = {rate: value for rate, value in tried.items() if value is not None}
        best = max(known, key=lambda rate: known[rate]) if known else base
        return best, {f"{rate:g}": value for rate, value in tried.items()}

    def train(self, name: str, seed: int, rate: float) -> Run:
        """The trained policy; taken as it lies there if it was trained before."""
        method = METHODS[name]
        place = f"{name}/seed-{seed}-rate-{rate:g}"
        model, optim = {"model": self.config.model, "seed": seed}, {"optim": {"lr": rate}}
        asked = {**model, "reward": self.config.reward, "prompts": self.config.prompts}
        if method.stage == "prefer":
            given = {**model, "data": self.config.data}
        elif method.stage == "ppo":
            given = {**asked, **self._mix(method)}
        else:
            kept = self._do("best_of_n", asked, place=f"{name}/seed-{seed}")
            given = {**model, "data": str(kept.path)}
        presets = (method.preset,) if method.preset else ()
        return self._do(method.stage, merged(given, method.words or {}), optim, place=place, presets=presets)

    def _do(self, stage: str, *settings: Mapping[str, Any], place: str, presets: Sequence[str] = ()) -> Run:
        """Run a stage; the user's settings come after the first ones and before the last, which were tuned."""
        first, *last = settings
        found = merged(first, getattr(self.config, stage), *last)
        return self.chain.do(STAGES[stage], stage, found, place=place, presets=presets)

    def _mix(self, method: Method) -> dict[str, Any]:
        """PPO-max mixes pretraining text in, where the prompts' run has some."""
        if method.preset != "ppo_max":
            return {}
        try:
            runs.find_data(self.config.prompts, "corpus")
        except BadInput:
            return {}
        return {"mix": {"data": self.config.prompts}}

    def measure(self, name: str, seed: int, rate: float) -> Measured:
        """Train with a seed and measure on the test prompts."""
        trained = self.train(name, seed, rate)
        results = self._evaluated(trained, f"{name}/test-{seed}", {})
        counted = next(row for row in results["settings"] if row["counts"])
        plain = results["settings"][0]
        proxy = results.get("reward", {})
        return Measured(
            seed=seed,
            win_rate=counted["win_rate"]["rate"],
            se=counted["win_rate"]["se"],
            gold=plain.get("gold"),
            proxy=proxy.get("mean") if isinstance(proxy, dict) else None,
            kl=results["kl_nats"],
            length=plain["length"],
            seconds=trained.info.seconds + self._sampled(name, seed, "seconds"),
            tokens=sum(row.get("tokens", 0.0) for row in trained.read_metrics()) + self._sampled(name, seed, "tokens"),
            run=str(trained.path),
        )

    def _sampled(self, name: str, seed: int, what: str) -> float:
        """What rejection's sampling cost before its fine-tuning."""
        for path in (self.chain.run.path / f"{name}/seed-{seed}/best_of_n").glob("*/run.json"):
            found = Run.open(path.parent)
            return found.info.seconds if what == "seconds" else float(found.info.results.get("tokens", 0.0))
        return 0.0

    def _evaluated(self, trained: Run, place: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        given = {"model": str(trained.path), "against": self.config.model, "prompts": self.config.prompts, **settings}
        if self.config.judge:
            given["judge"] = self.config.judge
        if self.config.reward:
            given["reward"] = self.config.reward
        return self._do("evaluate", given, place=place).info.results

    def _rate(self, name: str) -> float:
        """The learning rate that the presets give, or the user's."""
        method = METHODS[name]
        stage = STAGES[method.stage]
        needed = {key: "later" for key, info in stage.Config.model_fields.items() if info.is_required()}
        presets = (method.preset,) if method.preset else ()
        given = merged(needed, method.words or {}, getattr(self.config, method.stage))
        config = self.chain.configure(stage, method.stage, given, presets=presets)
        return float(config.optim.lr)


def summary(found: Sequence[Measured]) -> dict[str, Any]:
    """Means over the seeds. The interval of the win rate adds what seeds and what prompts leave open.

    Between seeds it is Student's (n − 1 degrees of freedom); the prompts are the same for all seeds, so their error
    does not shrink with more of them. The two are added as variances.
    """
    if not found:
        return {"win_rate": None, "low": None, "high": None, "runs": []}
    rates = [one.win_rate for one in found]
    between = quantile_975(len(rates) - 1) * stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 else 0.0
    prompts = 1.959964 * fmean(one.se for one in found)
    half = math.hypot(between, prompts)
    known = {name: [getattr(one, name) for one in found] for name in ("gold", "proxy")}
    return {
        "win_rate": fmean(rates),
        "low": max(0.0, fmean(rates) - half),
        "high": min(1.0, fmean(rates) + half),
        **{name: None if None in values else fmean(values) for name, values in known.items()},
        **{name: fmean(getattr(one, name) for one in found) for name in ("kl", "length", "seconds", "tokens")},
        "runs": [asdict(one) for one in found],
    }


def _check(config: Config) -> None:
    stages = {METHODS[name].stage for name in config.methods}
    if "prefer" in stages and config.data is None:
        raise BadInput("data= is missing: DPO and its kin learn from comparisons; or leave them out of methods=")
    if stages & {"ppo", "sft"} and config.reward is None:
        raise BadInput("reward= is missing: methods that sample learn from a reward; or leave them out of methods=")
    for role in ("prompts", "prompts_dev", "prompts_test"):
        runs.find_data(config.prompts, role)
    # What is missing is told now, and not when the methods that come first have been trained for hours.
    runs.find_model(config.model)
    if config.data is not None and "#" not in config.data:  # a project's export is made by the stage that reads it
        runs.find_data(config.data, "comparisons")
    for source in (config.reward, config.judge):
        check_source(source)
