"""How answers are sampled, whichever engine does it."""

from __future__ import annotations

from pydantic import Field

from heedlm.config import Config


class Sampling(Config):
    """Settings of one round of sampling."""

    temperature: float = Field(1.0, ge=0, description="0 takes the likeliest token, 1 the model's distribution")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the likeliest tokens that hold this probability; 1: all")
    top_k: int = Field(0, ge=0, description="keep so many of the likeliest tokens; 0: all")
    max_new_tokens: int = Field(64, ge=1, description="longest answer in tokens, EOS included")
