"""The numbers that the collapse detector goes by."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from heedlm.config import Config

FEWEST = 5  # rows: no window is shortened below it, and the pace is taken from so many first rows
FEWEST_TREND = 30  # rows of S1's line: through fewer, noise alone lies 4 errors off too often


class Thresholds(Config):
    """When a signal raises an alarm; the defaults fit models of 7 B parameters (docs/methods.md §4.4).

    Windows count rows of the log; Heed logs one a step, a step being one buffer of rollouts and its updates.
    """

    every: PositiveInt = Field(5, description="steps between looks at the signals")
    window: PositiveInt = Field(20, description="rows whose mean is what a signal stands at")
    baseline: PositiveInt = Field(20, description="first rows, to which later ones are compared")
    trend: int = Field(100, ge=3, description="rows before the window through which the reward's line is laid")
    min_steps: PositiveInt = Field(140, description="rows before the first look")
    reward_jump: PositiveFloat = Field(
        0.25, description="S1: reward above its line, in standard deviations of single answers"
    )
    reward_jump_errors: PositiveFloat = Field(4.0, description="S1: and in standard errors of that difference")
    reward_clear: PositiveFloat = Field(2.0, description="S1 is over below so many standard errors")
    length_full: float = Field(0.95, gt=0, le=1, description="S2: mean length, as a share of the longest allowed")
    length_warn: float = Field(2.0, gt=1, description="S2 warns at so many times the first length")
    length_clear: float = Field(0.85, gt=0, le=1, description="S2 is over below this share of the longest allowed")
    truncated: float = Field(0.5, gt=0, le=1, description="S2: share of answers that were cut")
    truncated_warn: float = Field(0.2, gt=0, le=1, description="S2 warns at this share of cut answers")
    nll: PositiveFloat = Field(
        0.5, description="S3: the policy's NLL of its own answers, as a share of that at the start"
    )
    nll_warn: PositiveFloat = Field(0.6, description="S3 warns at this share")
    kl: PositiveFloat = Field(0.10, description="S4: KL to the reference, in nats a token")
    kl_warn: PositiveFloat = Field(0.07, description="S4 warns at this KL")
    kl_target_factor: PositiveFloat = Field(
        2.0, description="S4 with a controller: at least so many times its target a token"
    )
    win_rate_drop: PositiveFloat = Field(0.10, description="S5: win rate below its best so far, as a share of prompts")
    reward_gain: float = Field(
        0.5, ge=0, description="S5: and reward up since, in standard deviations of single answers"
    )
    together: int = Field(2, ge=1, le=4, description="signals among S1 to S4 that must be on at once")
    confirm: PositiveInt = Field(3, description="looks in a row at which they must be")
    clear: PositiveInt = Field(10, description="quiet looks in a row after which a warning is over")

    pace: PositiveFloat | None = Field(
        None, description="policy/approx_kl that the windows fit; they shrink with the square root of a higher one"
    )

    @model_validator(mode="after")
    def _warnings_come_first(self) -> Self:
        pairs = (
            ("length_clear", "length_full"),
            ("truncated_warn", "truncated"),
            ("nll", "nll_warn"),
            ("kl_warn", "kl"),
        )
        for low, high in pairs:
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} may not be above {high}")
        if self.min_steps < max(self.window, self.baseline):
            raise ValueError("min_steps may not be below window or baseline")
        return self

    def scaled(self, factor: float) -> Thresholds:
        """Thresholds with windows shortened by a factor; one of 1 or more changes nothing.

        No window becomes shorter than `FEWEST` rows, the trend not shorter than `FEWEST_TREND`. The first look then
        waits for the baseline and one window only; S1 begins once its own rows are there.
        """
        if factor >= 1:
            return self
        window = max(round(self.window * factor), min(FEWEST, self.window))
        baseline = max(round(self.baseline * factor), min(FEWEST, self.baseline))
        shorter = {
            "every": max(round(self.every * factor), 1),
            "window": window,
            "baseline": baseline,
            "trend": max(round(self.trend * factor), min(FEWEST_TREND, self.trend)),
            "min_steps": min(self.min_steps, baseline + window),
        }
        return self.model_copy(update=shorter)
