"""The task families of the village, by name."""

from __future__ import annotations

from heedlm.village.families import caring, counting, knowing, pressing, refusing, telling
from heedlm.village.families.base import TURN, Family, Manner

FAMILIES: dict[str, Family] = {
    family.name: family
    for module in (telling, knowing, counting, caring, refusing, pressing)
    for family in module.FAMILIES
}

__all__ = ["FAMILIES", "TURN", "Family", "Manner"]
