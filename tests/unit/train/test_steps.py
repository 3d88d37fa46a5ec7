"""Steps of answers: how a text is parted, where steps end among tokens, and that training learns them."""

import pytest
from tests.unit.train import tiny

from heedlm.models import new_reward
from heedlm.models.chat import Chat
from heedlm.objectives import Process
from heedlm.records import Steps, read
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim
from heedlm.train.steps import StepTraining, split_steps, step_ends, step_scores, stepped_of


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("2 + 3 = 5. 5 + 4 = 9. So 9.", ["2 + 3 = 5.", " 5 + 4 = 9.", " So 9."]),
        ("二加三是五。所以是五。", ["二加三是五。", "所以是五。"]),
        ("first\nsecond\n\nthird", ["first", "\nsecond", "\n\nthird"]),
        ("pi is 3.14 or so", ["pi is 3.14 or so"]),
        ("One. Two \n", ["One.", " Two \n"]),
        ("", [""]),
        ("  ", ["  "]),
    ],
)
def test_a_text_is_its_steps(text, steps):
    assert split_steps(text) == steps
    assert "".join(steps) == text


@pytest.mark.parametrize("text", ["Ann lives in the red house. So red.", "小猫在red房子里。So red.", "red", ""])
def test_a_step_ends_at_the_token_that_completes_it(text):
    chat = Chat(tiny.tokenizer())
    ids, steps = chat.response_ids(text), split_steps(text)
    ends = step_ends(chat, ids, steps)
    assert ends[-1] == len(ids) - 1  # the end of the answer is the last step's
    for number, end in enumerate(ends[:-1], 1):
        said = "".join(steps[:number])
        assert len(chat.decode(ids[: end + 1])) >= len(said) > len(chat.decode(ids[:end]))


def answers(path, count=24):
    """Of each answer the step that names the green house is wrong, and what follows it right again."""
    rows = []
    for i in range(count):
        colours = [tiny.COLOURS[(i + k) % 4] for k in range(3)]
        steps = [f"{' ' if k else ''}In the {colour} house." for k, colour in enumerate(colours)]
        labels = [-1 if colour == "green" else 1 for colour in colours]
        rows.append({"prompt": tiny.talk(tiny.question(i)), "steps": steps, "labels": labels})
    return tiny.jsonl(path, rows)


def test_training_learns_which_steps_are_right(tmp_path):
    _, found = stepped_of(Chat(tiny.tokenizer()), read(answers(tmp_path / "steps.jsonl"), Steps), 64)
    model = new_reward(tiny.model(1), seed=0)
    training = StepTraining(Learner(model, Optim(lr=1e-2), 30), found, found, Process(), batch=8, budget=200, seed=0)
    before = training.evaluate(0)
    for index in range(30):
        training.step(index)
    after = training.evaluate(30)
    assert after["loss/held_out"] < 0.3 * before["loss/held_out"]
    assert after["accuracy/held_out"] > 0.95
    scores = step_scores(model, [each.row.ids for each in found], [each.ends for each in found], budget=150)
    for each, row in zip(found, scores, strict=True):
        first = each.labels.index(-1) if -1 in each.labels else len(row)
        assert [score > 0 for score in row[: first + 1]] == [label > 0 for label in each.labels[: first + 1]]


def test_microbatches_do_not_matter(tmp_path, near):
    _, found = stepped_of(Chat(tiny.tokenizer()), read(answers(tmp_path / "steps.jsonl", 8), Steps), 64)
    losses = []
    for budget in (40, 4096):
        learner = Learner(new_reward(tiny.model(1), seed=0), Optim(lr=1e-2), 3)
        training = StepTraining(learner, found, [], Process(), batch=8, budget=budget, seed=0)
        losses.append([training.step(index)["loss/train"] for index in range(3)])
    near(losses[0], losses[1], tol=1e-4)


def test_an_answer_that_is_too_long_is_put_aside(tmp_path):
    rows = [{"prompt": tiny.talk("red?"), "steps": ["red " * n], "labels": [1]} for n in (2, 60)]
    kept, found = stepped_of(
        Chat(tiny.tokenizer()), read(tiny.jsonl(tmp_path / "s.jsonl", rows), Steps, max_bad_rows=0.5), 32
    )
    assert (len(kept), len(found), kept.bad[0].line) == (1, 1, 2)
