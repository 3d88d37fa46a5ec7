"""Help pages from the generated schema, so that no help waits for torch."""

from __future__ import annotations

import json
import shutil
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

from heedlm.cli.commands import COMMANDS, GROUPS

SCHEMA = Path(__file__).with_name("schema.json")

OPTIONS = """\
Options of every command:
  --json       the last line of stdout is one JSON object: run, status, results
  --quiet      no progress, only the result
  --help       this help; for one command: heed COMMAND --help
  --version    version of Heed"""

CODES = "Exit codes: 0 done, 1 failed, 2 bad input, 3 collapsed, 4 NaN, 130 Ctrl-C, 143 SIGTERM."


@cache
def schema() -> dict[str, Any]:
    """Every command with its fields; empty before it was first generated."""
    loaded: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8")) if SCHEMA.exists() else {}
    return loaded


def overview() -> str:
    """What `heed --help` prints."""
    lines = [
        "Heed aligns language models with human feedback, end to end.",
        "",
        "usage: heed COMMAND [PRESET | FILE.toml] [key=value | --key value]…",
    ]
    width = max(map(len, COMMANDS)) + 2
    for group in GROUPS:
        lines += ["", f"{group}:"]
        lines += [f"  {n:{width}}{c.summary}" for n, c in COMMANDS.items() if c.group == group]
    return "\n".join([*lines, "", OPTIONS, "", CODES, "", "Begin with: heed demo"])


def page(name: str) -> str:
    """What `heed COMMAND --help` prints: every field with default and meaning, presets, an example."""
    command = COMMANDS[name]
    facts = schema().get(name, {"positional": None, "presets": [], "fields": []})
    first = f" {facts['positional'].upper()}" if facts["positional"] else ""
    lines = [
        f"heed {name}: {command.summary}.",
        "",
        f"usage: heed {name}{first} [PRESET | FILE.toml] [key=value | --key value]…",
    ]
    lines += _sections(facts["fields"], facts["positional"])
    lines += ["", "Presets: " + (", ".join(facts["presets"]) or "none")]
    if command.example:
        lines += ["", f"Example: {command.example}"]
    return "\n".join([*lines, "", OPTIONS])


def _sections(fields: list[dict[str, Any]], positional: str | None) -> list[str]:
    """Fields of the command itself, then of each of its tables and choices."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for entry in fields:
        table = entry["key"].rpartition(".")[0]
        title = f"{table} (with {entry['when']})" if entry.get("when") else table
        sections.setdefault(title, []).append(entry)
    width = min(max((len(entry["key"]) for entry in fields), default=0), 32) + 2
    lines: list[str] = []
    for title, entries in sections.items():
        lines += ["", f"{title or 'Settings'}:"]
        for entry in entries:
            lines += _entry(entry, width, positional)
    return lines


def _entry(entry: dict[str, Any], width: int, positional: str | None) -> list[str]:
    given = "required" if entry["required"] else f"default {entry['default']}"
    kind = ", ".join(part for part in (entry["type"], entry["constraints"]) if part)
    text = f"{entry['description']} [{kind}; {given}]"
    if entry["key"] == positional:
        text += " (may be given as the first word)"
    columns = min(shutil.get_terminal_size().columns, 110)
    indent = " " * (width + 2)
    body = textwrap.wrap(text, max(columns - width - 2, 30), break_on_hyphens=False)
    key = entry["key"]
    if len(key) >= width:
        return [f"  {key}", *(indent + line for line in body)]
    return [f"  {key:{width}}{body[0]}", *(indent + line for line in body[1:])]
