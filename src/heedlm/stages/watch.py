"""Watching a run in the terminal: progress, state with its reasons, curves and the newest sample, until it ends."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TextIO

from pydantic import Field, PositiveFloat

from heedlm.config import Config as Settings
from heedlm.errors import Interrupted
from heedlm.report.following import Following, Look
from heedlm.report.live import Line, facts, frame

_SIGNS = "⣿┤█·"  # what a terminal must be able to show unless everything is drawn in ASCII
_PRINTED = 40  # lines of a frame where there is no terminal to fill
_COLOURS = {"title": "1", "soft": "2", "good": "32", "warn": "33", "bad": "1;31"}
_ENTER, _HOME, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[H", "\x1b[?25h\x1b[?1049l"  # a screen of its own, without cursor


class Config(Settings):
    """Settings of watching."""

    positional: ClassVar[str | None] = "run"

    run: Path = Field(description="run directory, finished or not; of a chain such as demo the newest part is shown")
    every: PositiveFloat = Field(2.0, description="seconds between looks")
    once: bool = Field(False, description="look once and stop, as is done where the output is no terminal")
    plain: bool = Field(False, description="draw in ASCII, as is done where the terminal's encoding has no more")


class Seen(dict[str, Any]):
    """The facts of the first look; `describe` goes on from there."""

    def __init__(self, config: Config, following: Following) -> None:
        self.config, self.following = config, following
        self.first = following.look()
        super().__init__(facts(self.first))


def run(config: Config) -> Seen:
    """Look at the run; on a terminal `describe` goes on looking.

    Raises:
        BadInput: The folder is no run, or its `run.json` is damaged.
    """
    return Seen(config, Following(config.run))


def describe(seen: Seen) -> str:
    """Show the run until it ends, where there is a terminal; the last frame.

    Raises:
        Interrupted: The user has seen enough.
    """
    config, out = seen.config, sys.stdout
    plain = config.plain or not _can_show(out)
    live = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    coloured = live and not os.environ.get("NO_COLOR")
    look = seen.first
    if live and not config.once and not look.ended:
        look = _follow(seen, out, plain, coloured)
    width, height = shutil.get_terminal_size()
    return text(frame(look, width, height - 1 if live else _PRINTED, plain=plain), out, coloured)


def text(lines: Sequence[Line], out: TextIO, coloured: bool) -> str:
    """Lines as they are printed: what the output's encoding lacks is a question mark."""
    code = out.encoding or "utf-8"
    shown = (line._replace(text=line.text.encode(code, "replace").decode(code)) for line in lines)
    return "\n".join(
        f"\x1b[{_COLOURS[line.style]}m{line.text}\x1b[0m" if coloured and line.style else line.text for line in shown
    )


def _follow(seen: Seen, out: TextIO, plain: bool, coloured: bool) -> Look:
    """Draw frame over frame on a screen of its own, which is left as it was found."""
    look = seen.first
    try:
        out.write(_ENTER)
        while True:
            width, height = shutil.get_terminal_size()
            drawn = text(frame(look, width, height - 1, plain=plain), out, coloured)
            out.write(_HOME + drawn.replace("\n", "\x1b[K\n") + "\x1b[K\x1b[J")
            out.flush()
            if look.ended:
                return look
            time.sleep(seen.config.every)
            look = seen.following.look()
    except KeyboardInterrupt:
        raise Interrupted("watching ended; the run was left alone") from None
    finally:
        out.write(_LEAVE)
        out.flush()


def _can_show(out: TextIO) -> bool:
    try:
        _SIGNS.encode(out.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
