"""Evaluation: is one model better than another, by how much, and at what cost in KL and length?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.evals.bootstrap import Interval, bootstrap_mean
from heedlm.evals.calibration import correctness
from heedlm.evals.gates import Gates, advice
from heedlm.evals.human import human_win_rate
from heedlm.evals.reward_model import RewardAccuracy, held_out_accuracy
from heedlm.evals.text import describe as text_statistics
from heedlm.evals.winrate import (
    Setting,
    length_matched,
    outcomes_from_scores,
    outcomes_from_verdicts,
    position_consistency,
    win_rate,
)
from heedlm.judges import Asked, Endpoint, Local, both_orders_all
from heedlm.judges import Scripted as ScriptedJudge
from heedlm.judges.asked import Tally
from heedlm.models.chat import Chat
from heedlm.models.compute import find_device
from heedlm.models.forward import context_limit, tensor_device
from heedlm.models.load import check_same_vocabulary, load_with_tokenizer
from heedlm.ops.kl import k1
from heedlm.ops.masked import masked_mean
from heedlm.ops.types import Rollouts
from heedlm.progress import progress
from heedlm.records import Comparison, Prompt, read
from heedlm.rewards import (
    AnySource,
    Episodes,
    GoldReward,
    RewardSource,
    ScalarSource,
    files_of,
    source_from_text,
)
from heedlm.rollout import Engine, Native, Sampling
from heedlm.rollout.answering import answer, fitting
from heedlm.runs import Input, Run
from heedlm.seams import Judge, Scorer
from heedlm.train.experience import rollout_logps
from heedlm.train.loop import use_threads
from heedlm.train.ranking import as_rollouts, rankings_of
from heedlm.train.state import seed_everything

Referee = AnySource | Local | Endpoint | ScriptedJudge


class Config(StageConfig):
    """Settings of evaluation."""

    model: str = Field(description="model to measure: a run or a Hugging Face folder")
    against: str = Field(description="model to compare it with, usually the SFT run; KL is measured to it")
    prompts: str = Field(description="prompts neither model has seen: a file, or a village run")
    role: str = Field("prompts_test", description="which prompts of a run")
    prompts_dev: str | None = Field(
        None, description="prompts that choose each model's temperature; default: the run's"
    )
    judge: Annotated[Annotated[Referee, Field(discriminator="name")], BeforeValidator(source_from_text)] = Field(
        GoldReward(), description="who decides: gold (village only), a reward run, a rule, or a judge"
    )
    reward: RewardSource | None = Field(
        None, description="reward whose scores are reported beside the verdicts, and which is put to the gates"
    )
    comparisons: str | None = Field(None, description="ranked answers on which the reward's accuracy is measured")
    gates: Gates = Field(Gates(), description="what a reward must reach before PPO is advised")
    human: str | None = Field(
        None, description="file of people's verdicts on both models, as a blind comparison of heed serve exports it"
    )
    limit: PositiveInt = Field(500, description="test prompts used")
    limit_dev: PositiveInt = Field(200, description="development prompts used to choose temperatures")
    temperatures: tuple[NonNegativeFloat, ...] = Field(
        (0.0, 0.3, 0.5, 0.7, 1.0),
        description="temperatures each model may choose from on the development prompts",
    )
    sampling: Sampling = Field(
        Sampling(max_new_tokens=64), description="length; the temperature is set by each setting"
    )
    engine: Engine = Field(Native(), description="what generates")
    budget: PositiveInt = Field(4096, description="tokens a forward pass may hold")
    device: Device = "auto"
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


@dataclass(frozen=True)
class Contestant:
    """A model with what is needed to make it answer."""

    model: PreTrainedModel
    chat: Chat
    config: Config

    def answers(self, prompts: Sequence[Prompt], temperature: float, seed: int) -> Episodes:
        """One answer for each prompt."""
        engine = self.config.engine.bind(self.model, self.chat.tokenizer)
        sampling = self.config.sampling.model_copy(update={"temperature": temperature})
        texts, rollouts = answer(engine, self.chat, prompts, sampling, seed)
        return Episodes(prompts, texts, rollouts)


def run(config: Config, resume: Path | None = None) -> Run:
    """Measure and return the run; the figures are in `run.json` under results."""
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    test = read(
        runs.find_data(config.prompts, config.role),
        Prompt,
        max_bad_rows=config.max_bad_rows,
        limit=config.limit,
    )
    ours = _contestant(config, config.model, device)
    theirs = _contestant(config, config.against, device)
    for contestant in (ours, theirs):
        test = fitting(test, contestant.chat, contestant.model)
    dev = _development(config, ours, theirs)
    if isinstance(config.judge, ScalarSource) or isinstance(config.reward, ScalarSource):
        tokenizers = (ours.chat.tokenizer, theirs.chat.tokenizer)
        remedy = "one reward model cannot score both; decide by gold, a rule or a judge, without reward="
        check_same_vocabulary(*tokenizers, (config.model, config.against), remedy=remedy)
    referee = _Referee(config.judge, ours.chat, device)
    if config.comparisons and not config.reward:
        raise BadInput("comparisons= measure a reward model: name it with reward=")
    human = human_win_rate(config.human, config.seed, config.model) if config.human else None
    scorer: Scorer | None = config.reward.open(ours.chat, device) if config.reward else None
    _show_cost(config, test.rows, dev)
    tally = Tally(config.judge, {})
    this = Run.resume(resume) if resume else Run.create("evaluate", config, _inputs(config))
    with this:
        runs.quarantine(this, "prompts", test)
        settings = [(1.0, 1.0, "temperature 1"), (0.0, 0.0, "greedy")]
        with progress("evaluate", total=len(settings) + 2 * bool(dev) + 2, unit="settings") as bar:
            chosen = []
            for contestant in (ours, theirs) if dev else ():
                chosen.append(_best_temperature(contestant, referee, dev, config))
                bar.advance(1)
            if chosen:
                best = [max(table, key=lambda t: (table[t], -t)) for table in chosen]
                settings.append((best[0], best[1], "each at its best development temperature"))
            rows: list[Setting] = []
            for first, second, name in settings:
                setting, episodes = _compare(name, first, second, ours, theirs, referee, test.rows)
                rows.append(setting)
                if name == settings[-1][2]:
                    _write_samples(this, episodes, referee, scorer)
                bar.advance(1)
            rows[-1] = Setting(**{**rows[-1].__dict__, "counts": True})
            facts = _facts(ours, theirs, scorer, test.rows, config)
            if scorer is not None:
                facts |= _put_to_the_gates(scorer, referee, ours, test.rows, config)
            if human is not None:
                facts["human"] = human.to_dict()
        temperatures = [{str(t): value for t, value in table.items()} for table in chosen]
        this.note(
            settings=[row.to_dict() for row in rows],
            win_rate=rows[-1].win_rate.to_dict(),
            length_matched=rows[-1].length_matched.to_dict() if rows[-1].length_matched else None,
            development_scores=dict(zip(("model", "against"), temperatures, strict=False)),
            decided_by=config.judge.name,
            **(
                {"unread_verdicts": referee.unread, "position_consistency": referee.consistency}
                if referee.consistency
                else {}
            ),
            **facts,
            **tally.so_far(),
        )
    return this


def _show_cost(config: Config, test: Sequence[Prompt], dev: Sequence[Prompt]) -> None:
    """Have a judge that costs money say how much at most, before the first answer is sampled."""
    if not isinstance(config.judge, Asked):
        return
    settings = 2 + bool(dev) + bool(config.reward)  # the last: two answers of the policy's own, for the gates
    pairs = settings * len(test) + 2 * len(config.temperatures) * len(dev)
    config.judge.prepare_comparisons([prompt.messages for prompt in test[:64]], pairs, config.sampling.max_new_tokens)


class _Referee:
    """One way to ask a reward source or a judge who won."""

    def __init__(self, judge: Any, chat: Chat, device: torch.device) -> None:
        self.scorer: Scorer | None = judge.open(chat, device) if hasattr(judge, "open") else None
        self.judge: Judge = judge
        self.unread = 0
        self.consistency: dict[str, float] = {}

    def scores(self, episodes: Episodes) -> list[float] | None:
        """Scores of answers, where the referee gives scores."""
        return self.scorer.score(episodes).total.tolist() if self.scorer else None

    def outcomes(self, ours: Episodes, theirs: Episodes) -> tuple[list[float], float | None]:
        """1, ½ or 0 for each prompt, and how often a judge agreed with itself when the order was swapped."""
        first, second = self.scores(ours), self.scores(theirs)
        if first is not None and second is not None:
            return outcomes_from_scores(first, second, tie_band=1e-9), None
        forward, backward = [], []
        asked = [(prompt.messages, a, b) for prompt, a, b in zip(ours.prompts, ours.texts, theirs.texts, strict=True)]
        for said in both_orders_all(self.judge, asked):
            self.unread += (said.shown_first is None) + (said.shown_second is None)
            forward.append(0.5 if said.shown_first is None else said.shown_first)
            backward.append(0.5 if said.shown_second is None else said.shown_second)
        return outcomes_from_verdicts(forward, backward), position_consistency(forward, backward)


def _best_temperature(
    contestant: Contestant, referee: _Referee, dev: Sequence[Prompt], config: Config
) -> dict[float, float]:
    """Development score of each temperature: the referee's mean score, or the win rate over the greedy answers."""
    table: dict[float, float] = {}
    greedy = contestant.answers(dev, 0.0, config.seed)
    for temperature in config.temperatures:
        episodes = contestant.answers(dev, temperature, config.seed + 7)
        scores = referee.scores(episodes)
        table[temperature] = (
            sum(scores) / len(scores) if scores is not None else win_rate(referee.outcomes(episodes, greedy)[0]).rate
        )
    return table


def _compare(
    name: str,
    temperature: float,
    other_temperature: float,
    ours: Contestant,
    theirs: Contestant,
    referee: _Referee,
    prompts: Sequence[Prompt],
) -> tuple[Setting, tuple[Episodes, Episodes]]:
    """Let both answer the same prompts and count."""
    seed = ours.config.seed * 2 + 11
    mine, other = (
        ours.answers(prompts, temperature, seed),
        theirs.answers(prompts, other_temperature, seed + 1),
    )
    outcomes, consistency = referee.outcomes(mine, other)
    if consistency is not None:
        referee.consistency[name] = consistency
    lengths = mine.rollouts.response_lengths.tolist(), other.rollouts.response_lengths.tolist()
    golds = (_golds(mine), _golds(other))
    setting = Setting(
        name=name,
        win_rate=win_rate(outcomes),
        length_matched=length_matched(outcomes, *lengths),
        temperature=temperature,
        other_temperature=other_temperature,
        length=sum(lengths[0]) / len(prompts),
        other_length=sum(lengths[1]) / len(prompts),
        gold=None if golds[0] is None else sum(golds[0]) / len(prompts),
        other_gold=None if golds[1] is None else sum(golds[1]) / len(prompts),
    )
    return setting, (mine, other)


def _golds(episodes: Episodes) -> list[float] | None:
    if any(prompt.meta.task is None for prompt in episodes.prompts):
        return None
    golds: list[float] = GoldReward().score(episodes).total.tolist()
    return golds


def _facts(
    ours: Contestant, theirs: Contestant, scorer: Scorer | None, prompts: Sequence[Prompt], config: Config
) -> dict[str, Any]:
    """KL, perplexity, text statistics and reward of answers sampled at temperature 1."""
    mine, other = (c.answers(prompts, 1.0, config.seed * 2 + 13) for c in (ours, theirs))
    facts: dict[str, Any] = {"text": _text(mine), "text_against": _text(other)}
    if ours.chat.tokenizer.get_vocab() == theirs.chat.tokenizer.get_vocab():
        facts |= _drift(ours.model, theirs.model, mine.rollouts, config.budget)
    if scorer is not None:
        for name, episodes in (("reward", mine), ("reward_against", other)):
            total = scorer.score(episodes).total
            facts[name] = {"mean": float(total.mean()), "std": float(total.std(correction=0))}
    return facts


def _drift(model: PreTrainedModel, against: PreTrainedModel, rollouts: Rollouts, budget: int) -> dict[str, float]:
    """KL (nats) of the model's own samples to the other model, and the perplexity of both on them."""
    logps = rollout_logps(model, rollouts, temperature=1.0, budget=budget)
    reference = rollout_logps(against, rollouts, temperature=1.0, budget=budget)
    mask = rollouts.response_mask
    drift = torch.where(mask, k1(logps, reference), 0.0)
    return {
        "kl_nats": float(drift.sum() / len(drift)),
        "kl_nats_per_token": float(masked_mean(drift, mask)),
        "perplexity": float((-masked_mean(logps, mask)).exp()),
        "perplexity_against": float((-masked_mean(reference, mask)).exp()),
    }


def _put_to_the_gates(
    scorer: Scorer, referee: _Referee, ours: Contestant, prompts: Sequence[Prompt], config: Config
) -> dict[str, Any]:
    """Accuracy of a reward on given rankings and on the policy's own answers, and whether PPO should start on it."""
    facts: dict[str, Any] = {}
    own = None if config.judge == config.reward else _on_policy(scorer, referee, ours, prompts)
    if own is not None:
        facts["accuracy_policy"] = own.to_dict()
    if config.comparisons:
        found = _accuracy(scorer, ours, config)
        facts |= {"reward_model": found.to_dict(), "advice": advice(found, config.gates, own).to_dict()}
    return facts


def _on_policy(scorer: Scorer, referee: _Referee, ours: Contestant, prompts: Sequence[Prompt]) -> Interval | None:
    """How often a reward orders two answers of the policy as the referee does; None where that knows no difference."""
    seed = ours.config.seed * 2 + 17
    one, two = (ours.answers(prompts, 1.0, seed + k) for k in range(2))
    outcomes, _ = referee.outcomes(one, two)
    margins = (scorer.score(one).total - scorer.score(two).total).tolist()
    decided = [margin if won > 0.5 else -margin for margin, won in zip(margins, outcomes, strict=True) if won != 0.5]
    return bootstrap_mean(correctness(decided), seed=ours.config.seed) if decided else None


def _accuracy(scorer: Scorer, ours: Contestant, config: Config) -> RewardAccuracy:
    """Accuracy of a reward on rankings it has not been trained on."""
    path = runs.find_data(str(config.comparisons), "comparisons_test")
    limit = context_limit(ours.model) or config.budget
    comparisons, rankings = rankings_of(ours.chat, read(path, Comparison, max_bad_rows=config.max_bad_rows), limit)
    scores = []
    for comparison, ranking in zip(comparisons, rankings, strict=True):
        prompt = Prompt(id=comparison.id, messages=comparison.prompt, meta=comparison.meta)
        texts = [answer.text for answer in comparison.answers]
        rollouts = as_rollouts(ranking.rows).to(tensor_device(ours.model))
        scores.append(scorer.score(Episodes([prompt] * len(texts), texts, rollouts)).total.tolist())
    return held_out_accuracy(comparisons.rows, scores, seed=config.seed)


def _text(episodes: Episodes) -> dict[str, Any]:
    rollouts = episodes.rollouts
    stats = text_statistics(episodes.texts, tokens=rollouts.response_lengths.tolist(), ended=rollouts.ended.tolist())
    return stats.to_dict()


def _write_samples(
    this: Run, episodes: tuple[Episodes, Episodes], referee: _Referee, scorer: Scorer | None, count: int = 24
) -> None:
    """Both models' answers to the first prompts, side by side, for people to read."""
    mine, other = episodes
    columns = {"gold": _golds(mine), "gold_before": _golds(other)}
    if scorer is not None:
        columns |= {
            "reward": scorer.score(mine).total.tolist(),
            "reward_before": scorer.score(other).total.tolist(),
        }
    rows = []
    for place in range(min(count, len(mine.prompts))):
        prompt = mine.prompts[place]
        row: dict[str, Any] = {"id": prompt.id, "prompt": _shown(prompt)}
        row |= {"answer": mine.texts[place], "before": other.texts[place]}
        row |= {name: values[place] for name, values in columns.items() if values is not None}
        rows.append(row)
    this.samples(0, rows)


def _shown(prompt: Prompt) -> str:
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in prompt.messages)


def _contestant(config: Config, path: str, device: torch.device) -> Contestant:
    model, tokenizer = load_with_tokenizer(runs.find_model(path), device=device)
    return Contestant(model, Chat(tokenizer), config)


def _development(config: Config, *contestants: Contestant) -> list[Prompt]:
    if config.prompts_dev is None and not runs.has_data(config.prompts, "prompts_dev"):
        return []
    path = runs.find_data(config.prompts_dev or config.prompts, "prompts_dev")
    prompts = read(path, Prompt, max_bad_rows=config.max_bad_rows, limit=config.limit_dev)
    for contestant in contestants:
        prompts = fitting(prompts, contestant.chat, contestant.model)
    return prompts.rows


def _inputs(config: Config) -> list[Input]:
    inputs = [
        Input("model", config.model),
        Input("against", config.against),
        Input("prompts", config.prompts),
    ]
    judges = list(files_of(config.judge).values()) if isinstance(config.judge, AnySource) else []
    inputs += [Input("judge" if len(judges) == 1 else f"judge_{n}", path) for n, path in enumerate(judges, 1)]
    inputs += [Input(role, path) for role, path in files_of(config.reward).items()]
    extra = {"prompts_dev": config.prompts_dev, "comparisons": config.comparisons, "human": config.human}
    return inputs + [Input(role, path) for role, path in extra.items() if path is not None]
