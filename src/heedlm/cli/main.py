"""From the words of a command line to a stage, and from its end to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from heedlm import __version__
from heedlm.cli import help as pages
from heedlm.cli.commands import ALIASES, COMMANDS
from heedlm.errors import BadInput, HeedError, Interrupted

_SWITCHES = {"--json": "json", "--quiet": "quiet", "-q": "quiet", "--help": "help", "-h": "help"}


@dataclass
class Line:
    """A command line taken apart."""

    command: str
    args: list[str] = field(default_factory=list)
    switches: set[str] = field(default_factory=set)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    line = Line(words[0] if words else "--help")
    try:
        line = parse(words)
        if line.command == "--version":
            print(f"heed {__version__}")
            return 0
        if line.command == "schema" and line.args == ["write=true"]:
            from heedlm.cli.schema import main as write_schema

            write_schema()
            return 0
        if line.command == "--help":
            print(pages.overview())
            return 0
        _known(line.command)
        if "help" in line.switches:
            print(pages.page(line.command))
            return 0
        from heedlm.cli.running import run_command

        return run_command(line.command, line.args, json="json" in line.switches, quiet="quiet" in line.switches)
    except BrokenPipeError:
        # The reader has left, as in `heed lineage RUN | head`; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (HeedError, KeyboardInterrupt) as error:
        return told(line, error)


def told(line: Line, error: HeedError | KeyboardInterrupt) -> int:
    """Say in one line on stderr what went wrong; the exit code.

    Raises:
        BaseException: The error itself where HEED_DEBUG=1 asks for the traceback.
    """
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted("stopped at once")
    if os.environ.get("HEED_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    name = f"heed {line.command}" if line.command in COMMANDS else "heed"
    print(f"{name}: {error}", file=sys.stderr)
    if "json" in line.switches:
        import json

        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        print(json.dumps({"run": None, "status": status, "error": str(error), "exit_code": error.exit_code}))
    return error.exit_code


def parse(words: Sequence[str]) -> Line:
    """Take a command line apart; `--key value`, `--key=value` and `key=value` all become `key=value`.

    Raises:
        BadInput: If a key has no value, or an option stands where a command should.
    """
    if not words or words[0] in {"--help", "-h"} or words == ["help"]:
        return Line("--help")
    if words[0] in {"--version", "-V"}:
        return Line("--version")
    if words[0] == "help":
        return Line(_named(words[1:])[0], switches={"help"})
    command, rest = _named(words)
    line = Line(command)
    flags = _flags(line.command)
    while rest:
        word = rest.pop(0)
        if word in _SWITCHES:
            line.switches.add(_SWITCHES[word])
        elif not word.startswith("--") or word == "--":
            line.args.append(word)
        elif "=" in word:
            line.args.append(word[2:])
        else:
            line.args.append(f"{word[2:]}={_value(word, rest, flags)}")
    return line


def _named(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command that the first word, or the first two, name, and the words after."""
    two = " ".join(words[:2])
    if two in ALIASES:
        return ALIASES[two], list(words[2:])
    return ALIASES.get(words[0], words[0]), list(words[1:])


def _value(word: str, rest: list[str], flags: set[str]) -> str:
    """The value after `--key`; a true-or-false setting may stand alone."""
    alone = not rest or rest[0].startswith("--")
    if word[2:].replace("-", "_") in flags and (alone or rest[0] not in {"true", "false"}):
        return "true"
    if alone:
        raise BadInput(f"{word}: needs a value, as in {word} VALUE")
    return rest.pop(0)


def _flags(command: str) -> set[str]:
    fields = pages.schema().get(command, {}).get("fields", [])
    return {"write"} | {entry["key"] for entry in fields if entry["type"] == "true or false"}


def _known(command: str) -> None:
    if command not in COMMANDS:
        close = get_close_matches(command, [*COMMANDS, *ALIASES], n=1, cutoff=0.4)
        hint = f"; did you mean heed {close[0]}?" if close else "; heed --help lists all"
        raise BadInput(f"{command!r} is no command{hint}")
