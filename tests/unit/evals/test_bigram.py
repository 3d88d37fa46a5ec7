"""Sentence probabilities by counting: the worked number N1."""

from __future__ import annotations

import math

import pytest

from heedlm.evals.bigram import Bigram

CORPUS = {
    ("那个人", "在", "做", "报告"): 3,
    ("那个人", "在", "做", "饭"): 2,
    ("那只猫", "在", "睡觉"): 2,
    ("那只猫", "在", "吃", "鱼"): 1,
}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (("报告", "那只猫", "做", "在"), -20.471723),
        (("那只猫", "在", "做", "报告"), -2.803948),
        (("那个人", "在", "做", "报告"), -2.213737),
    ],
)
def test_n1(sentence: tuple[str, ...], expected: float) -> None:
    """V = 那个人 那只猫 在 做 报告 饭 睡觉 吃 鱼 and EOS = 10; contexts start with BOS, seen 8 times."""
    model = Bigram(CORPUS)
    assert model.vocabulary == 10
    assert model.logp(sentence) == pytest.approx(expected, abs=1e-6)


def test_n1_by_hand() -> None:
    """那个人 在 做 报告 EOS: 5.1/9 · 5.1/6 · 5.1/9 · 3.1/6 · 3.1/4 with every context's count + 0.1·10."""
    by_hand = math.log(5.1 / 9 * 5.1 / 6 * 5.1 / 9 * 3.1 / 6 * 3.1 / 4)
    assert Bigram(CORPUS).logp(("那个人", "在", "做", "报告")) == pytest.approx(by_hand, abs=1e-12)


def test_probabilities_of_the_next_word_sum_to_one() -> None:
    model = Bigram(CORPUS)
    words = {word for sentence in CORPUS for word in sentence} | {"<eos>"}
    for previous in ("<bos>", "在", "鱼"):
        assert sum(math.exp(model._logp(previous, word)) for word in words) == pytest.approx(1.0, abs=1e-12)


def test_a_list_of_sentences_is_counted() -> None:
    spelled_out = [sentence for sentence, times in CORPUS.items() for _ in range(times)]
    sentence = ("那只猫", "在", "吃", "鱼")
    assert Bigram(spelled_out).logp(sentence) == Bigram(CORPUS).logp(sentence)
