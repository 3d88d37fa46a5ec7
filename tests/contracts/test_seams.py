"""Every seam: a file in its folder that the union does not name fails, and members look as `seams` says.

What members do is put to the test in `test_seams_objectives.py` and `test_seams_others.py`.
"""

import ast
import importlib
import inspect
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from heedlm import seams
from heedlm.config import Config
from heedlm.config.base import member_configs

SOURCE = Path(seams.__file__).parent


@dataclass(frozen=True)
class Seam:
    """A folder, the union in its `__init__.py`, what members promise, and files that hold no member."""

    folder: str
    union: str
    protocols: tuple[type, ...]
    support: frozenset[str] = frozenset()

    @property
    def members(self) -> list[type[Config]]:
        return member_configs(getattr(importlib.import_module(f"heedlm.{self.folder.replace('/', '.')}"), self.union))


OBJECTIVES = (
    seams.TokenObjective,
    seams.RankingObjective,
    seams.StepObjective,
    seams.PairObjective,
    seams.SingleObjective,
    seams.CriticObjective,
    seams.GroupObjective,
)
ROLLOUT_SUPPORT = frozenset("answering cache decoding network rows sampling slots streaming weights".split())
SEAMS = [
    Seam("objectives", "Objective", OBJECTIVES),
    Seam("rollout", "Engine", (seams.Engine,), ROLLOUT_SUPPORT),
    Seam("rewards", "RewardSource", (seams.RewardSource,), frozenset({"types", "shaping"})),
    Seam("judges", "Judge", (seams.Judge,), frozenset("asked client constitution frames labelling orders".split())),
    Seam("feedback/kinds", "QuestionKind", (seams.QuestionKind,), frozenset({"reply"})),
]
MEMBERS = [(seam, member) for seam in SEAMS for member in seam.members]
IDS = [f"{seam.folder}-{member.__name__}" for seam, member in MEMBERS]


def is_member(cls: type) -> bool:
    """Whether a class has what makes a member: a `name` that is a Literal."""
    field = getattr(cls, "model_fields", {}).get("name")
    return field is not None and typing.get_origin(field.annotation) is typing.Literal


def strays(seam: Seam, files: dict[str, list[type]]) -> list[str]:
    """What is wrong with a folder, given the classes that each of its files defines."""
    problems = []
    for stem, classes in files.items():
        found = [cls for cls in classes if is_member(cls)]
        if stem not in seam.support and not found:
            problems.append(f"{seam.folder}/{stem}.py holds no member of {seam.union}")
        problems += [
            f"{seam.folder}/{stem}.py: {cls.__name__} is missing from {seam.union}"
            for cls in found
            if cls not in seam.members
        ]
    return problems


def classes_in(folder: str) -> dict[str, list[type]]:
    files = {}
    for path in sorted((SOURCE / folder).glob("*.py")):
        if path.stem != "__init__":
            module = importlib.import_module(f"heedlm.{folder.replace('/', '.')}.{path.stem}")
            files[path.stem] = [
                cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__
            ]
    return files


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.folder)
def test_every_file_is_in_its_union(seam):
    assert seam.members
    assert not strays(seam, classes_in(seam.folder))
    assert seam.support <= classes_in(seam.folder).keys(), "a supporting file that is no longer there"


class Forgotten(Config):
    """A member that no union names."""

    name: typing.Literal["forgotten"] = Field(default="forgotten", description="its name")


def test_the_check_sees_a_file_that_is_missing_from_its_union():
    assert strays(SEAMS[0], {"forgotten": [Forgotten]}) == [
        "objectives/forgotten.py: Forgotten is missing from Objective"
    ]
    assert strays(SEAMS[0], {"empty": [Config]}) == ["objectives/empty.py holds no member of Objective"]
    assert not strays(SEAMS[2], {"types": []})


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.folder)
def test_names_choose_members(seam):
    names = [member.model_fields["name"].default for member in seam.members]
    assert len(set(names)) == len(names)
    adapter = TypeAdapter(getattr(importlib.import_module(f"heedlm.{seam.folder.replace('/', '.')}"), seam.union))
    for name, member in zip(names, seam.members, strict=True):
        assert typing.get_args(member.model_fields["name"].annotation) == (name,)
        if not any(field.is_required() for field in member.model_fields.values()):
            assert type(adapter.validate_python({"name": name})) is member
    with pytest.raises(ValidationError):
        adapter.validate_python({"name": "no such member"})


@pytest.mark.parametrize(("seam", "member"), MEMBERS, ids=IDS)
def test_a_member_is_a_small_described_config(seam, member):
    assert issubclass(member, Config)
    assert len((member.__doc__ or "").split()) >= 5
    fields = {name: field for name, field in member.model_fields.items() if name != "name"}
    assert not [name for name, field in fields.items() if not field.description]
    assert len(fields) <= 12


def promised(protocol: type) -> dict[str, inspect.Signature]:
    """The methods of a Protocol, own and inherited."""
    return {
        name: inspect.signature(function)
        for cls in protocol.__mro__
        if cls.__module__ == seams.__name__
        for name, function in vars(cls).items()
        if inspect.isfunction(function) and (not name.startswith("_") or name == "__call__")
        and name != "_no_init_or_replace_init"
    }  # fmt: skip


def kept(member: type, protocol: type) -> bool:
    """Whether a class has every method of a Protocol, with its parameters by name and order."""
    for name, wanted in promised(protocol).items():
        function = inspect.getattr_static(member, name, None)
        if not inspect.isfunction(function):
            return False
        if list(inspect.signature(function).parameters)[: len(wanted.parameters)] != list(wanted.parameters):
            return False
    return True


@pytest.mark.parametrize(("seam", "member"), MEMBERS, ids=IDS)
def test_a_member_has_the_methods_of_exactly_one_protocol(seam, member):
    assert sum(kept(member, protocol) for protocol in seam.protocols) == 1


def test_the_check_sees_a_missing_method_and_a_renamed_parameter():
    assert promised(seams.CriticObjective).keys() == {"policy", "value"}
    assert promised(seams.GroupObjective).keys() == {"advantages", "policy", "count"}
    assert promised(seams.PairObjective).keys() == {"reward", "__call__"}

    class Silent:
        pass

    class Renamed:
        def compare(self, prompt, first, second):
            pass

    class Right:
        def compare(self, prompt, a, b, loudly=False):
            pass

    assert [kept(cls, seams.Judge) for cls in (Silent, Renamed, Right)] == [False, False, True]


def test_seams_is_one_page_of_protocols_that_imports_nothing_heavy():
    tree = ast.parse(Path(seams.__file__).read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {getattr(node, "module", None) for node in imports} == {"__future__", "collections.abc", "typing"}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node)
            assert {base.id for base in node.bases if isinstance(base, ast.Name)} & {"Protocol", "NamedTuple"}
