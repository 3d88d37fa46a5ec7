"""The documentation covers every setting, and the files it names exist."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "heedlm"
SCHEMA = PACKAGE / "cli" / "schema.json"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_settings", ROOT / "docs" / "make_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schema() -> dict:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def test_every_setting_is_described():
    empty = [
        f"{command} {field['key']}"
        for command, facts in schema().items()
        for field in facts["fields"]
        if len(field["description"]) < 5
    ]
    assert not empty


def test_the_page_of_settings_is_up_to_date():
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == generator().page(schema()), "run make schema"


def test_every_setting_is_on_the_page():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for command, facts in schema().items():
        section = page.split(f"## heed {command}\n")[1].split("\n## ")[0]
        missing = [field["key"] for field in facts["fields"] if f"| `{field['key']}` |" not in section]
        assert not missing, f"heed {command}: {missing}"


def test_every_stage_is_a_command():
    """A stage nobody can call would be documented nowhere."""
    stages = {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__"}
    commands = PACKAGE.joinpath("cli", "commands.py").read_text(encoding="utf-8")
    assert not [stage for stage in stages if f'"heedlm.stages.{stage}"' not in commands]


def test_every_command_is_in_the_schema():
    commands = PACKAGE.joinpath("cli", "commands.py").read_text(encoding="utf-8")
    assert set(schema()) == set(re.findall(r'^    "([a-z_-]+)": Command\(', commands, re.M))


def test_every_file_in_the_table_of_papers_exists():
    rows = [line for line in (ROOT / "docs" / "papers.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    named = [name for row in rows[1:] for name in re.findall(r"`([\w/]+\.py)`", row)]
    assert named
    assert not [name for name in named if not (PACKAGE / name).is_file()]


def test_every_objective_is_in_the_table_of_papers():
    papers = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    files = [path for path in (PACKAGE / "objectives").glob("*.py") if not path.name.startswith("_")]
    assert files
    assert not [path.name for path in files if f"`objectives/{path.name}`" not in papers]


def test_decisions_are_numbered_and_say_why():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert all(re.search(rf"(## |\*\*){part}", text) for part in ("Context", "Decision", "Consequence")), page.name
