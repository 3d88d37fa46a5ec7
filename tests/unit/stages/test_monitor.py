"""`heed monitor` on a log: the changes of state, the verdict, the exit code, and what was not watched."""

import json
import math
from types import SimpleNamespace

import pytest

from heedlm import config
from heedlm.cli.running import as_json
from heedlm.errors import BadInput
from heedlm.monitor import Thresholds
from heedlm.stages import monitor, rl


def row(step: int, **changes: float) -> dict[str, float]:
    """A step of a run in which nothing happens, under the names of TRL's GRPO."""
    known = {"reward": 1.0, "reward_std": 1.0, "completions/mean_length": 20.0, "kl": 0.01, "entropy": 2.0}
    return {"step": step, **known, **changes}


@pytest.fixture
def log(tmp_path) -> SimpleNamespace:
    """`log(rows)` writes a trainer state, `log.run(…)` monitors it."""

    def look(rows: list[dict], *settings: str) -> dict:
        path = tmp_path / "trainer_state.json"
        path.write_text(json.dumps({"log_history": rows}), encoding="utf-8")
        return monitor.run(config.load(monitor.Config, [str(path), *settings], stage="monitor"))

    return SimpleNamespace(look=look, path=tmp_path)


CALM = [row(step) for step in range(1, 161)]
BAD = [row(step, kl=0.3, entropy=0.5) for step in range(161, 201)]


def test_a_collapse(log):
    result = log.look(CALM + BAD, "cap=32")
    assert (result["state"], result["first_warning"], result["collapsed_at"]) == ("collapsed", 165, 185)
    assert monitor.exit_code(result) == 3
    assert [(change["step"], change["state"]) for change in result["changes"]] == [(165, "warn"), (185, "collapsed")]
    assert {(alarm["step"], alarm["signal"], alarm["level"]) for alarm in result["alarms"]} == {
        (165, "S4", "warn"),
        (170, "S4", "on"),
        (175, "S3", "on"),
    }
    text = monitor.describe(result).splitlines()
    assert text[0] == "step    165  warn       S4 (warning) KL 0.0825 nats a token to the reference, alarm from 0.1"
    assert text[1].startswith("step    185  collapsed  S3 NLL")
    assert text[2] == "collapsed at step 185, first warning at 165 (200 rows up to step 200)"
    assert text[3] == "  S5 is off: no win rate in this log"
    assert text[4].startswith("  read: reward/mean from reward, reward/std from reward_std")
    results = json.loads(as_json(result))["results"]
    assert (results["state"], results["collapsed_at"]) == ("collapsed", 185)


def test_a_healthy_log(log):
    result = log.look(CALM, "cap=32")
    assert (result["state"], result["first_warning"], result["collapsed_at"]) == ("healthy", None, None)
    assert monitor.exit_code(result) == 0
    assert monitor.describe(result).splitlines()[0] == "healthy (160 rows up to step 160)"


def test_a_warning_and_its_end(log):
    high = [row(step, kl=0.3) for step in range(161, 181)]
    result = log.look(CALM + high)
    assert (result["state"], monitor.exit_code(result)) == ("warn", 0)
    assert "warning since step 165 (180 rows up to step 180)" in monitor.describe(result)
    result = log.look(CALM + high + [row(step) for step in range(181, 261)])
    assert (result["state"], result["first_warning"]) == ("healthy", 165)
    assert monitor.describe(result).splitlines()[1] == "step    245  healthy    quiet again"


def test_a_rollback_in_the_log(log):
    again = [row(step) for step in range(150, 260)]
    result = log.look(CALM + BAD + again)
    assert result["state"] == "healthy"
    assert result["changes"][-1]["reasons"] == ("the log goes back from step 200 to step 150",)
    assert result["changes"][-1]["step"] == 150
    assert log.look(CALM + BAD + again + [row(step, kl=9.0, entropy=0.1) for step in range(260, 300)])["collapsed_at"]


def test_what_the_log_lacks_can_be_given(log):
    """TRL's PPO logs neither lengths nor the spread of rewards, and its KL is that of a whole answer."""
    names = {"objective/scores": 1.0, "objective/kl": 0.2}
    rows = [{"step": step, **names} for step in range(1, 161)]
    rows += [{"step": step, "objective/scores": 4.0, "objective/kl": 9.0} for step in range(161, 201)]
    result = log.look(rows)
    assert set(result["off"]) == {"S1", "S2", "S3", "S4", "S5"}
    result = log.look(rows, "length=20", "reward_std=1.5")
    assert set(result["off"]) == {"S2", "S3", "S5"}
    assert {alarm["signal"] for alarm in result["alarms"]} == {"S1", "S4"}
    assert result["state"] == "collapsed"


def test_a_run_of_heed_brings_its_cap_target_and_thresholds(log):
    (log.path / "run.json").write_text("{}", encoding="utf-8")
    settings = {"sampling": {"max_new_tokens": 20}, "kl": {"target": 4.0}, "monitor": {"nll": 0.1, "nll_warn": 0.2}}
    (log.path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    result = log.look(CALM + BAD)
    said = {alarm["signal"]: alarm["reason"] for alarm in result["alarms"]}
    assert said["S2"] == "mean length 20 of at most 20 tokens"
    assert said["S4"].endswith("alarm from 0.4")
    assert "S3" not in said, "by the run's own thresholds"
    assert "S3" in {alarm["signal"] for alarm in log.look(CALM + BAD, "7b")["alarms"]}
    assert "S2" not in {alarm["signal"] for alarm in log.look(CALM + BAD, "cap=32")["alarms"]}


def test_values_that_are_not_finite_are_told(log):
    result = log.look([*CALM, row(161, kl=float("nan"))])
    assert "  kl/token_nats was NaN or infinite in 1 rows, first at step 161; they were left out" in monitor.describe(
        result
    )


def test_presets(log):
    assert config.load(monitor.Config, ["x", "7b"], stage="monitor").thresholds == Thresholds()
    tiny = config.load(monitor.Config, ["x", "tiny"], stage="monitor").thresholds
    assert (tiny.window, tiny.trend, tiny.min_steps, tiny.kl) == (5, 30, 10, 0.37)
    trained = config.load(rl.Config, ["tiny", "model=m", "reward=gold", "prompts=p"], stage="ppo")
    assert trained.monitor == tiny
    assert (
        log.look(CALM[:60] + [row(step, kl=0.5, entropy=0.5) for step in range(61, 90)], "tiny")["collapsed_at"] == 66
    )


def test_thresholds_calibrated_on_other_logs(log):
    """The healthy log goes to 0.01 nats a token, the failing one to 0.3: the alarm lies between."""
    for name, rows in (
        ("good", CALM),
        ("bad", CALM[:60] + [row(step, kl=0.3, entropy=0.5) for step in range(61, 101)]),
    ):
        (log.path / f"{name}.json").write_text(json.dumps({"log_history": rows}), encoding="utf-8")
    result = log.look(CALM + BAD, f"healthy={log.path}/good.json", f"failing={log.path}/bad.json")
    limits = result["thresholds"]
    assert limits["kl"] == pytest.approx(math.sqrt(0.01 * 0.3))
    assert limits["window"] < 20
    assert result["first_warning"] <= 163
    assert log.look(CALM)["thresholds"]["kl"] == 0.1


def test_thresholds_that_contradict_each_other(log):
    with pytest.raises(BadInput, match="kl_warn may not be above kl"):
        log.look(CALM, "thresholds.kl_warn=0.5")
