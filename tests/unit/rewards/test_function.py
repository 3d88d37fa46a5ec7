"""A reward function in a file of the user's: what it is given, what it may return, and faults in one line."""

import pytest
import torch
from pydantic import TypeAdapter
from tests.unit import devices
from tests.unit.rewards.test_sources import episodes
from tests.unit.train import tiny

from heedlm.errors import BadInput, NotFinite
from heedlm.models import Chat
from heedlm.rewards import Function, Reward, RewardSource
from heedlm.rewards.shaping import token_rewards

TEXTS = ["red", "小猫", "the white house, I should say, though nobody knows for sure where she has gone"]


@pytest.fixture
def opened(tmp_path):
    """A reward source of the given code."""

    def make(code):
        path = tmp_path / "mine.py"
        path.write_text(code, encoding="utf-8")
        return Function(path=path).open(Chat(tiny.tokenizer()))

    return make


def scored(opened, code, texts=("red", "blue house")):
    return opened(code).score(episodes(list(texts)))


# ---------------------------------------------------------------- what it is given


def test_a_function_of_prompt_and_response(opened):
    reward = scored(opened, "def score(prompt, response):\n    return len(response) + prompt.count('Ann') / 10")
    assert reward.total.tolist() == pytest.approx([3.1, 10.0])  # the second question is about Bob
    assert reward.steps is None
    assert not reward.parts


def test_the_third_argument_says_the_rest(opened):
    asked = episodes(TEXTS)
    source = opened(
        "seen = []\ndef score(prompt, response, meta):\n    seen.append((prompt, response, meta))\n    return 0"
    )
    source.score(asked)
    seen = source._function.__globals__["seen"]
    for row, (prompt, response, meta) in enumerate(seen):
        assert prompt == tiny.question(row)
        assert response == asked.texts[row]
        assert meta["id"] == asked.prompts[row].id
        assert meta["messages"] == [{"role": "user", "content": prompt}]
        assert meta["ended"] == (row < 2)
        assert len(meta["tokens"]) == asked.rollouts.response_lengths[row]
        assert set(meta) >= {"task", "lang", "source"}
    assert "".join(seen[0][2]["tokens"]) == "red"
    assert seen[0][2]["tokens"][-1] == ""  # EOS
    assert "".join(seen[2][2]["tokens"]) == asked.texts[2]


@pytest.mark.parametrize(
    "head",
    ["def score(prompt, response, meta=None):", "def score(*given):", "def score(prompt, response, meta, scale=1):"],
)
def test_whoever_can_take_three_arguments_is_given_three(opened, head):
    given = "given[2]" if "*" in head else "meta"
    assert scored(opened, f"{head}\n    return len({given}['messages'])").total.tolist() == [1, 1]


def test_score_batch_is_given_lists_and_is_called_once(opened):
    code = "calls = []\ndef score_batch(prompts, responses):\n    calls.append(prompts)\n    return map(len, responses)"
    source = opened(code.replace("map(len, responses)", "[len(r) for r in responses]"))
    assert source.score(episodes(["red", "blue house"])).total.tolist() == [3, 10]
    assert source._function.__globals__["calls"] == [[tiny.question(0), tiny.question(1)]]
    whole = (
        "def score_batch(p, r, metas):\n    return [0.5 * m['ended'] for m in metas]\ndef score(p, r):\n    return 9"
    )
    assert scored(opened, whole).total.tolist() == [0.5, 0.5]


# ---------------------------------------------------------------- what it may return


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("2", 2),
        ("True", 1),
        ("-0.5", -0.5),
        ("__import__('fractions').Fraction(1, 4)", 0.25),
        ("__import__('numpy').float32(1.5)", 1.5),
        ("__import__('numpy').array(3)", 3),
        ("__import__('torch').tensor(0.25)", 0.25),
    ],
)
def test_any_number_will_do(opened, value, number):
    total = scored(opened, f"def score(p, r):\n    return {value}").total
    assert total.tolist() == [number, number]
    assert total.dtype == torch.float32


STEPS = """
def score(prompt, response, meta):
    return {kind}([0.1 * (k + 1) for k in range(len(meta["tokens"]))])
"""


@pytest.mark.parametrize("kind", ["list", "tuple", "__import__('numpy').array", "__import__('torch').tensor"])
def test_a_list_rewards_every_token_and_its_last_number_the_answer(opened, kind, near):
    asked = episodes(TEXTS)
    reward = opened(STEPS.format(kind=kind)).score(asked)
    rollouts = asked.rollouts
    counts = rollouts.response_lengths
    near(reward.total, 0.1 * counts)
    for row, count in enumerate(counts.tolist()):
        first = int(rollouts.prompt_lengths[row])
        near(reward.steps[row, first : first + count - 1], [0.1 * (k + 1) for k in range(count - 1)])
        assert reward.steps[row, :first].eq(0).all()
        assert reward.steps[row, first + count - 1 :].eq(0).all()
    near(reward.parts["steps"], reward.steps.sum(1))
    # What PPO makes of it: each token gets its number.
    tokens = token_rewards(reward.total, torch.zeros_like(rollouts.logps), rollouts.response_mask, 0.0, reward.steps)
    near(tokens[rollouts.response_mask], [0.1 * (k + 1) for count in counts.tolist() for k in range(count)])


def test_a_number_is_a_list_of_zeros_that_ends_with_it(opened):
    plain = scored(opened, "def score(p, r):\n    return 7")
    listed = scored(opened, "def score(p, r, m):\n    return [0] * (len(m['tokens']) - 1) + [7]")
    assert torch.equal(plain.total, listed.total)
    assert listed.steps.eq(0).all()


def test_lists_and_numbers_may_be_mixed(opened):
    code = "def score(p, r, m):\n    return [1] * len(m['tokens']) if r == 'red' else 2"
    reward = scored(opened, code)
    assert reward.total.tolist() == [1, 2]
    assert reward.steps[1].eq(0).all()
    assert reward.steps[0].sum() > 0


# ---------------------------------------------------------------- what is wrong, in one line

FAULTS = {
    "a word": ("return 'good'", r"score of prompt \w+ \('Where does Ann live\? 0'\) returned 'good'; return a number"),
    "nothing": ("pass", "returned None; return a number, or a list with a number for each token"),
    "words": ("return ['a']", r"returned \['a'\]; return a number"),
    "too few": ("return [0.5]", r"returned a list of 1 numbers for \d tokens; one for each, EOS too"),
    "none": ("return []", r"returned a list of 0 numbers for \d tokens"),
    "a table": ("return [[1, 2]]", r"returned \[\[1, 2\]\]; return a number"),
    "it breaks": ("x = {}\n    return x['a\\nb']", r"mine.py:3: KeyError: 'a\\nb', in score of prompt \w+ \('Where"),
    "it asserts": ("assert r == ''", r"mine.py:2: AssertionError: no message, in score of prompt"),
    "a library breaks": ("import json\n    return json.loads(r)", r"mine.py:3: JSONDecodeError: Expecting value"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_return_is_told_in_one_line(opened, name):
    body, told = FAULTS[name]
    with pytest.raises(BadInput, match=told) as caught:
        scored(opened, f"def score(p, r):\n    {body}")
    assert "\n" not in str(caught.value)
    assert "mine.py" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("float('nan')", r"mine.py: score of prompt \w+ \('Where does Ann live\? 0'\) returned nan; return finite"),
        ("float('-inf')", "returned -inf; return finite numbers"),
        ("[0] * (len(m['tokens']) - 1) + [float('nan')]", r"returned nan for token (\d) of \1; return finite"),
    ],
)
def test_no_reward_that_is_not_finite_goes_on(opened, value, told):
    with pytest.raises(NotFinite, match=told):
        scored(opened, f"def score(p, r, m):\n    return {value}", ["red"])


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def score(p, r)\n    return 1", r"mine.py:1: SyntaxError: expected ':', as the file was read"),
        ("import json\nx = 1 / 0", "mine.py:2: ZeroDivisionError: division by zero, as the file was read"),
        ("import sys\nsys.exit(0)", "mine.py:2: SystemExit: 0, as the file was read"),
        ("import no_such_thing", "mine.py:1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("reward = 1", "has no function score; write one: def score"),
        ("score = 1", "has no function score"),
        ("def score(p): return 1", r"score\(p\) must take \(prompt, response\), or a third argument"),
        ("def score_batch(p): return 1", r"must take \(prompts, responses\), or a third"),
        ("def score(p, r, m, x): return 1", r"score\(p, r, m, x\) must take \(prompt, response\)"),
    ],
)
def test_a_file_that_will_not_do_is_refused_before_anything_runs(opened, code, told):
    with pytest.raises(BadInput, match=told) as caught:
        opened(code)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["1", "[1]", "'ab'", "None"])
def test_score_batch_must_answer_for_every_row(opened, value):
    with pytest.raises(BadInput, match=r"score_batch of 2 answers returned .*; return a list with an entry for each"):
        scored(opened, f"def score_batch(p, r):\n    return {value}")


@pytest.mark.parametrize("path", ["my.rewards.score", "https://example.org/score.py", "nothing.py", "folder.py"])
def test_only_a_file_on_this_machine_is_run(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(BadInput, match=r"no such Python file; give the path of a \.py file on this machine"):
        Function(path=path).open(Chat(tiny.tokenizer()))


def test_the_file_as_it_is_now_is_run_and_nothing_is_left_beside_it(opened, tmp_path):
    for number in (1, 2):  # the same length within the same second, which a bytecode cache could not tell apart
        assert scored(opened, f"def score(p, r):\n    return {number}").total.tolist() == [number, number]
    assert [item.name for item in tmp_path.iterdir()] == ["mine.py"]


def test_dataclasses_work_in_the_file(opened):
    code = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Taste:\n    word: str\ntaste = Taste('red')\n"
        "def score(p, r):\n    return taste.word in r"
    )
    assert scored(opened, code).total.tolist() == [1, 0]


# ---------------------------------------------------------------- names and devices


def test_a_path_that_ends_in_py_names_a_function():
    adapter = TypeAdapter(RewardSource)
    assert adapter.validate_python("my_reward.py") == Function(path="my_reward.py")
    assert adapter.validate_python({"name": "function", "path": "a/b.py"}) == Function(path="a/b.py")


def test_numbers_are_where_the_answers_are(opened, monkeypatch):
    asked = episodes(["red", "blue house"])
    source = opened(STEPS.format(kind="list"))
    wanted = source.score(asked)
    with devices.pretended(monkeypatch) as device:
        there = type(asked)(asked.prompts, asked.texts, asked.rollouts.to(device))
        found: Reward = source.score(there)
        assert {found.total.device, found.steps.device, found.parts["steps"].device} == {device}
    assert torch.equal(devices.here(found.total), wanted.total)
    assert torch.equal(devices.here(found.steps), wanted.steps)
