"""Faults in settings, told in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from heedlm.config.base import Config, keys, member_for
from heedlm.config.words import nearest


def explain(at: str, fault: Any, cls: type[Config], plain: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """One line on a fault that pydantic found: the field, what is wrong, what was given or is nearest."""
    source = next((sources[at[:cut]] for cut in _cuts(at) if at[:cut] in sources), "")
    place = f"{source}: {at}" if source else at
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(keys(cls, plain))
        leaves = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
        close = nearest(at, known) or _nearest_leaf(at.rsplit(".", 1)[-1], leaves)
        return f"{place}: no such setting{close}"
    if kind in {"missing", "union_tag_not_found"}:
        choice = str(context.get("discriminator", "")).strip("'")
        key = f"{at}.{choice}" if choice else at
        return f"{place}: is required ({_description(cls, at, plain)}); give {key}=…"
    given = context.get("value", fault["input"])
    got = f", got {_shown(given)}" if not isinstance(given, Mapping) else ""
    if kind in {"model_type", "model_attributes_type"}:
        return f"{place}: is a table of settings{got}; give {at}.…=…"
    if kind in {"literal_error", "enum", "union_tag_invalid"}:
        allowed = str(context.get("expected", context.get("expected_tags", ""))).replace(" or ", ", ")
        names = [name.strip().strip("'") for name in allowed.split(",")]
        value = str(context.get("tag", fault["input"])).strip("'")
        return f"{place}: must be one of {', '.join(names)}, got {value!r}{nearest(value, names)}"
    if kind == "value_error":
        return f"{place}: {context.get('error', fault['msg'])}{got}"
    message = fault["msg"].replace("Input should be", "must be").replace("Value should", "must")
    return f"{place}: {message[:1].lower()}{message[1:].split(', unable')[0].split(', got')[0]}{got}"


def where(fault: Any, plain: Mapping[str, Any]) -> str:
    """The dotted key of a fault: pydantic's location without the names of union members."""
    at: list[str] = []
    here: Any = plain
    loc = fault["loc"]
    if fault["type"] == "truth_as_number":
        loc = (*loc, fault["ctx"]["field"])
    *parents, last = loc or ("settings",)
    for part in parents:
        if isinstance(here, Mapping) and part in here:
            at.append(str(part))
            here = here[part]
        elif isinstance(here, list | tuple) and isinstance(part, int):
            at.append(str(part))
            here = here[part] if part < len(here) else None
    if fault["type"] == "missing" or not at or _has(here, last):
        at.append(str(last))
    return ".".join(at)


def _has(here: Any, part: Any) -> bool:
    if isinstance(here, Mapping):
        return part in here
    return isinstance(here, list | tuple) and isinstance(part, int)


def _cuts(at: str) -> Iterator[int]:
    """Ends of the key and of its parents, longest first."""
    yield len(at)
    yield from (match.start() for match in reversed(list(re.finditer(r"\.", at))))


def _nearest_leaf(leaf: str, leaves: Mapping[str, str]) -> str:
    close = get_close_matches(leaf, list(leaves), n=1, cutoff=0.6)
    return f" (nearest: {leaves[close[0]]})" if close else ""


def _description(cls: type[Config], at: str, values: Mapping[str, Any]) -> str:
    name, _, rest = at.partition(".")
    info = cls.model_fields.get(name)
    if info is None:
        return "no description"
    inner = values.get(name)
    member = member_for(info, inner) if isinstance(inner, Mapping) else None
    if rest and member is not None and isinstance(inner, Mapping):
        return _description(member, rest, inner)
    return info.description or "no description"


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Path) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
