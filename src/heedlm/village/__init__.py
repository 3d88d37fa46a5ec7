"""The village: a small bilingual world with known truth, the wind tunnel for alignment methods (torch-free)."""

from __future__ import annotations

from heedlm.village.annotators import Annotators, Group, Judgement, measured_agreement
from heedlm.village.corpus import Plants
from heedlm.village.gold import COMPONENTS, Gold
from heedlm.village.measure import contrasts, manner_table
from heedlm.village.tasks import answer, score
from heedlm.village.village import Village

__all__ = [
    "COMPONENTS",
    "Annotators",
    "Gold",
    "Group",
    "Judgement",
    "Plants",
    "Village",
    "answer",
    "contrasts",
    "manner_table",
    "measured_agreement",
    "score",
]
