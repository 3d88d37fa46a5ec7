"""The wheel as a user gets it: built, installed into an environment of its own, run outside the checkout.

Nothing is downloaded. The new environment sees the libraries that are installed beside the tests, but not the
editable Heed among them: what runs there can only have come out of the wheel.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import heedlm

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "heedlm"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """Return the folder with the commands of a fresh environment that holds the wheel."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
    installed = run(
        sys.executable,
        *("-m", "pip", "--python", root / "bin" / "python", "install", "--quiet"),
        *("--no-deps", "--no-index", "--disable-pip-version-check", wheel),
        cwd=root,
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    # One plain path entry: Python reads no .pth files behind it, so the editable install stays out of sight.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return root / "bin"


def test_the_wheel_holds_every_file_of_the_package(wheel):
    in_git = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "src/heedlm"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    expected = {name.removeprefix("src/") for name in in_git if name and (ROOT / name).is_file()}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert not expected - held
    assert not {name for name in held - expected if ".dist-info/" not in name}


def test_the_wheel_holds_presets_schema_and_templates(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    assert "heedlm/cli/schema.json" in held
    assert "heedlm/py.typed" in held
    for stage in ("pretrain", "sft", "reward", "ppo"):
        assert f"heedlm/presets/{stage}/tiny.toml" in held
    assert [name for name in held if name.startswith("heedlm/report/") and name.endswith((".html", ".jinja", ".j2"))]


def test_the_wheel_carries_its_licence_and_no_tests(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    assert not [name for name in held if name.startswith(("tests/", "examples/"))]


def test_what_is_imported_came_out_of_the_wheel(environment, tmp_path):
    where = run(environment / "python", "-c", "import heedlm; print(heedlm.__file__)", cwd=tmp_path)
    assert where.returncode == 0, where.stderr
    assert Path(where.stdout.strip()).is_relative_to(environment.parent)


def test_version_and_help(environment, tmp_path):
    version = run(environment / "heed", "--version", cwd=tmp_path)
    assert version.returncode == 0, version.stderr
    assert heedlm.__version__ in version.stdout
    overview = run(environment / "heed", "--help", cwd=tmp_path)
    assert overview.returncode == 0, overview.stderr
    for command in ("village", "pretrain", "sft", "reward", "ppo", "evaluate"):
        assert command in overview.stdout
    details = run(environment / "heed", "ppo", "--help", cwd=tmp_path)
    assert details.returncode == 0, details.stderr
    assert "seed" in details.stdout


def test_a_tiny_village_is_made_outside_the_checkout(environment, tmp_path):
    few = [f"{what}=20" for what in ("corpus", "corpus_dev", "demonstrations", "demonstrations_dev", "prompts")]
    made = run(environment / "heed", "village", "tiny", "out=runs", "seed=3", *few, cwd=tmp_path)
    assert made.returncode == 0, made.stdout + made.stderr
    (record,) = (tmp_path / "runs" / "village").glob("*/run.json")
    information = json.loads(record.read_text(encoding="utf-8"))
    assert information["status"] == "complete"
    assert information["outputs"]


def test_a_wrong_key_is_one_line_and_exit_2(environment, tmp_path):
    wrong = run(environment / "heed", "village", "tiny", "sede=3", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "sede" in wrong.stderr
    assert "seed" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1
