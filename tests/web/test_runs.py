"""The pages of runs: only what scanning finds, numbers thinned, reports in a sandbox."""

import json

import pytest

from heedlm.config import StageConfig
from heedlm.report.shelf import Shelf
from heedlm.runs import Input, Run

HOSTILE = "<img src=x onerror=alert(1)>"


def training(folder, name, stage="ppo", steps=1000, inputs=(), status="complete", samples=True):
    """A run with numbers, alarms and answers."""
    run = Run.create(stage, StageConfig(out=folder, name=name), inputs, argv=["heed", stage])
    for step in range(1, steps + 1):
        run.metrics(step, {"reward/mean": step / 100, "kl/token_nats": 0.1, "length/mean": 20.0}, seconds=step)
    if samples:
        for step in range(0, steps, max(1, steps // 20)):
            rows = [{"prompt": f"{HOSTILE} {n}", "answer": f"answer {n} at {step}", "reward": 1.0} for n in range(3)]
            run.samples(step + 1, rows)
    run.alarm(steps // 2, {"state": "collapsed", "alarms": [{"signal": "S4", "level": "on", "reason": HOSTILE}]})
    run.note(monitor={"state": "collapsed"}, win_rate=0.625)
    model = run.path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    run.add_output("model", model)
    if status == "complete":
        run.finish()
    return run


@pytest.fixture
def place(home):
    folder = home.state.services.runs
    first = training(folder, "first")
    second = training(folder, "second", inputs=[Input("model", first.path)], steps=100)
    return home, first, second


def test_the_list_shows_state_health_and_figure(place, ok):
    home, first, _ = place
    text = ok(home.client("olga").get("/runs")).text
    assert f"ppo/{first.name}" in text
    assert "62.5" in text
    assert "&lt;img" in text
    assert HOSTILE not in text


def test_numbers_are_thinned_and_alarms_are_told(place, ok):
    home, first, _ = place
    look = ok(home.client("olga").get(f"/api/runs/ppo/{first.name}/look")).json()
    panel = next(panel for panel in look["panels"] if panel["title"] == "Reward")
    (line,) = panel["lines"]
    assert len(line["steps"]) == 200
    assert (line["low"][0], line["high"][0], line["values"][0]) == (0.01, 0.05, 0.03)
    assert line["steps"][-1] == 1000
    assert look["alarms"] == [
        {
            "start": 500.0,
            "end": 1000.0,
            "state": "collapsed",
            "reasons": [f"S4: {HOSTILE}"],
            "times": 1,
            "lost": False,
        }
    ]
    same = ok(home.client("olga").get(f"/api/runs/ppo/{first.name}/look", params={"since": look["mark"]})).json()
    assert same == {"same": True}


def test_a_run_that_grows_is_read_on(home, ok):
    run = training(home.state.services.runs, "live", steps=10, status="running")
    olga = home.client("olga")
    before = ok(olga.get(f"/api/runs/ppo/{run.name}/look")).json()
    assert (before["step"], before["ended"], before["status"]) == (10, "", "running")
    run.metrics(11, {"reward/mean": 7.0}, seconds=11)
    after = ok(olga.get(f"/api/runs/ppo/{run.name}/look", params={"since": before["mark"]})).json()
    assert after["step"] == 11
    run.finish()
    assert ok(olga.get(f"/api/runs/ppo/{run.name}/look")).json()["ended"] == "complete"


def test_answers_are_kept_by_step(place, ok):
    home, first, _ = place
    found = ok(home.client("olga").get(f"/api/runs/ppo/{first.name}/answers")).json()
    assert len(found["steps"]) <= 13
    assert found["steps"][0] == "1"
    assert found["steps"][-1] == "951"
    assert found["prompts"][0]["answers"]["1"] == {"text": "answer 0 at 0", "reward": 1.0}


def test_pages_of_one_run_and_of_several(place, ok):
    home, first, second = place
    olga = home.client("olga")
    one = ok(olga.get(f"/runs/ppo/{second.name}")).text
    assert f'href="/runs/ppo/{first.name}"' in one
    assert "Made from" in one
    assert f'href="/runs/ppo/{second.name}"' in ok(olga.get(f"/runs/ppo/{first.name}")).text
    assert HOSTILE not in one
    keys = [f"ppo/{first.name}", f"ppo/{second.name}"]
    several = ok(olga.get("/runs/compare", params={"run": keys})).text
    assert all(key in several for key in keys)
    ok(olga.get("/runs/compare", params={"run": [keys[0], "ppo/none"]}), 404)
    ok(olga.get("/runs/compare"))
    ok(olga.get("/runs/compare", params={"run": [f"x{n}" for n in range(9)]}), 422)


@pytest.mark.parametrize(
    "key",
    [
        "../feedback.db",
        "..%2F..%2Fetc",
        "%2e%2e/secret",
        "ppo/../../secret",
        "/etc",
        "ppo/%2e%2e/%2e%2e/secret",
        "ppo/.hidden",
        "ppo",
        "",
        "ppo/first%00",
        "secret",
    ],
)
def test_nothing_but_runs_is_reached(place, key):
    home, *_ = place
    folder = home.state.services.runs
    for outside in (folder.parent / "secret", folder / "ppo" / ".hidden"):
        outside.mkdir(exist_ok=True)
        (outside / "run.json").write_text(json.dumps({"stage": "x"}))
    olga = home.client("olga")
    for path in (f"/runs/{key}", f"/api/runs/{key}/look", f"/api/runs/{key}/answers", f"/runs/{key}/report"):
        if path != "/runs/":
            assert olga.get(path).status_code in (404, 307), path
    assert olga.get("/runs/compare", params={"run": ["../secret", key]}).status_code == 404


def test_links_out_of_the_folder_are_not_followed(place):
    home, first, _ = place
    folder = home.state.services.runs
    outside = folder.parent / "elsewhere"
    training(outside, "other", steps=2)
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    assert {key.split("/")[0] for key in Shelf(folder).found()} == {"ppo"}
    assert Shelf(folder).path(f"ppo/{first.name}") == first.path


def test_a_damaged_run_does_not_hide_the_others(place, ok):
    home, first, second = place
    (second.path / "run.json").write_text("{torn")
    olga = home.client("olga")
    assert first.name in ok(olga.get("/runs")).text
    assert olga.get(f"/runs/ppo/{second.name}").status_code in (404, 422)


def test_a_report_runs_in_a_sandbox(place, ok):
    home, first, _ = place
    answer = ok(home.client("olga").get(f"/runs/ppo/{first.name}/report"))
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "frame-ancestors 'none'" in policy


def test_runs_are_for_owners_and_managers(place, ok):
    home, first, _ = place
    home.person("ann")
    home.person("cara", "chat")
    home.person("mia", "manager")
    for name, status in (("ann", 403), ("cara", 403), ("mia", 200)):
        client = home.client(name)
        for path in ("/runs", f"/runs/ppo/{first.name}", f"/api/runs/ppo/{first.name}/look", "/runs/compare"):
            ok(client.get(path), status)
