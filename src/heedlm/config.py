"""Settings: presets and TOML files, then `key=value`, checked before anything is loaded.

Later layers win. A wrong key, type or range is one line that names the field, what is wrong with it and
the nearest right key.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from heedlm.errors import BadInput

_NUMBERS = (int, float, int | None, float | None)
OVERRIDE = re.compile(r"([A-Za-z_][\w-]*(?:\.[\w-]+)*)=(.*)", re.DOTALL)


class Config(BaseModel):
    """Frozen settings without unknown keys; stages and the members of every seam derive from it.

    `positional` names the field that the first plain word on the command line fills.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
    positional: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, bool) and key in cls.model_fields:
                if cls.model_fields[key].annotation in _NUMBERS:
                    context = {"field": key, "value": value}
                    raise PydanticCustomError("truth_as_number", "must be a number", context)
        return values


class StageConfig(Config):
    """What every stage has in common."""

    out: Path = Field(default=Path("runs"), description="folder that holds all runs")
    name: str | None = Field(default=None, description="name of the run; taken from its inputs if not given")
    seed: int = Field(default=0, ge=0, description="seed of everything random in this stage")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; all cores if not given")

    @field_validator("name")
    @classmethod
    def _usable_as_folder(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError("must consist of letters, digits, '_', '-' and '.', as it names a folder")
        return name


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
    layers = _Layers(cls)
    words, overrides = _split(args)
    if cls.positional is not None and words and cls.positional not in {key for key, _ in overrides}:
        overrides.insert(0, (cls.positional, words.pop(0)))
    for word in words:
        layers.add(*_read_file(word, stage))
    given: dict[str, Any] = {}
    for key, value in overrides:
        _set(given, key, _Raw(value))
    layers.add(given, "")
    return layers.validate(cls)


def from_json(cls: type[C], path: Path) -> C:
    """The settings a run was made with, from its `config.json`.

    Raises:
        BadInput: If the file is missing, torn, or does not fit this version of the stage.
    """
    layers = _Layers(cls)
    layers.add(*_read_file(str(path), ""))
    return layers.validate(cls)


def presets(stage: str) -> list[str]:
    """Names of the presets shipped for a stage."""
    folder = resources.files("heedlm") / "presets" / stage
    if not folder.is_dir():
        return []
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def config_hash(cfg: Config, extra: Sequence[str] = ()) -> str:
    """Hex SHA-256 of what decides a result: all settings but `out` and `name`, and `extra` (fingerprints)."""
    settings = cfg.model_dump(mode="json", exclude={"out", "name"})
    text = json.dumps([settings, list(extra)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


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


@dataclass
class _Raw:
    """A value from the command line whose type only the field it meets can tell."""

    text: str


def _parsed(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"v = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["v"] if len(parsed) == 1 else text


def _readings(raw: _Raw) -> list[Any]:
    """What a word may mean, the likeliest first: no value, TOML, the bare word, a list split at commas."""
    first = _parsed(raw.text)
    readings = [None, first] if first == "none" else [first]
    if first != raw.text:
        readings.append(raw.text)
    if not isinstance(first, list | dict):
        readings.append([_parsed(part.strip()) for part in raw.text.split(",")])
    return readings


def _split(args: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    words: list[str] = []
    overrides: list[tuple[str, str]] = []
    for arg in args:
        match = OVERRIDE.fullmatch(arg)
        if match:
            overrides.append((match[1].replace("-", "_"), match[2]))
        else:
            words.append(arg)
    return words, overrides


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise BadInput(f"{key}: {part} is given both as one value and with keys of its own; keep one")
    if isinstance(tree.get(last), dict):
        raise BadInput(f"{key}: is given both as one value and with keys of its own; keep one")
    tree[last] = value


def _read_file(word: str, stage: str) -> tuple[dict[str, Any], str]:
    """The settings in a preset or file, and the name that messages give it."""
    path = Path(word)
    if path.suffix in {".toml", ".json"} or "/" in word:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise BadInput(
                f"{word}: cannot be read ({error.strerror}); give a TOML file or a preset"
            ) from None
        except UnicodeDecodeError as error:
            raise BadInput(f"{word}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    else:
        known = presets(stage)
        if word not in known:
            raise BadInput(f"{word!r} is no preset of {stage}{_nearest(word, known)}; {_listed(known)}")
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
        key: _with_nones(value) if isinstance(value, dict) else _Raw("none") if value == "none" else value
        for key, value in tree.items()
    }


def _listed(names: Sequence[str]) -> str:
    return f"there are: {', '.join(names)}" if names else "it has none; give a TOML file or key=value"


def _nearest(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else ""


def member_configs(annotation: Any) -> list[type[Config]]:
    """The Config classes an annotation allows: one for a nested table, several for a union."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Config) else []
    if typing.get_origin(annotation) in {tuple, list, dict, set, frozenset}:
        return []
    return [member for part in typing.get_args(annotation) for member in member_configs(part)]


def discriminator(info: FieldInfo) -> str | None:
    """The key that chooses between the members of a union field, if it is one."""
    if isinstance(info.discriminator, str):
        return info.discriminator
    stack: list[Any] = [info.annotation]
    while stack:
        annotation = stack.pop()
        for extra in getattr(annotation, "__metadata__", ()):
            if isinstance(extra, FieldInfo) and isinstance(extra.discriminator, str):
                return extra.discriminator
        stack.extend(part for part in typing.get_args(annotation) if not isinstance(part, str))
    return None


def tag(member: type[Config], key: str) -> str:
    """The value of the discriminating key that chooses this member."""
    return str(typing.get_args(member.model_fields[key].annotation)[0])


def _default(info: FieldInfo) -> Any:
    return info.get_default(
        call_default_factory=not getattr(info, "default_factory_takes_validated_data", False)
    )


def _member(info: FieldInfo, values: Mapping[str, Any]) -> type[Config] | None:
    """The Config that a table of values is meant for."""
    members = member_configs(info.annotation)
    key = discriminator(info)
    if key is None or len(members) == 1:
        return members[0] if members else None
    chosen = values.get(key)
    chosen = chosen.text if isinstance(chosen, _Raw) else chosen
    return next((member for member in members if tag(member, key) == chosen), None)


def keys(cls: type[Config], values: Mapping[str, Any]) -> Iterator[str]:
    """Every dotted key that may be set, given the union members that `values` chooses."""
    for name, info in cls.model_fields.items():
        yield name
        inner = values.get(name)
        default = _default(info)
        if not isinstance(inner, Mapping):
            inner = default.model_dump() if isinstance(default, Config) else {}
        member = _member(info, inner)
        if member is not None:
            yield from (f"{name}.{key}" for key in keys(member, inner))


@dataclass
class _Layers:
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
            self._merge(
                table, value, _member(info, {**table, **value}) if info else None, source, f"{at}{key}."
            )

    @staticmethod
    def _table_to_fill(old: Any, value: Mapping[str, Any], info: FieldInfo | None) -> dict[str, Any]:
        """What a layer's table is laid over: the earlier table, else the field's own default.

        Choosing another member of a union drops the settings of the one before.
        """
        if info is None:
            return old if isinstance(old, dict) else {}
        default = _default(info)
        table: dict[str, Any] = {}
        if isinstance(old, dict):
            table = old
        elif isinstance(default, Config):
            table = default.model_dump()
        key = discriminator(info)
        if key is not None and key in value:
            wanted = value[key].text if isinstance(value[key], _Raw) else value[key]
            earlier = table.get(key)
            if wanted != (earlier.text if isinstance(earlier, _Raw) else earlier):
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
                faults = [(_where(fault, plain), fault) for fault in error.errors()]
            for at, fault in faults:
                first.setdefault(at, fault)
            moved = {at for at, _ in faults if at in open_choices}
            if not moved:
                break
            for at in moved:
                choice[at] = choice.get(at, 0) + 1
        # The likeliest reading's fault is the one to tell of, not that of the last one tried.
        at = faults[0][0]
        line = self._explain(at, first[at], plain)
        more = len({at for at, _ in faults}) - 1
        raise BadInput(line + (f" (and {more} more)" if more else ""))

    def _explain(self, at: str, fault: Any, plain: Mapping[str, Any]) -> str:
        source = next((self.sources[at[:cut]] for cut in _cuts(at) if at[:cut] in self.sources), "")
        where = f"{source}: {at}" if source else at
        kind, context = fault["type"], fault.get("ctx", {})
        if kind == "extra_forbidden":
            known = list(keys(self.cls, plain))
            leaves = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
            nearest = _nearest(at, known) or _nearest_leaf(at.rsplit(".", 1)[-1], leaves)
            return f"{where}: no such setting{nearest}"
        if kind in {"missing", "union_tag_not_found"}:
            key = (
                at
                if kind == "missing"
                else f"{at}.{str(context.get('discriminator', 'name')).strip(chr(39))}"
            )
            return f"{where}: is required ({_description(self.cls, at, plain)}); give {key}=…"
        got = f", got {_shown(fault['input'])}"
        if kind in {"model_type", "model_attributes_type"}:
            return f"{where}: is a table of settings{got}; give {at}.…=…"
        if kind in {"literal_error", "enum", "union_tag_invalid"}:
            allowed = str(context.get("expected", context.get("expected_tags", ""))).replace(" or ", ", ")
            names = [name.strip().strip("'") for name in allowed.split(",")]
            value = str(context.get("tag", fault["input"])).strip("'")
            return f"{where}: must be one of {', '.join(names)}, got {value!r}{_nearest(value, names)}"
        if kind == "value_error":
            return f"{where}: {context.get('error', fault['msg'])}{got}"
        message = fault["msg"].replace("Input should be", "must be").replace("Value should", "must")
        return f"{where}: {message[:1].lower()}{message[1:].split(', unable')[0].split(', got')[0]}{got}"


def _plain(tree: Mapping[str, Any], choice: Mapping[str, int], at: str) -> tuple[dict[str, Any], set[str]]:
    """The tree with one reading for each raw word, and the places where another reading is left."""
    plain: dict[str, Any] = {}
    left: set[str] = set()
    for key, value in tree.items():
        here = at + key
        if isinstance(value, _Raw):
            readings = _readings(value)
            picked = choice.get(here, 0)
            plain[key] = readings[picked]
            if picked + 1 < len(readings):
                left.add(here)
        elif isinstance(value, dict):
            plain[key], inner = _plain(value, choice, here + ".")
            left |= inner
        else:
            plain[key] = value
    return plain, left


def _where(fault: Any, plain: Mapping[str, Any]) -> str:
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
    member = _member(info, inner) if isinstance(inner, Mapping) else None
    if rest and member is not None and isinstance(inner, Mapping):
        return _description(member, rest, inner)
    return info.description or "no description"


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Path) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
