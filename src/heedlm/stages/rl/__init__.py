"""Reinforcement learning from a reward: a policy, prompts and a reward source in, a better policy out.

`heed ppo` is this stage with the PPO objective and a critic. One step is one buffer of rollouts and its updates.
`config.py` holds the settings, `building.py` puts models and data together, `learning.py` is the step, `watching.py`
looks at held-out prompts.
"""

from heedlm.stages.rl.building import run
from heedlm.stages.rl.config import Config
from heedlm.stages.rl.learning import Reinforcement

__all__ = ["Config", "Reinforcement", "run"]
