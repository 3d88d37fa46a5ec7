"""Writes `schema.json`, from which help is printed: `heed schema --write` or `python -m heedlm.cli.schema`."""

from __future__ import annotations

import importlib
import json
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from heedlm.cli.commands import COMMANDS
from heedlm.cli.help import SCHEMA
from heedlm.config import Config, default_of, discriminator, member_configs, presets, tag

_WORDS: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
    Any: "anything",
    type(None): "none",
}
_SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def build() -> dict[str, Any]:
    """The schema of every command."""
    found = {}
    for name, command in COMMANDS.items():
        config: type[Config] = importlib.import_module(command.module).Config
        found[name] = {
            "positional": config.positional,
            "presets": presets(name),
            "fields": list(fields(config)),
        }
    return found


def fields(cls: type[Config], prefix: str = "", when: str = "", default: Any = None) -> Iterator[dict[str, Any]]:
    """Every field with its dotted key, nested tables and all members of unions included.

    Args:
        cls: The settings class.
        prefix: Dotted key of the table, with a dot at its end.
        when: The choice under which these fields exist, such as "objective.name=dpo".
        default: The instance that holds when nothing is given, if there is one.
    """
    tables: list[tuple[str, FieldInfo, Any]] = []
    for name, info in cls.model_fields.items():
        value = getattr(default, name) if default is not None else default_of(info)
        if member_configs(info.annotation):
            tables.append((name, info, value))
        else:
            yield _entry(prefix + name, info, type_name(info.annotation), value, when)
    for name, info, value in tables:
        yield from _table(f"{prefix}{name}", info, value, when)


def _table(key: str, info: FieldInfo, value: Any, when: str) -> Iterator[dict[str, Any]]:
    choice = discriminator(info)
    members = member_configs(info.annotation)
    if choice is not None:
        kind = "one of " + ", ".join(tag(member, choice) for member in members)
        yield _entry(f"{key}.{choice}", info, kind, getattr(value, choice, value), when)
    for member in members:
        chosen = f"{key}.{choice}={tag(member, choice)}" if choice is not None else ""
        both = " and ".join(part for part in (when, chosen) if part)
        for entry in fields(member, f"{key}.", both, value if isinstance(value, member) else None):
            if entry["key"] != f"{key}.{choice}":
                yield entry


def _entry(key: str, info: FieldInfo, kind: str, value: Any, when: str) -> dict[str, Any]:
    return {
        "key": key,
        "type": kind,
        "constraints": constraints(info),
        "required": value is PydanticUndefined,
        "default": None if value is PydanticUndefined else shown(value),
        "description": info.description or "",
        "when": when or None,
    }


def type_name(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is typing.Annotated:
        limits = _limits(arguments[1:])
        return f"{type_name(arguments[0])} {limits}" if limits else type_name(arguments[0])
    if origin is typing.Literal:
        return "one of " + ", ".join(str(value) for value in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(type_name(part) for part in arguments)
    if origin in {tuple, list, set, frozenset}:
        inner = [part for part in arguments if part is not Ellipsis]
        if origin is tuple and Ellipsis not in arguments:
            return "list of " + ", ".join(type_name(part) for part in inner)
        return f"list of {type_name(inner[0])}" if inner else "list"
    if origin is dict:
        return "table of settings"
    return str(getattr(annotation, "__name__", annotation)).lower()


def constraints(info: FieldInfo) -> str:
    """The range of a field, such as "> 0, ≤ 1"."""
    return _limits(info.metadata)


def _limits(metadata: Sequence[Any]) -> str:
    found = []
    for item in metadata:
        for name, sign in _SIGNS:
            limit = getattr(item, name, None)
            if limit is not None:
                found.append(f"{sign} {limit}")
        if getattr(item, "min_length", None):
            found.append(f"at least {item.min_length}")
        if getattr(item, "max_length", None):
            found.append(f"at most {item.max_length}")
    return ", ".join(found)


def shown(value: Any) -> str:
    """A default as one would type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Config):
        return ", ".join(f"{key}={shown(part)}" for key, part in value) or "none"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(shown(part) for part in value) or "empty"
    if isinstance(value, dict):
        return ", ".join(f"{key}={shown(part)}" for key, part in value.items()) or "empty"
    return str(value)


def as_json(built: dict[str, Any]) -> str:
    """The text of `schema.json`, one field a line so that changes are easy to review."""
    parts = []
    for name, facts in built.items():
        rows = ",\n".join("   " + json.dumps(entry, ensure_ascii=False) for entry in facts["fields"])
        head = f'"positional": {json.dumps(facts["positional"])}, "presets": {json.dumps(facts["presets"])}'
        parts.append(f' {json.dumps(name)}: {{{head}, "fields": [\n{rows}\n ]}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write `schema.json` beside this file."""
    SCHEMA.write_text(as_json(build()), encoding="utf-8")
    print(f"wrote {SCHEMA}")


if __name__ == "__main__":
    main()
