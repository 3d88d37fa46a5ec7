"""`heed watch`: one frame without a terminal, frame over frame with one, and nothing the terminal would obey."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from heedlm.cli import main
from heedlm.config import StageConfig
from heedlm.report.following import Following
from heedlm.report.live import frame
from heedlm.runs import Run
from heedlm.stages import watch

HEED = [sys.executable, "-c", "import sys; from heedlm.cli import main; sys.exit(main())", "watch"]
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e<end>"


def start(out: Path, stage: str = "ppo", steps: int = 40) -> Run:
    run = Run.create(stage, StageConfig(out=out, name="frogs"), argv=["heed"])
    (run.path / "config.json").write_text(json.dumps({"steps": steps}), encoding="utf-8")
    return run


def train(run: Run, first: int, last: int, **more: float) -> None:
    for step in range(first, last + 1):
        values = {"reward/mean": step / 10, "kl/token_nats": step / 1000, "length/mean": 20.0 + step} | more
        run.metrics(step, values, seconds=float(step))


def shown(run: Run, width: int = 100, height: int = 40, plain: bool = False) -> list[str]:
    return [line.text for line in frame(Following(run.path).look(), width, height, plain=plain)]


def test_one_frame_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    run = start(tmp_path)
    train(run, 1, 30)
    run.samples(30, [{"prompt": "Who?", "answer": "王奶奶\nand Ann", "reward": 1.5, "gold": 0.5}])
    run.alarm(20, {"state": "warn", "alarms": [{"signal": "S4", "level": "warn", "reason": "KL 0.08 nats"}]})
    run.note(guard={"off": ["S5 is off: no win rate"], "rollbacks": [{"at": 25, "to": 10, "reasons": ["r"]}]})
    before = {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    assert main(["watch", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before
    assert f"ppo/{run.name}: running" in out
    assert "step 30 of 40, 0:30, 0:10 left" in out
    assert "WARNING since step 20\n  S4: KL 0.08 nats\n" in out
    assert "rollback 1: from step 25 to 10: r\n" in out
    assert "S5 is off: no win rate\n" in out
    assert "Reward 3" in out
    assert "answer at step 30, reward 1.50, gold 0.500\n> Who?\n王奶奶⏎and Ann\n" in out
    assert "\x1b" not in out
    run.finish()


def test_a_run_that_is_starting(tmp_path: Path) -> None:
    run = start(tmp_path)
    assert shown(run)[1].startswith("no numbers yet")
    run.finish()


@pytest.mark.parametrize(
    ("stage", "values", "title"),
    [
        ("pretrain", {"loss/train": 2.5, "lr": 0.001}, "Loss 2.50"),
        ("sft", {"loss/train": 2.5, "loss/held_out": 2.7}, "Loss: held out 2.70"),
        ("reward", {"accuracy": 0.75}, "Accuracy 0.750"),
        ("other", {"my/own": 3.0}, "Own 3"),
    ],
)
def test_every_kind_of_run_shows_its_curves(tmp_path: Path, stage: str, values: dict[str, float], title: str) -> None:
    run = start(tmp_path, stage)
    for step in range(1, 20):
        run.metrics(step, values)
    assert any(title in line for line in shown(run))
    run.finish()


def test_a_watched_run_without_alarms_says_so(tmp_path: Path) -> None:
    run = start(tmp_path)
    train(run, 1, 30)
    assert not any("healthy" in line for line in shown(run))
    (run.path / "config.json").write_text('{"steps": 40, "guard": {}}', encoding="utf-8")
    assert "healthy: no alarm in 30 steps" in shown(run)
    run.finish()


@pytest.mark.parametrize(("width", "height"), [(200, 60), (80, 24), (40, 12), (20, 5)])
@pytest.mark.parametrize("plain", [True, False])
def test_a_frame_fits_its_terminal(tmp_path: Path, width: int, height: int, plain: bool) -> None:
    run = start(tmp_path)
    train(run, 1, 30, **{"policy/grad_norm": 1.0, "entropy/mean": 2.0})
    run.alarm(20, {"state": "collapsed", "alarms": [{"signal": "S4", "level": "on", "reason": "long " * 60}]})
    run.samples(30, [{"prompt": "很长" * 80, "answer": "王" * 300 + "word " * 90}])
    lines = shown(run, width, height, plain)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert any("COLLAPSED" in line for line in lines)
    own = "".join(line for line in lines if "王" not in line and "很" not in line)
    assert own.isascii() == plain
    run.finish()


def test_nothing_read_from_a_run_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.metrics(1, {f"x/{EVIL}": 1.0})
    run.samples(1, [{"prompt": EVIL, "answer": EVIL, "step": EVIL}])
    run.alarm(1, {"state": "warn", "alarms": [{"signal": EVIL, "level": "on", "reason": EVIL}]})
    run.note(guard={"off": [EVIL], "rollbacks": [{"at": 1, "to": 0, "reasons": [EVIL]}]})
    run.fail(EVIL)
    text = "\n".join(shown(run, 400))
    assert text.count("<end>") >= 6
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_poor_encoding_gets_question_marks(tmp_path: Path) -> None:
    run = start(tmp_path)
    train(run, 1, 3)
    run.samples(3, [{"answer": "王奶奶"}])
    run.finish()
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not watch._can_show(out)
    printed = watch.text(frame(Following(run.path).look(), 80, 30, plain=True), out, coloured=False)
    assert printed.isascii()
    assert printed.endswith("\n???")


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = start(tmp_path)
    train(run, 1, 10)
    run.alarm(5, {"state": "warn", "alarms": [{"signal": "S3", "level": "warn", "reason": "NLL"}]})
    assert main(["watch", str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert (found["step"], found["steps"], found["state"], found["since"]) == (10, 40, "warn", 5)
    assert found["reasons"] == ["S3: NLL"]
    assert found["latest"]["reward/mean"] == 1.0
    assert found["seconds_left"] == pytest.approx(30)
    run.finish()


def test_no_run_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path / "nothing")]) == 2
    assert "is not a run" in capsys.readouterr().err


def test_watching_does_not_wait_for_torch() -> None:
    code = "import sys, heedlm.stages.watch; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


class Terminal:
    """`heed watch` in a pseudo-terminal."""

    def __init__(self, run: Run, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        size = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        words = [*HEED, str(run.path), "every=0.05"]
        environ = {**os.environ, **size, **environment}
        self.child = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        os.close(theirs)
        self.seen = b""

    def until(self, mark: bytes | None, seconds: float = 30.0) -> str:
        """Everything written until the mark, or the end, shows up."""
        deadline = time.monotonic() + seconds
        while mark is None or mark not in self.seen:
            ready = select.select([self.ours], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"{mark!r} did not come; {self.seen[-500:]!r}"
            try:
                part = os.read(self.ours, 65536)
            except OSError:  # the other end was closed
                part = b""
            if not part:
                assert mark is None, self.seen[-500:]
                break
            self.seen += part
        return self.seen.decode("utf-8", "replace")

    def end(self) -> int:
        self.until(None)
        os.close(self.ours)
        return self.child.wait(30)


def test_frame_over_frame_until_the_run_ends(tmp_path: Path) -> None:
    run = start(tmp_path)
    terminal = Terminal(run)
    terminal.until(b"no numbers yet")
    train(run, 1, 7)
    terminal.until(b"step 7 of 40")
    train(run, 8, 40)
    run.samples(40, [{"answer": EVIL}])
    terminal.until(b"answer at step 40")
    run.finish()
    assert terminal.end() == 0
    text = terminal.seen.decode()
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    last = text[text.index("\x1b[?1049l") :]
    assert f"ppo/{run.name}: complete" in last  # it stays to be read
    own = re.sub(r"\x1b\[(\?1049[hl]|\?25[hl]|[HJK]|[\d;]*m)", "", text)
    assert all(char.isprintable() or char in "\r\n" for char in own)


def test_ctrl_c_leaves_screen_and_run_as_they_were(tmp_path: Path) -> None:
    run = start(tmp_path)
    train(run, 1, 3)
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    terminal = Terminal(run, NO_COLOR="1")
    terminal.until(b"step 3 of 40")
    terminal.child.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    left: Any = terminal.seen.decode().partition("\x1b[?25h\x1b[?1049l")[2]
    assert left.strip() == "heed watch: watching ended; the run was left alone"
    assert {path: path.read_bytes() for path in run.path.iterdir()} == before
    assert Run.open(run.path).info.status == "running"
    run.finish()
