"""What README.md and docs/ tell a reader to type exists, and the files they point to are there."""

import json
import re
from pathlib import Path

import pytest

from heedlm.cli.commands import ALIASES

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
COMMAND_BLOCK = re.compile(r"```(?:sh|bash|console)\n(.*?)```", re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def commands(page: Path) -> list[list[str]]:
    """Every command line in the page's shell blocks, as words; continued lines are joined."""
    blocks = COMMAND_BLOCK.findall(page.read_text(encoding="utf-8"))
    joined = "\n".join(blocks).replace("\\\n", " ")
    stripped = (line.split("  #")[0].strip().removeprefix("$ ") for line in joined.splitlines())
    return [line.split() for line in stripped if line and not line.startswith("#")]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def schema() -> dict:
    return json.loads((ROOT / "src" / "heedlm" / "cli" / "schema.json").read_text(encoding="utf-8"))


def keys(words: list[str]) -> list[str]:
    """The settings in the words after a command: `key=value`, `--key value` and `--key=value`."""
    found = [re.match(r"(?:--)?([A-Za-z_][\w.-]*)=", word) for word in words]
    return [match[1] for match in found if match] + [
        word[2:] for word in words if word.startswith("--") and "=" not in word
    ]


def is_setting(command: str, key: str) -> bool:
    """Whether a command takes a setting; a pipeline's `ppo.kl.coef` is the setting `kl.coef` of `heed ppo`."""
    kinds = {field["key"]: field["type"] for field in schema()[command]["fields"]}
    tables = {name.rpartition(".")[0] for name in kinds}
    if key in {*kinds, *tables, "help", "json", "quiet"}:
        return True
    table, _, rest = key.partition(".")
    stage = "reward" if table == "reward_model" else table
    return kinds.get(table) == "table of settings" and stage in schema() and is_setting(stage, rest)


def test_the_two_commands_are_in_the_readme():
    typed = commands(README)
    assert ["make", "demo"] in typed
    assert ["make", "test"] in typed


def test_make_demo_and_make_test_do_what_they_are_for():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo:.*\n\t.*heed demo seed=\$\(SEED\)", makefile, re.M)
    assert re.search(r"^test:.*(?:\n\t.*)*pytest", makefile, re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_exists(page):
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets(), f"make {words[1]} is not in the Makefile"
        elif words[0] == "heed" and not words[1].startswith("-"):
            command = ALIASES.get(words[1], words[1])
            assert command in schema(), f"heed {words[1]} is no command"
            unknown = [key for key in keys(words[2:]) if not is_setting(command, key)]
            assert not unknown, f"heed {words[1]} has no {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"


def test_the_file_map_is_complete():
    """Every module and folder of the package has its phrase in the README, and nothing else has."""
    text = README.read_text(encoding="utf-8")
    block = re.search(r"```text\nsrc/heedlm/\n(.*?)```", text, re.S)
    assert block
    mapped = {re.split(r"\s{2,}", line.strip(), maxsplit=1)[0] for line in block[1].splitlines() if line.strip()}
    package = ROOT / "src" / "heedlm"
    there = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    there |= {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    there |= {path.name for path in package.glob("*.json")}
    assert mapped == there
