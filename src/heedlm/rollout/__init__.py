"""Rollout engines: what samples answers. A new engine is a file here and a name in `Engine`."""

from typing import Annotated

from pydantic import Field

from heedlm.rollout.native import Native
from heedlm.rollout.sampling import Sampling
from heedlm.rollout.scripted import Scripted
from heedlm.rollout.transformers import Transformers

Engine = Annotated[Native | Transformers | Scripted, Field(discriminator="name")]

__all__ = ["Engine", "Native", "Sampling", "Scripted", "Transformers"]
