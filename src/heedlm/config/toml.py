"""Settings written as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from heedlm.config.base import Config


def to_toml(cfg: Config, *, only_given: bool = False) -> str:
    """The settings as TOML that loads equal; "none" stands for no value.

    Args:
        cfg: The settings.
        only_given: Leave out what was never set and stands at its default.
    """
    return "\n".join(_table(cfg.model_dump(mode="json", exclude_unset=only_given), ())) + "\n"


def _table(values: Mapping[str, Any], at: tuple[str, ...]) -> Iterator[str]:
    for key, value in values.items():
        if not isinstance(value, dict):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in values.items():
        if isinstance(value, dict):
            inner = (*at, key)
            yield f"\n[{'.'.join(_key(part) for part in inner)}]"
            yield from _table(value, inner)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    # TOML's basic strings escape as JSON's do, but want DEL escaped and know no surrogate pairs.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
