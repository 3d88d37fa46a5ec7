"""Layers of settings merged and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from heedlm.config.base import Config, default_of, discriminator, member_for
from heedlm.config.faults import explain, where
from heedlm.config.words import Raw, readings
from heedlm.errors import BadInput

C = TypeVar("C", bound=Config)


@dataclass
class Layers:
    """Settings under construction: the merged tree and where each value came from."""

    cls: type[Config]
    tree: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def add(self, layer: Mapping[str, Any], source: str) -> None:
        self._merge(self.tree, layer, self.cls, source, "")

    def _merge(
        self, into: dict[str, Any], layer: Mapping[str, Any], cls: type[Config] | None, source: str, at: str
    ) -> None:
        for key, value in layer.items():
            self.sources[at + key] = source
            if not isinstance(value, Mapping):
                into[key] = value
                continue
            info = cls.model_fields.get(key) if cls is not None else None
            table = self._table_to_fill(into.get(key), value, info)
            into[key] = table
            self._merge(table, value, member_for(info, {**table, **value}) if info else None, source, f"{at}{key}.")

    @staticmethod
    def _table_to_fill(old: Any, value: Mapping[str, Any], info: FieldInfo | None) -> dict[str, Any]:
        """What a layer's table is laid over: the earlier table, else the field's own default.

        Choosing another member of a union drops the settings of the one before.
        """
        if info is None:
            return old if isinstance(old, dict) else {}
        default = default_of(info)
        table: dict[str, Any] = {}
        if isinstance(old, dict):
            table = old
        elif isinstance(default, Config):
            table = default.model_dump()
        key = discriminator(info)
        if key is not None and isinstance(old, str):  # a file that names the member by one word
            table = {key: old}
        if key is not None and key in value:
            wanted = value[key].text if isinstance(value[key], Raw) else value[key]
            earlier = table.get(key)
            if wanted != (earlier.text if isinstance(earlier, Raw) else earlier):
                return {}
        return table

    def validate(self, cls: type[C]) -> C:
        """Build the Config; where a word can be read in several ways, take the first that fits."""
        choice: dict[str, int] = {}
        first: dict[str, Any] = {}
        while True:
            plain, open_choices = _plain(self.tree, choice, "")
            try:
                return cls.model_validate(plain)
            except ValidationError as error:
                faults = [(where(fault, plain), fault) for fault in error.errors()]
            for at, fault in faults:
                first.setdefault(at, fault)
            moved = {at for at, _ in faults if at in open_choices}
            if not moved:
                break
            for at in moved:
                choice[at] = choice.get(at, 0) + 1
        # What was typed wrong comes before what is still missing. Of several readings, the likeliest one's fault is
        # the one to tell of, not that of the last one tried.
        at = min(faults, key=lambda found: found[1]["type"] == "missing")[0]
        line = explain(at, first[at], self.cls, plain, self.sources)
        others = sorted({other for other, _ in faults} - {at})
        raise BadInput(line + (f" (also wrong or missing: {', '.join(others)})" if others else ""))


def _plain(tree: Mapping[str, Any], choice: Mapping[str, int], at: str) -> tuple[dict[str, Any], set[str]]:
    """The tree with one reading for each raw word, and the places where another reading is left."""
    plain: dict[str, Any] = {}
    left: set[str] = set()
    for key, value in tree.items():
        here = at + key
        if isinstance(value, Raw):
            possible = readings(value)
            picked = choice.get(here, 0)
            plain[key] = possible[picked]
            if picked + 1 < len(possible):
                left.add(here)
        elif isinstance(value, dict):
            plain[key], inner = _plain(value, choice, here + ".")
            left |= inner
        else:
            plain[key] = value
    return plain, left
