import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from heedlm import __version__
from heedlm.cli import help as pages
from heedlm.cli import main, schema
from heedlm.cli.commands import COMMANDS, GROUPS, Command
from heedlm.cli.main import parse
from heedlm.config import Config as Settings
from heedlm.config import StageConfig
from heedlm.errors import BadInput, Collapsed, HeedError, Interrupted, NotFinite
from heedlm.progress import set_quiet
from heedlm.runs import Run


class Config(StageConfig):
    rate: float = Field(0.1, gt=0, description="how fast")
    fast: bool = Field(False, description="whether to hurry")
    wrong: str | None = Field(None, description="what goes wrong")


ERRORS = {
    "heed": HeedError("row 3: odd"),
    "input": BadInput("prompts.jsonl, row 3: no text; add one"),
    "collapse": Collapsed("entropy fell to 0.01"),
    "nan": NotFinite("loss became nan in step 3"),
    "term": Interrupted("stopped after step 3", 15),
    "key": KeyboardInterrupt(),
    "bug": ValueError("odd\nsecond line"),
    "memory": MemoryError(),
    "disk": OSError(28, "No space left on device", "runs/fake"),
}


def fake_run(config, resume=None):
    with Run.resume(resume) if resume else Run.create("fake", config) as run:
        if config.wrong and not resume:
            raise ERRORS[config.wrong]
        run.note(win_rate=0.6543211, by={"greedy": 0.5}, rate=config.rate, fast=config.fast)
        (run.path / "a.txt").write_text("a")
        run.add_output("answers", run.path / "a.txt")
    return run


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A command `fake` whose stage is the function above."""
    module = types.ModuleType("fake_stage")
    module.Config, module.run = Config, fake_run
    monkeypatch.setitem(sys.modules, "fake_stage", module)
    monkeypatch.setitem(COMMANDS, "fake", Command("fake_stage", "Data", "does little"))
    monkeypatch.setitem(
        pages.schema(), "fake", {"positional": None, "presets": [], "fields": list(schema.fields(Config))}
    )
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    set_quiet(False)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_run_ends_in_a_summary_with_its_path_last(fake, capsys):
    assert main(["fake", "rate=0.5"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("fake: complete in 0:00")
    assert "  win_rate   0.6543" in lines
    assert "  by.greedy  0.5" in lines
    assert lines[-1].startswith("runs/fake/fake-")
    assert err == ""


def test_json_is_one_object_on_the_last_line(fake, capsys):
    assert main(["fake", "--json", "--rate", "0.5", "--fast", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["status"] == "complete"
    assert found["results"] == {"win_rate": 0.6543211, "by": {"greedy": 0.5}, "rate": 0.5, "fast": True}
    assert Path(found["run"], "run.json").exists()


@pytest.mark.parametrize(
    ("wrong", "code", "line", "status"),
    [
        ("heed", 1, "heed fake: row 3: odd", "failed"),
        ("input", 2, "heed fake: prompts.jsonl, row 3: no text; add one", "failed"),
        ("collapse", 3, "heed fake: entropy fell to 0.01", "failed"),
        ("nan", 4, "heed fake: loss became nan in step 3", "failed"),
        ("term", 143, "heed fake: stopped after step 3", "interrupted"),
        ("disk", 1, "heed fake: runs/fake: No space left on device; make room or give another out=", "failed"),
        ("key", 130, "heed fake: stopped at once", "interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(fake, capsys, wrong, code, line, status):
    assert main(["fake", f"wrong={wrong}", "--json"]) == code
    out, err = capsys.readouterr()
    assert err == line + "\n"
    told = json.loads(out.splitlines()[-1])
    assert (told["status"], told["exit_code"]) == (status, code)
    assert Run.open(next(Path("runs/fake").iterdir())).info.status == status


def test_a_bug_is_one_line_with_a_crash_log(fake, capsys):
    assert main(["fake", "wrong=bug"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("heed fake: unexpected ValueError: odd (crash log: ")
    assert line.count("\n") == 1
    log = Path(line.partition("crash log: ")[2].partition(";")[0])
    assert "second line" in log.read_text()
    assert "Traceback" in log.read_text()
    log.unlink()
    assert main(["fake", "wrong=memory"]) == 1
    line = capsys.readouterr().err
    assert "use a smaller batch or model" in line
    Path(line.partition("crash log: ")[2].partition(";")[0]).unlink()


def test_a_traceback_is_shown_on_request(fake, capsys, monkeypatch):
    monkeypatch.setenv("HEED_DEBUG", "1")
    assert main(["fake", "wrong=input"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_stopped_run_is_resumed_by_its_path(fake, capsys):
    assert main(["fake", "wrong=term", "rate=0.25"]) == 143
    path = str(next(Path("runs/fake").iterdir()))
    assert main(["fake", "wrong=term", "rate=0.25"]) == 2
    assert f"heed resume {path}" in capsys.readouterr().err
    assert main(["resume", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["run"], found["results"]["rate"]) == (path, 0.25)
    assert main(["resume", path]) == 2
    assert "is complete already" in capsys.readouterr().err
    assert main(["resume", "nowhere"]) == 2
    assert "nowhere: is not a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (["fake", "--rate", "1", "--json"], ["rate=1"]),
        (["fake", "--rate=1"], ["rate=1"]),
        (["fake", "tiny", "rate=-1"], ["tiny", "rate=-1"]),
        (["fake", "--rate", "-1"], ["rate=-1"]),
        (["fake", "--fast"], ["fast=true"]),
        (["fake", "--fast", "tiny"], ["fast=true", "tiny"]),
        (["fake", "--fast", "false"], ["fast=false"]),
        (["fake", "--fast", "--rate", "2"], ["fast=true", "rate=2"]),
    ],
)
def test_options_and_pairs_are_the_same(fake, words, args):
    assert parse(words).args == args


@pytest.mark.parametrize("words", [["feedback", "import", "--help"], ["help", "feedback", "import"]])
def test_two_words_name_a_command(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == pages.page("import") + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pp0"], "heed: 'pp0' is no command; did you mean heed ppo?"),
        (["zzzzz"], "heed: 'zzzzz' is no command; heed --help lists all"),
        (["feedback", "imprt"], "heed: 'feedback' is no command; did you mean heed feedback import?"),
        (["feedback", "export", "form=xml"], "heed export: form: "),
        (["fake", "--rate"], "--rate: needs a value, as in --rate VALUE"),
        (["fake", "rte=1"], "heed fake: rte: no such setting (nearest: rate)"),
        (["fake", "rate=0"], "heed fake: rate: must be greater than 0, got 0"),
        (["fake", "tiny"], "heed fake: 'tiny' is no preset of fake"),
    ],
)
def test_a_wrong_word_is_told_with_what_is_nearest(fake, capsys, words, message):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert out == ""
    assert not Path("runs").exists()


def test_help_lists_every_command_along_the_path(capsys):
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        for name, command in COMMANDS.items():
            assert f"  {name} " in out
            assert command.summary in out
    places = [out.index(f"{group}:") for group in GROUPS]
    assert places == sorted(places)
    assert {command.group for command in COMMANDS.values()} == set(GROUPS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_of_a_command_shows_every_field_with_its_meaning(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    for entry in pages.schema()[name]["fields"]:
        assert f"  {entry['key']}" in out
        assert entry["description"], f"{name}: {entry['key']} has no description"
    assert "Example: heed " in out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == out


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"heed {__version__}\n"


def test_the_schema_is_what_the_stages_say():
    assert schema.as_json(schema.build()) == pages.SCHEMA.read_text(encoding="utf-8"), "run: make schema"


def test_the_schema_is_written_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(schema, "SCHEMA", tmp_path / "schema.json")
    monkeypatch.setattr(schema, "COMMANDS", {"lineage": COMMANDS["lineage"]})
    assert main(["schema", "--write"]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'schema.json'}\n"
    written = json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))
    assert written["lineage"]["positional"] == "run"
    assert [entry["key"] for entry in written["lineage"]["fields"]] == ["run", "of", "roots"]


class One(Settings):
    name: Literal["one"] = "one"
    size: int = Field(3, ge=1, le=9, description="how big")


class Two(Settings):
    name: Literal["two"] = "two"
    inner: One = Field(One(size=7), description="within")


class Wide(Settings):
    choice: Annotated[One | Two, Field(discriminator="name")] = Field(Two(), description="which")
    path: Path | None = Field(None, description="where")
    words: tuple[Literal["a", "b"], ...] = Field(("a",), min_length=1, description="what")
    needed: str = Field(description="must be")


def test_the_schema_flattens_tables_and_choices():
    found = {entry["key"]: entry for entry in schema.fields(Wide)}
    assert list(found) == [
        "path",
        "words",
        "needed",
        "choice.name",
        "choice.size",
        "choice.inner.name",
        "choice.inner.size",
    ]
    assert found["path"]["type"] == "path or none"
    assert found["words"]["type"] == "list of one of a, b"
    assert found["words"]["constraints"] == "at least 1"
    assert found["needed"]["required"]
    assert (found["choice.name"]["type"], found["choice.name"]["default"]) == ("one of one, two", "two")
    assert (found["choice.size"]["when"], found["choice.size"]["constraints"]) == ("choice.name=one", "≥ 1, ≤ 9")
    assert (found["choice.inner.size"]["when"], found["choice.inner.size"]["default"]) == ("choice.name=two", "7")


@pytest.mark.parametrize("words", [["--help"], ["ppo", "--help"]])
def test_help_takes_less_than_half_a_second(words):
    code = "import sys; from heedlm.cli import main; code = main(); assert 'torch' not in sys.modules; sys.exit(code)"
    times = []
    for _ in range(3):  # the best of three: other tests keep the cores busy
        before = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False, timeout=30)
        times.append(time.perf_counter() - before)
        assert done.returncode == 0
    assert min(times) < 0.5


LOOP = """
import sys, time, types
from heedlm import runs
from heedlm.cli import main
from heedlm.cli.commands import COMMANDS, Command
from heedlm.config import StageConfig
from heedlm.runs import Run

class Config(StageConfig):
    steps: int = 10**9
    polls: bool = True

def run(config, resume=None):
    with Run.resume(resume) if resume else Run.create("loop", config) as run:
        newest = runs.newest_checkpoint(run)
        step = int(newest.name) if newest else 0
        while step < config.steps:
            step += 1
            run.metrics(step, {"square": step * step})
            if step == 3:
                print("working", flush=True)
            time.sleep(0.01)
            if config.polls and runs.stop_requested():
                runs.save_checkpoint(run, step, lambda folder: (folder / "state").write_text(str(step)))
                raise runs.interrupted(run, f"after step {step}")
    return run

module = types.ModuleType("loop_stage")
module.Config, module.run = Config, run
sys.modules["loop_stage"] = module
COMMANDS["loop"] = Command("loop_stage", "Data", "counts")
sys.exit(main())
"""


def loop(*words, send=()):
    """Run the loop in a process of its own and send it signals, a second when it has heard the first: code, stderr."""
    child = subprocess.Popen(
        [sys.executable, "-c", LOOP, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if send:
        assert child.stdout.readline() == "working\n"
    heard = ""
    for place, number in enumerate(send):
        while place and "stopping" not in heard:  # two signals that nobody has taken yet count as one
            line = child.stderr.readline()
            assert line, heard
            heard += line
        os.kill(child.pid, number)
    _, err = child.communicate(timeout=30)
    return child.returncode, heard + err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_that_resumes_as_if_nothing_had_happened(tmp_path, monkeypatch, number, code):
    monkeypatch.chdir(tmp_path)
    exit_code, err = loop("loop", "steps=60", send=[number])
    assert exit_code == code
    first, second = err.strip().splitlines()
    assert first.startswith("stopping after this step")
    path = next(Path("runs/loop").iterdir())
    assert second.startswith("heed loop: stopped after step ")
    assert second.endswith(f"go on with: heed resume {path}")
    stopped = Run.open(path)
    assert stopped.info.status == "interrupted"
    assert 3 <= len(stopped.read_metrics()) < 60
    assert loop("resume", str(path))[0] == 0
    rows = Run.open(path).read_metrics()
    assert [(row["step"], row["square"]) for row in rows] == [(step, step * step) for step in range(1, 61)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stage_that_does_not_ask_is_stopped_at_once(tmp_path, monkeypatch, number, code):
    monkeypatch.chdir(tmp_path)
    exit_code, err = loop("loop", "polls=false", send=[number])
    assert exit_code == code
    assert err.startswith("heed loop: stopped")
    assert Run.open(next(Path("runs/loop").iterdir())).info.status == "interrupted"


def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slow = LOOP.replace("time.sleep(0.01)", "time.sleep(0.01 if step < 3 else 20)")
    monkeypatch.setattr(sys.modules[__name__], "LOOP", slow)
    before = time.monotonic()
    exit_code, err = loop("loop", send=[signal.SIGINT, signal.SIGINT])
    assert exit_code == 130
    assert "once more to stop at once" in err
    assert err.endswith("heed loop: stopped at once\n")
    assert time.monotonic() - before < 15
