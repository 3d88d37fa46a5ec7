import io

import pytest

from heedlm import progress as module
from heedlm.progress import Bar, clock, progress, set_quiet, short


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves."""
    time = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


@pytest.fixture(autouse=True)
def loud():
    yield
    set_quiet(False)


def work(now, seconds, total=100):
    with progress("sampling", total=total, unit="prompts") as bar:
        for _ in range(100):
            now[0] += seconds / 100
            bar.advance(1, tokens=50)


def test_short_work_says_nothing(now, capsys):
    work(now, 1.9)
    assert capsys.readouterr().err == ""


def test_long_work_says_a_line_every_ten_seconds_after_the_first_two(now, capsys):
    work(now, 36)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("/")[0] for line in lines[:-1]] == [f"sampling: {done}" for done in (6, 34, 62, 90)]
    assert lines[0] == "sampling: 6/100 prompts, 2.78 prompts/s, 139 tokens/s, 0:34 left"
    assert lines[-1] == "sampling: 100 prompts in 0:36, 2.78 prompts/s, 139 tokens/s"


def test_without_a_total_there_is_no_time_left(now, capsys):
    work(now, 6, total=None)
    assert capsys.readouterr().err.splitlines()[0] == "sampling: 34 prompts, 16.7 prompts/s, 833 tokens/s"


def test_quiet_is_silent(now, capsys):
    set_quiet()
    work(now, 60)
    assert capsys.readouterr().err == ""


def test_work_done_before_a_resume_does_not_flatter_the_rate(now):
    bar = Bar("ppo", 100, "steps", io.StringIO())
    bar.advance(50)
    now[0] += 10
    bar.advance(5)
    assert bar.seconds_left() == pytest.approx(90)
    assert bar.rates() == "0.5 steps/s"


def test_facts_stand_beside_the_rate(now):
    bar = Bar("ppo", 100, "steps", io.StringIO())
    now[0] += 1
    bar.advance(1, reward=0.123456)
    assert bar.rates() == "1 steps/s, reward 0.1235"
    assert bar.seconds_left() == pytest.approx(99)


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(module.sys, "stderr", stream)
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    with progress("training", total=3, unit="steps") as bar:
        for _ in range(3):
            bar.advance(1, tokens=10)
    shown = stream.getvalue()
    assert "training" in shown
    assert "3/3" in shown
    assert "tokens/s" in shown


@pytest.mark.parametrize(
    ("number", "text"), [(0.01234, "0.0123"), (3.456, "3.46"), (210.4, "210"), (12345, "12.3k"), (4.56e6, "4.56M")]
)
def test_rates_are_short(number, text):
    assert short(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "0:07"), (750, "12:30"), (3723, "1:02:03"), (59.6, "1:00")])
def test_durations_read_as_a_clock(seconds, text):
    assert clock(seconds) == text
