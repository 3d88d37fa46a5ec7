"""Running a stage: settings, signals, the summary at its end, and a crash log if it breaks."""

from __future__ import annotations

import errno
import importlib
import json as json_format
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heedlm import __version__, config, progress
from heedlm.cli.commands import COMMANDS
from heedlm.errors import HeedError
from heedlm.runs import Run, signals

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_SHOWN = 24  # figures in the summary; all are in run.json


def run_command(name: str, args: Sequence[str], *, json: bool = False, quiet: bool = False) -> int:
    """Run a command to its end and print what came of it.

    Args:
        name: The command.
        args: Presets, files and `key=value`.
        json: Print one JSON object as the last line instead of a summary.
        quiet: Show no progress.

    Raises:
        HeedError: What one line can explain.
    """
    progress.set_quiet(quiet)
    signals.install()
    try:
        module = importlib.import_module(COMMANDS[name].module)
        result = module.run(config.load(module.Config, args, stage=name))
    except (HeedError, KeyboardInterrupt, BrokenPipeError):
        raise
    except OSError as error:
        if error.errno not in _DISK:
            raise HeedError(_crash(error, name)) from error
        raise HeedError(f"{error.filename or 'disk'}: {error.strerror}; make room or give another out=") from error
    except Exception as error:
        raise HeedError(_crash(error, name)) from error
    finally:
        signals.forget()
    # A stage with more to show people than a list of figures says so itself.
    describe = getattr(module, "describe", summary)
    print(as_json(result) if json else describe(result))
    # A stage whose answer is itself good or bad, as a verdict is, says so.
    return int(getattr(module, "exit_code", lambda result: 0)(result))


def as_json(result: object) -> str:
    """The one JSON object of `--json`."""
    found: dict[str, Any]
    if isinstance(result, Run):
        found = {"run": str(result.path), "status": result.info.status, "results": result.info.results}
    else:
        rest = {key: value for key, value in _mapping(result).items() if key != "text"}
        found = {"run": None, "status": "complete", "results": rest}
    return json_format.dumps(found, ensure_ascii=False, default=str)


def summary(result: object) -> str:
    """What came of a command, for people."""
    if not isinstance(result, Run):
        facts = _mapping(result)
        return str(facts["text"]) if "text" in facts else "\n".join(_figures(facts))
    info = result.info
    peak = f", {info.peak_mib:.0f} MiB at most" if info.peak_mib else ""
    lines = [f"{info.stage}: {info.status} in {progress.clock(info.seconds)}{peak}", *_figures(info.results)]
    lines += [f"  {item.role} → {result.path / item.path}" for item in info.outputs]
    return "\n".join([*lines, str(result.path)])


def _mapping(result: object) -> Mapping[str, Any]:
    return result if isinstance(result, Mapping) else {} if result is None else {"result": str(result)}


def _figures(results: Mapping[str, Any]) -> list[str]:
    rows = list(_flat(results, ""))
    width = max((len(key) for key, _ in rows[:_SHOWN]), default=0)
    lines = [f"  {key:{width}}  {value}" for key, value in rows[:_SHOWN]]
    return lines + ([f"  … and {len(rows) - _SHOWN} more in run.json"] if len(rows) > _SHOWN else [])


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], Mapping):
            for number, row in enumerate(value):
                yield from _flat(row, f"{prefix}{key}.{number}.")
        elif isinstance(value, float):
            yield prefix + key, f"{value:.4g}"
        else:
            yield prefix + key, str(value)


def _crash(error: Exception, name: str) -> str:
    """Write a crash log; one line that says what happened and where the log lies."""
    kind = type(error).__name__
    first = (str(error).strip().splitlines() or ["no message"])[0]
    hint = "; use a smaller batch or model" if "OutOfMemory" in kind or isinstance(error, MemoryError) else ""
    head = f"heedlm {__version__}, Python {sys.version.split()[0]}\n{sys.argv}\nin {Path.cwd()}\n\n"
    try:
        handle, log = tempfile.mkstemp(prefix=f"heed-{name}-{time.strftime('%Y%m%d-%H%M%S')}-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(head + "".join(traceback.format_exception(error)))
    except OSError:
        return f"unexpected {kind}: {first}{hint} (no crash log could be written; HEED_DEBUG=1 shows more)"
    return f"unexpected {kind}: {first}{hint} (crash log: {log}; please report it)"
