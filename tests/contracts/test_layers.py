"""A layer imports only below itself: the contracts of pyproject.toml, checked over the real import graph."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "heedlm"


def contracts() -> dict[str, dict]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {contract["id"]: contract for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    assert command.exists(), "import-linter is not installed beside this Python"
    return subprocess.run(
        [str(command), "--no-cache"], cwd=root, capture_output=True, text=True, check=False, timeout=120
    )


def test_every_contract_is_kept():
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(contracts())} kept, 0 broken" in result.stdout


def test_an_import_upwards_is_caught(tmp_path):
    package = tmp_path / "heedlm"
    for layer in contracts()["layers"]["layers"]:
        for name in re.findall(r"\w+", layer):
            (package / name).mkdir(parents=True)
            (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint(tmp_path).returncode == 0
    (package / "ops" / "__init__.py").write_text("import heedlm.stages\n", encoding="utf-8")
    result = lint(tmp_path)
    assert result.returncode == 1
    assert "heedlm.ops -> heedlm.stages" in result.stdout


def test_every_layer_that_exists_is_required():
    """Brackets mean "may be missing"; once built, a layer that vanished must be noticed."""
    layers = contracts()["layers"]["layers"]
    optional = {name for layer in layers for name in re.findall(r"\((\w+)\)", layer)}
    built = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert not optional & built, f"remove the brackets around {sorted(optional & built)} in pyproject.toml"
