"""Settings: presets and TOML files, then `key=value`, checked before anything is loaded.

Later layers win. A wrong key, type or range is one line that names the field, what is wrong with it and
the nearest right key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from heedlm.config.base import Config, Device, StageConfig, default_of, discriminator, keys, member_configs, tag
from heedlm.config.layers import Layers
from heedlm.config.toml import to_toml
from heedlm.config.words import Raw, presets, put, read_file, split

__all__ = [
    "Config",
    "Device",
    "StageConfig",
    "config_hash",
    "default_of",
    "discriminator",
    "from_json",
    "keys",
    "load",
    "member_configs",
    "presets",
    "tag",
    "to_toml",
]

C = TypeVar("C", bound=Config)


def load(cls: type[C], args: Sequence[str], *, stage: str) -> C:
    """Settings from words of the command line.

    Args:
        cls: The stage's Config.
        args: Preset names, paths of TOML or JSON files, and `key=value` with dots for nested keys. A value
            is read as TOML; what is not TOML is a string; `none` means no value where that is allowed.
        stage: Name of the stage, which is also the folder of its presets.

    Raises:
        BadInput: One line naming the field, what is wrong and the remedy.
    """
    layers = Layers(cls)
    words, overrides = split(args)
    if cls.positional is not None and words and cls.positional not in {key for key, _ in overrides}:
        overrides.insert(0, (cls.positional, words.pop(0)))
    for word in words:
        layers.add(*read_file(word, stage))
    given: dict[str, Any] = {}
    for key, value in overrides:
        put(given, key, Raw(value))
    layers.add(given, "")
    return layers.validate(cls)


def from_json(cls: type[C], path: Path) -> C:
    """The settings a run was made with, from its `config.json`.

    Raises:
        BadInput: If the file is missing, torn, or does not fit this version of the stage.
    """
    layers = Layers(cls)
    layers.add(*read_file(str(path), ""))
    return layers.validate(cls)


def config_hash(cfg: Config, extra: Sequence[str] = ()) -> str:
    """Hex SHA-256 of what decides a result: settings, and `extra` (fingerprints).

    Left out are `out`, `name` and `tensorboard`, which say only where and how it is kept.
    """
    settings = cfg.model_dump(mode="json", exclude={"out", "name", "tensorboard"})
    text = json.dumps([settings, list(extra)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
