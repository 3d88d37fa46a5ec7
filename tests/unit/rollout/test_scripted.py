from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerFast

from heedlm.models import Chat
from heedlm.rollout import Engine, Sampling, Scripted, Transformers


def test_answers_are_given_in_turn(trained: PreTrainedTokenizerFast) -> None:
    chat = Chat(trained)
    engine = Scripted(answers=("yes", "小猫")).bind(None, trained)
    rollouts = engine.generate([[7, 8], [9], [7]], Sampling(), seed=0)
    assert [chat.decode(ids) for ids in rollouts.responses()] == ["yes", "小猫", "yes"]
    assert rollouts.ended.tolist() == [True] * 3
    assert rollouts.prompt_lengths.tolist() == [2, 1, 1]
    assert rollouts.tokens[0, :2].tolist() == [7, 8]
    assert rollouts.logps.eq(-1.0).equal(rollouts.response_mask)
    assert len(engine.generate([], Sampling(), seed=0)) == 0


def test_long_answers_are_cut(trained: PreTrainedTokenizerFast) -> None:
    engine = Scripted(answers=("Ann lives in the red house.", "A")).bind(None, trained)
    rollouts = engine.generate([[7], [8]], Sampling(max_new_tokens=2), seed=0)
    assert rollouts.response_lengths.tolist() == [2, 2]
    assert rollouts.ended.tolist() == [False, True]


def test_engines_are_chosen_by_name() -> None:
    read = TypeAdapter(Engine).validate_python
    assert read({"name": "transformers", "max_batch": 8}) == Transformers(max_batch=8)
    assert read({"name": "scripted", "answers": ["a"]}) == Scripted(answers=("a",))
    with pytest.raises(ValidationError, match="'transformers', 'scripted'"):
        read({"name": "nonesuch"})


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"max_new_tokens": 0}]
)
def test_impossible_sampling_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Sampling(**wrong)  # type: ignore[arg-type]
