"""What settings are made of, and the shape of a settings class."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

# A setting of everything that computes with a model; `models.compute.find_device` reads it.
Device = Annotated[
    str,
    Field(description="where models compute: cpu, cuda, cuda:1 and so on; auto: a GPU if torch can use one, else cpu"),
]
_NUMBERS = (int, float, int | None, float | None)


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
            info = cls.model_fields.get(key) if isinstance(value, bool) else None
            if info is not None and info.annotation in _NUMBERS:
                context = {"field": key, "value": value}
                raise PydanticCustomError("truth_as_number", "must be a number", context)
        return values


class StageConfig(Config):
    """What every stage has in common."""

    out: Path = Field(default=Path("runs"), description="folder that holds all runs")
    name: str | None = Field(default=None, description="name of the run; taken from its inputs if not given")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of everything random in this stage")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; all cores if not given")
    tensorboard: bool = Field(
        default=False, description="write what metrics.jsonl holds as TensorBoard events too, into RUN/tensorboard"
    )

    @field_validator("name")
    @classmethod
    def _usable_as_folder(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError("must consist of letters, digits, '_', '-' and '.', as it names a folder")
        return name


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


def default_of(info: FieldInfo) -> Any:
    """What a field holds when nothing is given; pydantic's undefined if something must be."""
    factory: Any = info.default_factory
    return info.default if factory is None else factory()


def member_for(info: FieldInfo, values: Mapping[str, Any]) -> type[Config] | None:
    """The Config that a table of values is meant for."""
    members = member_configs(info.annotation)
    key = discriminator(info)
    if key is None or len(members) == 1:
        return members[0] if members else None
    chosen = values.get(key)
    chosen = getattr(chosen, "text", chosen)  # a word of the command line is not read yet
    return next((member for member in members if tag(member, key) == chosen), None)


def keys(cls: type[Config], values: Mapping[str, Any]) -> Iterator[str]:
    """Every dotted key that may be set, given the union members that `values` chooses."""
    for name, info in cls.model_fields.items():
        yield name
        inner = values.get(name)
        default = default_of(info)
        if not isinstance(inner, Mapping):
            inner = default.model_dump() if isinstance(default, Config) else {}
        member = member_for(info, inner)
        if member is not None:
            yield from (f"{name}.{key}" for key in keys(member, inner))
