"""Files stay under 500 lines and functions under 80, or say at their top why not (`# size: the reason`)."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "examples", "benchmarks", "reproductions")
FILE_LINES = 500
FUNCTION_LINES = 80
REASON = re.compile(r"#\s*size:\s*\S.{9,}")


def has_reason(lines: list[str]) -> bool:
    return any(REASON.search(line) for line in lines[:6])


def too_long(text: str) -> Iterator[str]:
    """Yield one line for the file and for each function that is over its limit without a reason."""
    lines = text.splitlines()
    if len(lines) > FILE_LINES and not has_reason(lines):
        yield f"{len(lines)} lines, {FILE_LINES} allowed"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            last = node.end_lineno or node.lineno
            length = last - node.lineno + 1
            if length > FUNCTION_LINES and not has_reason(lines[node.lineno - 1 : last]):
                yield f"line {node.lineno}: {node.name} has {length} lines, {FUNCTION_LINES} allowed"


def python_files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_sizes():
    paths = python_files()
    assert paths
    assert not [
        f"{path.relative_to(ROOT)}: {problem}"
        for path in paths
        for problem in too_long(path.read_text(encoding="utf-8"))
    ]


def test_the_check_sees_a_long_file_and_a_long_function():
    body = "    pass\n" * FUNCTION_LINES
    assert list(too_long("def f():\n" + body)) == ["line 1: f has 81 lines, 80 allowed"]
    assert not list(too_long("def f():  # size: one table that cannot be split\n" + body))
    assert list(too_long("x = 1\n" * (FILE_LINES + 1))) == ["501 lines, 500 allowed"]
    assert not list(too_long("# size: generated from the schema\n" + "x = 1\n" * FILE_LINES))
    nested = "def g():\n" + textwrap.indent("def f():\n" + body, "    ")
    assert len(list(too_long(nested))) == 2
