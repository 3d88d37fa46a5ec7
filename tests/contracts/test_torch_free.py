"""Help, configuration, data and pages must not wait for torch: imported alone, they do not load it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "heedlm"
TORCH_FREE = [
    "cli",
    "config",
    "corpus",
    "errors",
    "feedback",
    "monitor",
    "progress",
    "records",
    "report",
    "runs",
    "seams",
    "village",
    "web",
]
BUILT = ["cli", "config", "errors", "progress", "records", "report", "runs", "seams", "village"]
HEAVY = ["torch", "transformers"]

LOOK = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [sys.argv[1]]
if hasattr(package, "__path__"):
    names += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(json.dumps({"modules": names, "heavy": [name for name in sys.argv[2:] if name in sys.modules]}))
"""


def exists(name: str) -> bool:
    return (SOURCE / f"{name}.py").exists() or (SOURCE / name / "__init__.py").exists()


def look(module: str) -> dict[str, list[str]]:
    """Import a module and all below it in a fresh interpreter; say which heavy libraries came along."""
    result = subprocess.run(
        [sys.executable, "-c", LOOK, module, *HEAVY],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [name for name in TORCH_FREE if name in BUILT or exists(name)])
def test_importing_it_does_not_import_torch(name):
    seen = look(f"heedlm.{name}")
    assert seen["modules"]
    assert seen["heavy"] == [], f"importing heedlm.{name} pulls in {seen['heavy']}"


def test_the_check_itself_sees_torch():
    assert "torch" in look("heedlm.ops")["heavy"]
