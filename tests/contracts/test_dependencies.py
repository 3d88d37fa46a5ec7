"""Dependencies: declared where imported, imported where declared, pinned, and installed as pinned."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
IMPORT_NAMES = {"argon2-cffi": "argon2", "scikit-learn": "sklearn", "pytest-xdist": "xdist", "lm-eval": "lm_eval"}
# Parts of those libraries with names of their own.
COMES_WITH = {"pydantic_core": "pydantic", "markupsafe": "jinja2", "starlette": "fastapi"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def runtime() -> list[Requirement]:
    return [Requirement(text) for text in project()["dependencies"]]


def direct() -> list[Requirement]:
    extras = project()["optional-dependencies"].values()
    return runtime() + [Requirement(text) for extra in extras for text in extra]


def pins() -> dict[str, Version]:
    found: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, exact = line.split("==")
            assert canonicalize_name(name) not in found, f"{name} is pinned twice"
            found[canonicalize_name(name)] = Version(exact)
    return found


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """Yield (top-level package, place) for every import of a third party under a folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "heedlm":
                    yield top, f"{path.relative_to(ROOT)}:{node.lineno}"


def import_name(requirement: Requirement) -> str:
    return IMPORT_NAMES.get(requirement.name, requirement.name.replace("-", "_"))


def test_every_direct_dependency_is_pinned():
    unpinned = [r.name for r in direct() if canonicalize_name(r.name) not in pins()]
    assert not unpinned, f"add {unpinned} to constraints.txt"


def test_no_pin_is_left_over():
    assert not set(pins()) - {canonicalize_name(r.name) for r in direct()}


def test_pins_satisfy_what_the_project_asks_for():
    wrong = [str(r) for r in direct() if not r.specifier.contains(pins()[canonicalize_name(r.name)])]
    assert not wrong


def test_torch_is_pinned_as_agreed():
    assert pins()["torch"] == Version("2.13.0")
    assert next(r for r in runtime() if r.name == "torch").specifier.contains("2.11")
    assert project()["requires-python"] == ">=3.11"


def test_the_installed_versions_are_the_pinned_ones():
    different = {}
    for name, pinned in pins().items():
        try:
            installed = Version(version(name))
        except PackageNotFoundError:
            continue  # an extra that the tests do without
        if installed.public != pinned.public:
            different[name] = f"{installed} installed, {pinned} pinned"
    assert not different


def test_the_package_imports_only_what_is_declared():
    known = {import_name(r) for r in direct()}
    assert not [f"{place} imports {name}" for name, place in imports("src") if COMES_WITH.get(name, name) not in known]


def test_every_runtime_dependency_is_used():
    used = {name for name, _ in imports("src")}
    assert not [r.name for r in runtime() if import_name(r) not in used]
