"""Quality gates of a reward model: may PPO start on it? Accuracy alone does not tell (docs/methods.md §3.7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from pydantic import Field, PositiveInt

from heedlm.config import Config
from heedlm.evals.bootstrap import Interval
from heedlm.evals.reward_model import RewardAccuracy


class Gates(Config):
    """What a reward model must reach before a policy is trained on it. Values of our own, to be set by experience."""

    accuracy: float = Field(0.55, ge=0, le=1, description="lower end of the held-out accuracy, at least")
    policy_accuracy: float = Field(
        0.5, ge=0, le=1, description="lower end of the accuracy on the policy's own answers, above this"
    )
    sure: float = Field(0.75, ge=0, le=1, description="accuracy where it is surest, a fifth of the pairs, at least")
    part: float = Field(0.5, ge=0, le=1, description="accuracy in each bin of length, criterion and source, at least")
    part_pairs: PositiveInt = Field(50, description="parts with fewer pairs are not judged")
    ece: float = Field(0.1, ge=0, le=1, description="calibration error at most")
    length: float = Field(0.5, ge=0, le=1, description="correlation of score and length differences at most, ±")


@dataclass(frozen=True)
class Advice:
    """Whether PPO should start, in one line, with every reason against it or what is not known."""

    start: bool
    line: str
    against: list[str]
    unknown: list[str]

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values."""
        return asdict(self)


def advice(held_out: RewardAccuracy, gates: Gates, policy: Interval | None = None) -> Advice:
    """One line of advice.

    Args:
        held_out: Measurements on held-out comparisons.
        gates: Limits.
        policy: Accuracy on pairs of answers of the policy that is to be trained, if it was measured.
    """
    against = list(_against(held_out, gates))
    if policy is not None and policy.low <= gates.policy_accuracy:
        against.append(f"on the policy's own answers {_rate(policy)} may be no better than {gates.policy_accuracy:.0%}")
    unknown = [] if policy is not None else ["accuracy on the policy's own answers was not measured"]
    if against:
        line = "PPO should not start: " + "; ".join(against)
    else:
        line = f"PPO may start: {_rate(held_out.accuracy)} of held-out pairs"
        line += f", {_rate(policy)} of the policy's own" if policy is not None else f"; but {unknown[0]}"
    return Advice(not against, line + ".", against, unknown)


def _against(found: RewardAccuracy, gates: Gates) -> Iterator[str]:
    """What a reward model fails in."""
    if found.accuracy.low < gates.accuracy:
        yield f"held-out accuracy {_rate(found.accuracy)} may be below {gates.accuracy:.0%}"
    surest = found.by_margin[-1]
    if surest.accuracy is not None and surest.n >= gates.part_pairs and surest.accuracy < gates.sure:
        yield f"where it is surest it is right in {surest.accuracy:.0%}"
    parts = {f"answers of {bin_.low:.0f} to {bin_.high:.0f} more words": (bin_.n, bin_.accuracy or 0.0)
             for bin_ in found.by_length}  # fmt: skip
    parts |= {f"criterion {name}": part for name, part in found.by_criterion.items()}
    parts |= {f"source {name}": part for name, part in found.by_source.items()}
    for name, (n, accuracy) in parts.items():
        if n >= gates.part_pairs and accuracy < gates.part:
            yield f"{name}: {accuracy:.0%} of {n} pairs"
    if found.ece > gates.ece:
        yield f"calibration error {found.ece:.2f}, at temperature {found.temperature:.2g} {found.ece_refit:.2f}"
    if abs(found.length_correlation) > gates.length:
        yield f"its scores follow length (correlation {found.length_correlation:.2f})"


def _rate(interval: Interval) -> str:
    return f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
