"""One stage after another inside a run of the chain's own, which can be taken up where it stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from pydantic import TypeAdapter

from heedlm.config import load
from heedlm.errors import BadInput
from heedlm.rewards import RewardSource, files_of
from heedlm.runs import Run, find_model


class Chain:
    """Runs stages whose directories lie in the chain's own run directory.

    Args:
        run: The chain's run.
        preset: Preset every stage starts from, where it has one of that name.
        common: Settings for every stage that has them, such as seed and device.
        overrides: For each stage, the settings the user changed.
    """

    def __init__(
        self,
        run: Run,
        preset: str | None,
        common: Mapping[str, Any],
        overrides: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.run = run
        self.preset = preset
        self.common = common
        self.overrides = overrides
        self.seconds: dict[str, float] = {}

    def configure(
        self, stage: ModuleType, name: str, settings: Mapping[str, Any], place: str = "", presets: Sequence[str] = ()
    ) -> Any:
        """The stage's settings: presets, then what the chain gives it, then what the user changed."""
        words = [*([self.preset] if self.preset else []), *presets]
        common = {key: value for key, value in self.common.items() if key in stage.Config.model_fields}
        given = {**common, **settings, "out": str(self.run.path / place)}
        return load(stage.Config, [*words, *as_words(given), *as_words(self.overrides.get(name, {}))], stage=name)

    def do(
        self, stage: ModuleType, name: str, settings: Mapping[str, Any], *, place: str = "", presets: Sequence[str] = ()
    ) -> Run:
        """Run a stage, or take up the run of it that lies here already.

        Args:
            stage: The stage.
            name: Its name, which is that of its presets.
            settings: What the chain gives it.
            place: Folder within the chain's own, for a chain that runs one stage several times.
            presets: Presets beside the chain's.
        """
        earlier = [Run.open(path.parent) for path in (self.run.path / place / name).glob("*/run.json")]
        config = self.configure(stage, name, settings, place, presets)
        if earlier and earlier[0].info.status == "complete":
            done = earlier[0]
        else:
            print(f"{name} …", file=sys.stderr, flush=True)
            done = cast(Run, stage.run(config, resume=earlier[0].path if earlier else None))
        self.seconds[name] = done.info.seconds
        return done


def check_settings(
    stages: Mapping[str, ModuleType], preset: str | None, overrides: Mapping[str, Mapping[str, Any]]
) -> None:
    """Find wrong settings of a later stage before the first one has run for hours.

    Raises:
        BadInput: Preset or overrides are none that the stage takes.
    """
    for name, stage in stages.items():
        later = {key: "later" for key, info in stage.Config.model_fields.items() if info.is_required()}
        words = [*([preset] if preset else []), *as_words(later), *as_words(overrides.get(name, {}))]
        try:
            load(stage.Config, words, stage=name)
        except BadInput as error:
            raise BadInput(f"settings of {name}: {error}") from None


def check_source(source: str | None) -> None:
    """Find out before training for hours that a reward or judge named by a word is not there; rules need no files.

    Raises:
        BadInput: A model or Python file of it is missing.
    """
    if source is None:
        return
    given = TypeAdapter(RewardSource).validate_python(source)
    for role, path in files_of(given).items():
        if role != "reward_code":
            find_model(path)
        elif not Path(path).is_file():
            raise BadInput(f"{path}: no such Python file; give the path of a .py file on this machine with score")


def as_words(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as the `key=value` words of a command line."""
    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words += as_words(value, f"{prefix}{key}.")
        else:
            text = "none" if value is None else str(value) if isinstance(value, Path) else json.dumps(value)
            words.append(f"{prefix}{key}={text}")
    return words


def merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, later ones over earlier ones."""
    result: dict[str, Any] = {}
    for one in settings:
        for key, value in one.items():
            old = result.get(key)
            both = isinstance(value, Mapping) and isinstance(old, Mapping)
            result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
