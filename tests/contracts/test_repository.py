"""What may not be in the repository: large files, a machine's own paths, unfinished business."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 2 * 1024 * 1024
# Written in pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.~}$])/(?:work|root|home|Users|mnt)" + r"/\w")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|NotImpl" + r"ementedError")
EMPTY_TEST = re.compile(
    r"assert Tr" + r"ue\b|mark\.xf" + r"ail|pytest\.xf" + r"ail|mark\.sk" + r"ip\b|pytest\.sk" + r"ip\((?!f?[\"']no )"
)


def files() -> list[Path]:
    """Every file that is in git or would be with `git add .`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []


def found(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in paths
        for number, line in enumerate(lines(path), start=1)
        if pattern.search(line)
    ]


def test_no_file_is_over_two_megabytes():
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in files()}
    assert sizes
    assert not {name: size for name, size in sizes.items() if size > LIMIT}


def test_no_machine_paths():
    assert not found(MACHINE_PATH, files())


def test_no_unfinished_business():
    assert not found(UNFINISHED, [path for path in files() if path.suffix in {".py", ".toml", ".md", ".html", ".js"}])


def test_no_test_is_empty_or_switched_off():
    """A test may be left out only where the machine lacks what it needs, and says so: "no browser at …"."""
    tests = [path for path in files() if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")]
    assert not found(EMPTY_TEST, tests)


@pytest.mark.parametrize(
    ("pattern", "bad", "good"),
    [
        (MACHINE_PATH, "open('/ho" + "me/ann/data.jsonl')", "see docs/home/page.md and https://x.org/home/a"),
        (UNFINISHED, "# TO" + "DO: later", "the todo list of a resident"),
        (EMPTY_TEST, "    assert Tr" + "ue", "    assert Trueness(x)"),
    ],
)
def test_the_patterns_find_what_they_should(pattern, bad, good):
    assert pattern.search(bad)
    assert not pattern.search(good)
