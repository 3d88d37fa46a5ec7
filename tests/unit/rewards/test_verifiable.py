"""Rewards that can be checked: sums, verse, layout, and the labels of steps."""

import pytest
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models import Chat
from heedlm.records import Message, Prompt
from heedlm.rewards import Episodes, Layout, Sums, Verse
from heedlm.rewards.verifiable import equations_hold, step_labels, wanted_result
from heedlm.train.ranking import answer_rows, as_rollouts
from heedlm.village import Village
from heedlm.village.tasks import answer

QUATRAIN = "朝辞白帝彩云间，千里江陵一日还。两岸猿声啼不住，轻舟已过万重山。"
SHORT = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"


def test_a_seven_character_quatrain_is_accepted_and_a_five_character_one_is_not():
    assert Verse().measure(QUATRAIN, True) == 1
    assert Verse().measure(SHORT, True) == 0
    assert Verse(characters=5).measure(SHORT, True) == 1
    assert Verse().measure(QUATRAIN.replace("，", "\n").replace("。", "\n"), True) == 1
    assert Verse(lines=2, characters=5).measure("小花到我家 / 鸟儿都爱它。", True) == 1


@pytest.mark.parametrize(
    "text", ["", QUATRAIN[:-8], QUATRAIN + "再", QUATRAIN.replace("山", "x"), QUATRAIN.replace("山", ""), "a" * 28]
)
def test_what_is_no_quatrain_is_refused(text):
    assert Verse().measure(text, True) == 0


def test_layout():
    rule = Layout(lines=2, characters=5)
    values = [
        rule.measure(text, True) for text in ("one\ntwo", "one\ntwo\n", "one", "one\n\ntwo", "three\nfour six", "")
    ]
    assert values == [1, 1, 0, 0, 0, 0]


def episodes(texts, prompts):
    chat = Chat(tiny.tokenizer())
    rows = [answer_rows(chat, p.messages, [text], 999)[0] for p, text in zip(prompts, texts, strict=True)]
    return Episodes(prompts, texts, as_rollouts(rows))


def asked(text, task=None):
    return Prompt(messages=(Message(role="user", content=text),), meta={"task": task})


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("2 + 3 = 5. 5 + 4 = 9.", [True, True]),
        ("2 + 3 × 4 = 14, 2 * 3 - 1 = 6, 3 - 5 = -2", [True, False, True]),
        ("1 + 1 = 2 + 1 = 3", [True]),
        ("no sums", []),
        (f"1 + 1 = {'9' * 5000}", []),
    ],
)
def test_equations(text, held):
    assert equations_hold(text) == held


def test_a_sum_has_a_checker_for_its_steps_and_one_for_its_result():
    prompts = [asked("Ann asks: 2 + 3 + 4 = ?")] * 5
    texts = ["2 + 3 = 5. 5 + 4 = 9. So 9.", "9", "2 + 3 = 6. 6 + 4 = 10. So 9.", "2 + 3 = 5. So 8.", ""]
    reward = Sums().score(episodes(texts, prompts))
    assert reward.parts["steps"].tolist() == [1, 0, 0.5, 1, 0]
    assert reward.parts["result"].tolist() == [1, 1, 1, 0, 0]
    assert reward.total.tolist() == [1, 0.5, 0.75, 0.5, 0]
    with pytest.raises(BadInput, match="shows no sum"):
        Sums().score(episodes(["9"], [asked("How are you?")]))


def test_the_labels_of_the_villages_sums_are_the_truth():
    """Of its manners `steps` is right throughout, `wrong_steps` wrong from its first equation on."""
    import random

    tasks = [p for p in Village(0, families=("sum",)).prompts(40, "test") if p.meta.family == "sum"]
    for prompt in tasks:
        right = answer(prompt.meta.task, "steps", random.Random(1))
        wrong = answer(prompt.meta.task, "wrong_steps", random.Random(1))
        vague = answer(prompt.meta.task, "many", random.Random(1))
        assert set(step_labels(prompt, right)[1]) == {1}
        assert len(step_labels(prompt, right)[0]) == 3
        assert -1 in step_labels(prompt, wrong)[1]
        assert step_labels(prompt, wrong)[1][-1] == -1
        assert step_labels(prompt, vague)[1] == [0]
        slots = prompt.meta.task["slots"]
        assert wanted_result(prompt) == slots["a"] + slots["b"] + slots["c"]
