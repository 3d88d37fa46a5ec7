"""Reinforcement learning from a reward: a policy, prompts and a reward source in, a better policy out.

`heed ppo`, or `heed rl`, is this stage: with PPO and a critic, or without a critic by RLOO, GRPO and their kin, which
compare several answers to a prompt. One step is one buffer of rollouts and its updates. `config.py` holds the settings,
`building.py` puts models and data together, `learning.py` is the step, `groups.py` what is special without a critic,
`watching.py` looks at held-out prompts.
"""

from heedlm.stages.rl.building import run
from heedlm.stages.rl.config import Config
from heedlm.stages.rl.learning import Reinforcement

__all__ = ["Config", "Reinforcement", "run"]
