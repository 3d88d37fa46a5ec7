import json
import math
import os
import subprocess
import sys

import pytest
from pydantic import Field

from heedlm import runs
from heedlm.config import StageConfig, from_json, load
from heedlm.errors import BadInput, Interrupted
from heedlm.runs import Input, Run
from heedlm.runs.run import default_name


class Config(StageConfig):
    steps: int = Field(3, description="steps")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "frogs.jsonl"
    path.write_text('{"text": "frog"}\n')
    return path


def start(tmp_path, data, **settings):
    return Run.create("ppo", Config(out=tmp_path / "runs", **settings), [Input("prompts", data)], argv=["heed", "ppo"])


def on_disk(run):
    return json.loads((run.path / "run.json").read_text())


def test_a_run_says_running_first_and_complete_last(tmp_path, data):
    run = start(tmp_path, data)
    assert on_disk(run)["status"] == "running"
    run.finish()
    info = on_disk(run)
    assert info["status"] == "complete"
    assert info["seconds"] >= 0
    assert info["peak_mib"] > 1
    assert info["versions"]["heedlm"]
    assert info["versions"]["torch"]
    assert info["argv"] == ["heed", "ppo"]
    assert info["finished"] >= info["started"]


def test_the_directory_is_named_after_the_input_and_the_hash(tmp_path, data):
    run = start(tmp_path, data)
    assert run.path.parent == tmp_path / "runs" / "ppo"
    assert run.name == f"frogs-{run.info.config_hash[:6]}"
    other = start(tmp_path, data, seed=1)
    assert other.info.config_hash != run.info.config_hash
    data.write_text("changed")
    changed = start(tmp_path, data)
    assert changed.info.config_hash != run.info.config_hash


def test_the_settings_reload_equal(tmp_path, data):
    run = start(tmp_path, data, steps=7, seed=2)
    assert from_json(Config, run.path / "config.json") == Config(out=tmp_path / "runs", steps=7, seed=2)
    reloaded = load(Config, [str(run.path / "config.toml")], stage="ppo")
    assert reloaded == Config(out=tmp_path / "runs", steps=7, seed=2)


def test_the_same_again_is_refused_with_the_remedy(tmp_path, data):
    run = start(tmp_path, data)
    with pytest.raises(BadInput, match="is running in another process"):
        start(tmp_path, data)
    run.finish("interrupted")
    with pytest.raises(BadInput, match=f"this run interrupted; go on with: heed resume {run.path}"):
        start(tmp_path, data)
    with Run.resume(run.path):
        pass
    with pytest.raises(BadInput, match=r"have been run; give another name= or remove it"):
        start(tmp_path, data)
    assert start(tmp_path, data, name="other").name.startswith("other-")


def test_a_run_whose_process_died_is_told_from_a_living_one(tmp_path, data):
    code = (
        "import os, sys; from pathlib import Path; from heedlm.config import StageConfig\n"
        "from heedlm.runs import Input, Run\n"
        "run = Run.create('ppo', StageConfig(out=Path(sys.argv[1])), [Input('prompts', Path(sys.argv[2]))])\n"
        "print(run.path, flush=True); sys.stdin.readline(); os._exit(9)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "runs"), str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    path = child.stdout.readline().strip()
    with pytest.raises(BadInput, match="is still running in another process"):
        Run.resume(path)
    child.communicate("die\n", timeout=20)
    assert Run.open(path).info.status == "running"
    with Run.resume(path) as run:
        assert run.info.resumed == [0]
    assert Run.open(path).info.status == "complete"


def test_a_folder_of_other_files_is_never_taken_over(tmp_path, data):
    path = start(tmp_path, data).path
    (path / "run.json").unlink()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"holds files but no run\.json"):
        start(tmp_path, data)
    assert (path / "notes.txt").read_text() == "mine"


def test_a_missing_input_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(BadInput, match=r"gone\.jsonl: no such file"):
        start(tmp_path, tmp_path / "gone.jsonl")
    assert not (tmp_path / "runs").exists()


def test_metrics_keep_nan_and_a_torn_line_is_left_out(tmp_path, data):
    run = start(tmp_path, data)
    run.metrics(1, {"loss": 0.5, "kl/mean_nats": math.nan}, seconds=1.5)
    run.metrics(2, {"loss": -math.inf})
    run.flush()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    first, second = Run.open(run.path).read_metrics()
    assert first["loss"] == 0.5
    assert first["seconds"] == 1.5
    assert math.isnan(first["kl/mean_nats"])
    assert second["loss"] == -math.inf
    for line in (run.path / "metrics.jsonl").read_text().splitlines()[:2]:
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_resumed_run_drops_what_came_after_the_checkpoint(tmp_path, data):
    run = start(tmp_path, data)
    for step in (1, 2, 3):
        run.metrics(step, {"loss": step}, seconds=step)
        run.samples(step, [{"answer": "a"}, {"answer": "b"}])
        if step == 2:
            runs.save_checkpoint(run, step, lambda folder: (folder / "state").write_text("x"))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    before = (run.path / "metrics.jsonl").read_text().splitlines()[:2]
    run.finish("interrupted")
    resumed = Run.resume(run.path)
    assert resumed.info.resumed == [2]
    assert (run.path / "metrics.jsonl").read_text().splitlines() == before
    assert [row["step"] for row in resumed.read_samples()] == [1, 1, 2, 2]
    resumed.metrics(3, {"loss": 3})
    assert [row["step"] for row in resumed.read_metrics()] == [1, 2, 3]


def test_without_a_checkpoint_a_resumed_run_starts_over(tmp_path, data):
    run = start(tmp_path, data)
    run.metrics(1, {"loss": 1})
    run.fail("power cut")
    assert Run.resume(run.path).read_metrics() == []


def test_a_changed_input_stops_a_resume(tmp_path, data):
    run = start(tmp_path, data)
    run.fail("power cut")
    data.write_text("something else")
    with pytest.raises(BadInput, match=r"frogs\.jsonl: has changed since .* read it \(prompts\)"):
        Run.resume(run.path)


def test_a_complete_run_is_not_resumed(tmp_path, data):
    with start(tmp_path, data) as run:
        pass
    with pytest.raises(BadInput, match="is complete already"):
        Run.resume(run.path)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (BadInput("row 3: no text"), "failed", "row 3: no text"),
        (ValueError("odd"), "failed", "ValueError: odd"),
        (Interrupted("stopped after step 3"), "interrupted", "stopped after step 3"),
        (KeyboardInterrupt(), "interrupted", "stopped by the user"),
    ],
)
def test_an_exception_becomes_the_status(tmp_path, data, error, status, reason):
    with pytest.raises(type(error)), start(tmp_path, data) as run:
        raise error
    assert (on_disk(run)["status"], on_disk(run)["reason"]) == (status, reason)


def test_outputs_are_fingerprinted_and_checked_when_found(tmp_path, data):
    with start(tmp_path, data) as run:
        answers = run.path / "answers.jsonl"
        answers.write_text("1\n2\n")
        run.add_output("answers", answers, rows=2)
        run.note(win_rate=0.65, folder=tmp_path)
    info = on_disk(run)
    assert info["outputs"][0]["path"] == "answers.jsonl"
    assert info["outputs"][0]["rows"] == 2
    assert info["results"] == {"win_rate": 0.65, "folder": str(tmp_path)}
    assert runs.find_data(run.path, "answers") == answers
    assert runs.has_data(run.path, "answers")
    assert not runs.has_data(run.path, "model")
    with pytest.raises(BadInput, match=r"has no output 'corpus' \(status complete\); it has: answers"):
        runs.find_data(run.path, "corpus")
    answers.write_text("1\n3\n")
    with pytest.raises(BadInput, match="has changed since its run wrote it"):
        runs.find_data(run.path, "answers")
    answers.unlink()
    with pytest.raises(BadInput, match="is gone"):
        runs.find_data(run.path, "answers")


def test_data_may_be_a_file_but_nothing_else(tmp_path, data):
    assert runs.find_data(data, "prompts") == data
    with pytest.raises(BadInput, match="no such file"):
        runs.find_data(tmp_path / "gone", "prompts")
    with pytest.raises(BadInput, match="is a folder but no run"):
        runs.find_data(tmp_path, "prompts")


def test_a_model_may_be_a_run_a_folder_or_a_hub_name(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with start(tmp_path, data) as run:
        (run.path / "model").mkdir()
        (run.path / "model" / "config.json").write_text("{}")
        run.add_output("model", run.path / "model")
    assert runs.find_model(run.path) == run.path / "model"
    assert runs.find_model(run.path / "model") == run.path / "model"
    assert str(runs.find_model("org/name")) == "org/name"
    with pytest.raises(BadInput, match="no such model"):
        runs.find_model(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no model"):
        runs.find_model(tmp_path / "empty")
    (run.path / "model" / "config.json").write_text("{ }")
    with pytest.raises(BadInput, match="has changed"):
        runs.find_model(run.path)


def test_fingerprints_see_every_byte_and_name(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "sub" / "b").write_text("2")
    first = runs.fingerprint(folder)
    (folder / ".cache").write_text("hidden")
    assert runs.fingerprint(folder) == first
    (folder / "sub" / "b").write_text("3")
    second = runs.fingerprint(folder)
    (folder / "sub" / "b").rename(folder / "sub" / "c")
    assert len({first, second, runs.fingerprint(folder)}) == 3


def test_the_first_input_gives_the_name(tmp_path, data):
    assert default_name("ppo", [Input("prompts", data)]) == "frogs"
    assert default_name("ppo", []) == "ppo"
    run = start(tmp_path, data, name="mine")
    assert default_name("sft", [Input("model", run.path / "model")]) == "mine"
    assert default_name("sft", [Input("model", "org/some model")]) == "some-model"


def test_a_damaged_record_is_told_in_one_line(tmp_path, data):
    run = start(tmp_path, data)
    (run.path / "run.json").write_text('{"stage": ')
    with pytest.raises(BadInput, match=r"run\.json: cannot be read"):
        Run.open(run.path)
    (run.path / "run.json").write_text('{"stage": "ppo"}')
    with pytest.raises(BadInput, match=r"run\.json: name: field required"):
        Run.open(run.path)
    with pytest.raises(BadInput, match="is not a run"):
        Run.open(tmp_path)


def test_a_failed_write_leaves_the_record_whole(tmp_path, data, monkeypatch):
    run = start(tmp_path, data)
    before = (run.path / "run.json").read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        run.note(fact=1)
    assert (run.path / "run.json").read_bytes() == before
    assert sorted(item.name for item in run.path.iterdir()) == [".lock", "config.json", "config.toml", "run.json"]


def test_a_card_tells_where_a_model_comes_from(tmp_path, data):
    with start(tmp_path, data) as run:
        card = runs.model_card(run, "A policy.")
    assert "A policy." in card
    assert str(data) in card
    assert run.info.inputs[0].fingerprint[:16] in card


def test_a_run_killed_before_its_settings_were_written_is_begun_anew(tmp_path, data):
    """It has nothing to resume from, and may not stand in the way."""
    run = start(tmp_path, data)
    assert run._lock is not None
    run._lock.release()
    (run.path / "config.json").unlink()
    (run.path / "config.toml").unlink()
    again = start(tmp_path, data)
    assert again.path == run.path
    assert (again.path / "config.json").exists()
    assert on_disk(again)["status"] == "running"
    with pytest.raises(BadInput, match="is running in another process"):
        start(tmp_path, data)
