"""docs/capabilities.md answers for ids 1 to 90: a test or result that exists, or "not built yet"."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAP = ROOT / "docs" / "capabilities.md"
NOT_BUILT = "not built yet"


def rows() -> dict[int, tuple[str, str]]:
    """Read the table: id → (what it is, where it is shown)."""
    found: dict[int, tuple[str, str]] = {}
    for line in MAP.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[0].isdigit():
            assert int(cells[0]) not in found, f"id {cells[0]} appears twice"
            found[int(cells[0])] = (cells[1], cells[2])
    return found


def missing(evidence: str) -> list[str]:
    """Say what is wrong with the evidence of one row; `path` or `path::test` in backticks counts."""
    names = re.findall(r"`([^`]+)`", evidence)
    if not names:
        return [] if NOT_BUILT in evidence else ["names neither a test nor a result"]
    problems = []
    for name in names:
        path, _, test = name.partition("::")
        if not path.startswith(("tests/", "examples/", "benchmarks/", "reproductions/")):
            problems.append(f"{path} is neither a test nor a result")
        elif not (ROOT / path).is_file():
            problems.append(f"{path} does not exist")
        elif test and not re.search(rf"^\s*(?:async )?def {re.escape(test)}\(", (ROOT / path).read_text("utf-8"), re.M):
            problems.append(f"{path} has no {test}")
    return problems


def test_every_capability_has_one_row():
    assert sorted(rows()) == list(range(1, 91))


def test_every_row_says_what_it_is():
    assert not [number for number, (what, _) in rows().items() if len(what) < 10]


def test_what_the_map_names_exists():
    wrong = {number: missing(evidence) for number, (_, evidence) in rows().items() if missing(evidence)}
    assert not wrong


def test_what_is_not_built_is_counted_in_the_summary():
    unbuilt = [number for number, (_, evidence) in rows().items() if evidence == NOT_BUILT]
    built = [number for number, (_, evidence) in rows().items() if NOT_BUILT not in evidence]
    partly = 90 - len(unbuilt) - len(built)
    summary = f"{len(built)} built, {partly} in part, {len(unbuilt)} not built yet"
    assert summary in MAP.read_text(encoding="utf-8"), f"docs/capabilities.md should say: {summary}"


def test_the_check_sees_a_wrong_row():
    assert missing("`tests/unit/test_that_is_not_there.py`")
    assert missing("`tests/contracts/test_capabilities.py::test_that_is_not_there`")
    assert missing("`src/heedlm/errors.py`")
    assert missing("shown by hand")
    assert not missing("`tests/contracts/test_capabilities.py::test_the_check_sees_a_wrong_row`")
    assert not missing(NOT_BUILT)
