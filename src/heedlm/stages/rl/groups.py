"""What objectives without a critic make of a buffer: which answers teach something, and what the logs keep."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from heedlm.errors import BadInput
from heedlm.objectives import OnlineDpo, Ppo, ReinforcePp
from heedlm.objectives.grpo import Grouped
from heedlm.ops.group import all_alike, overlong_penalty
from heedlm.stages.rl.config import Config, Critic

_log = logging.getLogger(__name__)


def length_penalty(config: Config, lengths: Tensor) -> Tensor | None:
    """(B,) what the objective takes off the shaped reward of answers near the token limit; None if nothing."""
    objective = config.objective
    if not isinstance(objective, Grouped) or not objective.overlong:
        return None
    return overlong_penalty(lengths, config.sampling.max_new_tokens, objective.overlong)


def teaching(config: Config, totals: Tensor, advantages: Tensor, ended: Tensor) -> list[int] | None:
    """Rows that something is learned from; None if that is all of them.

    Args:
        config: The stage's settings.
        totals: (B,) rewards of whole answers as their source gave them.
        advantages: (B, T) advantages.
        ended: (B,) false where an answer was cut at the length limit.
    """
    objective = config.objective
    masked = config.shaping.truncated == "mask" and bool(ended.any())
    rows = ended if masked else torch.ones_like(ended)
    if isinstance(objective, OnlineDpo):
        rows = advantages.ne(0).any(1)
    elif isinstance(objective, Grouped) and objective.resample:
        rows = rows & ~all_alike(totals.view(-1, config.answers)).repeat_interleave(config.answers)
    elif not masked:
        return None
    return rows.nonzero().squeeze(1).tolist()


def group_facts(totals: Tensor, group: int) -> dict[str, float]:
    """Share of prompts whose answers all got the same reward, and the mean deviation within a prompt."""
    scores = totals.view(-1, group)
    return {
        "group/alike": float(all_alike(scores).float().mean()),
        "group/std": float(scores.std(dim=1, correction=0).mean()),
    }


def check(config: Config) -> None:
    """Refuse what an objective cannot learn from, and warn of settings that do nothing for it or pull twice.

    Raises:
        BadInput: One line on what does not go together.
    """
    objective, answers = config.objective, config.answers
    name = objective.name
    if config.rollouts % answers:
        raise BadInput(f"rollouts={config.rollouts}: must be a multiple of group={answers}, the answers to a prompt")
    if isinstance(objective, Ppo):
        return
    if answers < 2 and (isinstance(objective, OnlineDpo) or _compares(objective)):
        raise BadInput(f"group=1: {name} compares the answers to a prompt with each other; give 2 or more")
    if config.critic != Critic():
        _log.warning("critic.*: %s trains no critic; these settings do nothing", name)
    if config.gamma != 1:
        _log.warning("gamma: %s does not discount; it does nothing", name)
    if isinstance(objective, OnlineDpo):
        _check_pairs(config, objective)
    elif isinstance(objective, ReinforcePp) and objective.kl == "loss" and config.kl.coef:
        _log.warning("objective.kl=loss: the method's KL is a part of the reward; this is a variant")


def _compares(objective: Grouped) -> bool:
    return objective.baseline != "none" or objective.deviation in ("sample", "population")


def _check_pairs(config: Config, objective: OnlineDpo) -> None:
    if config.minibatch % objective.rows:
        raise BadInput(f"minibatch={config.minibatch}: must be even, as online_dpo learns from pairs")
    if config.advantages.whiten or config.advantages.clip is not None:
        raise BadInput("advantages: online_dpo has none to whiten or clip; leave them alone")
    if config.shaping.truncated == "mask":
        raise BadInput("shaping.truncated=mask: would tear pairs of online_dpo apart; use penalise")
    if config.kl.coef and objective.loss.needs_reference:
        _log.warning(
            "kl.coef with online_dpo: the pair loss has a leash of its own; the preset online_dpo sets it to 0"
        )
