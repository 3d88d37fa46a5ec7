"""`heed` with a planted fault: `python faulty.py FAULT ppo …`. These are bugs that people have made.

- `flipped`: the reward model was trained with chosen and rejected swapped: its score comes with the wrong sign.
- `length`: a bonus of 0.1 reward units for each token was left in the reward.
- `wrong_token`: the score is read two tokens before the end of the answer.
- `sampler`: the engine samples at temperature 0.6 while the trainer takes log-probs at temperature 1.
- `no_eos`: answers that were cut count as ended, and the score of a cut answer gets a constant 3 for being polite.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from heedlm.cli import main
from heedlm.ops.types import Rollouts
from heedlm.rewards.learned import LearnedReward
from heedlm.rewards.types import Episodes, Reward
from heedlm.rollout import Sampling
from heedlm.rollout.native import NativeEngine

_score, _generate = LearnedReward.score, NativeEngine.generate


def flipped(self: LearnedReward, episodes: Episodes) -> Reward:
    """The score with the wrong sign."""
    return Reward(-_score(self, episodes).total)


def length(self: LearnedReward, episodes: Episodes) -> Reward:
    """The score and a bonus for each token."""
    return Reward(_score(self, episodes).total + 0.1 * episodes.rollouts.response_lengths)


def wrong_token(self: LearnedReward, episodes: Episodes) -> Reward:
    """The score of all but the last two tokens."""
    rollouts = episodes.rollouts
    shorter = (rollouts.lengths - 2).maximum(rollouts.prompt_lengths + 1)
    return _score(self, replace(episodes, rollouts=replace(rollouts, lengths=shorter)))


def no_eos(self: LearnedReward, episodes: Episodes) -> Reward:
    """A bonus for answers that never end."""
    return Reward(_score(self, episodes).total + 3.0 * (~episodes.rollouts.ended))


def sampler(self: NativeEngine, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> Rollouts:
    """Samples of another temperature than was asked for."""
    return _generate(self, prompts, sampling.model_copy(update={"temperature": 0.6}), seed)


REWARDS: dict[str, Callable[[LearnedReward, Episodes], Reward]] = {
    "flipped": flipped,
    "length": length,
    "wrong_token": wrong_token,
    "no_eos": no_eos,
}


def plant(fault: str) -> None:
    """Put a fault into this process."""
    if fault == "sampler":
        NativeEngine.generate = sampler  # type: ignore[method-assign]
    else:
        LearnedReward.score = REWARDS[fault]  # type: ignore[method-assign]


if __name__ == "__main__":
    plant(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
