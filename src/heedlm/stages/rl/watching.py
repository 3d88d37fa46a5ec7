"""Held-out prompts answered now and then: the win rate over the starting policy that the guard goes by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heedlm.evals.winrate import TIE, Z95, outcomes_from_scores, win_rate
from heedlm.models.chat import Chat
from heedlm.records import Prompt
from heedlm.rewards import Episodes, GoldReward
from heedlm.rollout import Sampling
from heedlm.rollout.answering import answer

Found = dict[str, list[Any]]
_SHOWN = 12  # samples kept of each evaluation


class Watch:
    """Answers to the same prompts at every evaluation, beside those of the starting policy.

    Args:
        prompts: Held-out prompts.
        reward: The training reward, which is logged but never decides a win rate that the guard believes.
        judge: Who decides it: an independent reward source, or None for gold where every prompt has it.
        chat: Template and tokenizer.
        sampling: How answers are sampled.
        seed: Of the sampling.
    """

    def __init__(
        self, prompts: Sequence[Prompt], reward: Any, judge: Any, chat: Chat, sampling: Sampling, seed: int
    ) -> None:
        self.prompts, self.reward, self.chat, self.sampling, self.seed = list(prompts), reward, chat, sampling, seed
        self.gold = all(prompt.meta.task is not None for prompt in self.prompts)
        self.judge = judge if judge is not None else GoldReward() if self.gold else None
        self.before: Found = {}
        # Outcomes of the evaluation with the highest win rate so far; against itself the start ties everywhere.
        self.best = [TIE] * len(self.prompts)
        self.last: dict[str, float] = {}

    def look(self, engine: Any, start: Callable[[], Any] | None) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Numbers and samples of the present policy.

        Args:
            engine: Samples from it.
            start: Makes an engine of the starting policy, whose answers are made once; None if there is none.
        """
        now = self._answer(engine, self.seed)
        if not self.before and start is not None:
            self.before = self._answer(start(), self.seed + 1)
        values = {"watch/reward": _mean(now["reward"]), "watch/length": _mean(now["length"])}
        if "gold" in now:
            values["watch/gold"] = _mean(now["gold"])
        if self.before:
            if "gold" in self.before:
                values["watch/gold_start"] = _mean(self.before["gold"])
            values["watch/win_rate_by_reward"] = _mean(outcomes_from_scores(now["reward"], self.before["reward"]))
            if "judged" in now:
                values |= {"watch/judged": _mean(now["judged"]), "watch/judged_start": _mean(self.before["judged"])}
                values |= self._win_rate(outcomes_from_scores(now["judged"], self.before["judged"]))
        self.last = values
        return values, self._samples(now)

    def state_dict(self) -> dict[str, Any]:
        """The starting policy's answers and the best outcomes."""
        return {"before": self.before, "best": self.best, "last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.before, self.best, self.last = state["before"], list(state["best"]), dict(state["last"])

    def _win_rate(self, outcomes: list[float]) -> dict[str, float]:
        """The rate with its interval, and the lower end of that of its fall since the best, prompt by prompt."""
        found = win_rate(outcomes)
        if found.rate > _mean(self.best):
            self.best = outcomes
        falls = [best - now for best, now in zip(self.best, outcomes, strict=True)]
        drop = _mean(falls)
        spread = math.sqrt(_mean([(fall - drop) ** 2 for fall in falls]) / len(falls))
        return {
            "watch/win_rate": found.rate,
            "watch/win_rate_low": found.low,
            "watch/win_rate_high": found.high,
            "watch/drop": drop,
            "watch/drop_low": drop - Z95 * spread,
        }

    def _answer(self, engine: Any, seed: int) -> Found:
        texts, rollouts = answer(engine, self.chat, self.prompts, self.sampling, seed)
        episodes = Episodes(self.prompts, texts, rollouts)
        found: Found = {
            "text": texts,
            "reward": self.reward.score(episodes).total.tolist(),
            "length": rollouts.response_lengths.tolist(),
        }
        if self.judge is not None:
            found["judged"] = self.judge.score(episodes).total.tolist()
        if self.gold:
            found["gold"] = GoldReward().score(episodes).total.tolist()
        return found

    def _samples(self, now: Found) -> list[dict[str, Any]]:
        columns = {"answer": now["text"], "reward": now["reward"], "gold": now.get("gold")}
        if self.before:
            columns |= {"before": self.before["text"], "reward_before": self.before["reward"]}
            columns["gold_before"] = self.before.get("gold")
        known = {name: values for name, values in columns.items() if values is not None}
        return [
            {"prompt": prompt.messages[-1].content, **{name: values[place] for name, values in known.items()}}
            for place, prompt in enumerate(self.prompts[:_SHOWN])
        ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
