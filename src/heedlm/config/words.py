"""Words of the command line and files of settings, read into trees of values."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from heedlm.errors import BadInput

OVERRIDE = re.compile(r"([A-Za-z_][\w-]*(?:\.[\w-]+)*)=(.*)", re.DOTALL)


def presets(stage: str) -> list[str]:
    """Names of the presets shipped for a stage."""
    folder = resources.files("heedlm") / "presets" / stage
    if not folder.is_dir():
        return []
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


@dataclass
class Raw:
    """A value from the command line whose type only the field it meets can tell."""

    text: str


def _parsed(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"v = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["v"] if len(parsed) == 1 else text


def readings(raw: Raw) -> list[Any]:
    """What a word may mean, the likeliest first: no value, TOML, the bare word, a list split at commas."""
    first = _parsed(raw.text)
    readings = [None, first] if first == "none" else [first]
    if first != raw.text:
        readings.append(raw.text)
    if not isinstance(first, list | dict):
        parts = [_parsed(part.strip()) for part in raw.text.split(",")]
        # A sentence with a comma is one text; `en,zh` is two.
        is_text = isinstance(first, str) and (first != raw.text or " " in first)
        readings += [[first], parts] if is_text else [parts]
    return readings


def split(args: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Plain words, and pairs of dotted key and text."""
    words: list[str] = []
    overrides: list[tuple[str, str]] = []
    for arg in args:
        match = OVERRIDE.fullmatch(arg)
        if match:
            overrides.append((match[1].replace("-", "_"), match[2]))
        else:
            words.append(arg)
    return words, overrides


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in a tree of tables.

    Raises:
        BadInput: If a key is both a value and a table.
    """
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise BadInput(f"{key}: {part} is given both as one value and with keys of its own; keep one")
    if isinstance(tree.get(last), dict):
        raise BadInput(f"{key}: is given both as one value and with keys of its own; keep one")
    tree[last] = value


def read_file(word: str, stage: str) -> tuple[dict[str, Any], str]:
    """The settings in a preset or file, and the name that messages give it."""
    path = Path(word)
    if path.suffix in {".toml", ".json"} or "/" in word:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise BadInput(f"{word}: cannot be read ({error.strerror}); give a TOML file or a preset") from None
        except UnicodeDecodeError as error:
            raise BadInput(f"{word}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    else:
        known = presets(stage)
        if word not in known:
            raise BadInput(f"{word!r} is no preset of {stage}{nearest(word, known)}; {_listed(known)}")
        path = Path(f"{word}.toml")
        text = (resources.files("heedlm") / "presets" / stage / f"{word}.toml").read_text(encoding="utf-8")
    try:
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise BadInput(f"{word}: not valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(tree, dict):
        raise BadInput(f"{word}: holds no settings (a table of keys is wanted)")
    return (tree if path.suffix == ".json" else _with_nones(tree)), word


def _with_nones(tree: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: the string "none" is one of several readings."""
    return {
        key: _with_nones(value) if isinstance(value, dict) else Raw("none") if value == "none" else value
        for key, value in tree.items()
    }


def _listed(names: Sequence[str]) -> str:
    return f"there are: {', '.join(names)}" if names else "it has none; give a TOML file or key=value"


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint at the known name that comes closest, empty if none does."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else ""
