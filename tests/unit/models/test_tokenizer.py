from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from heedlm.errors import BadInput
from heedlm.models import load_tokenizer, train_tokenizer
from heedlm.models.tokenizer import HEED_TEMPLATE, SMALLEST_VOCABULARY, SPECIAL_TOKENS


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


@given(text=st.text())
def test_every_text_survives(trained: PreTrainedTokenizerFast, text: str) -> None:
    assert trained.decode(ids(trained, text), clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize(
    "text", ["", " ", "  two  spaces\n\n\ttab ", "你好，世界！", "e\u0301 👩‍👩‍👧 \x00\x7f", "a , b ."]
)
def test_odd_texts_survive(trained: PreTrainedTokenizerFast, text: str) -> None:
    assert trained.decode(ids(trained, text)) == text


def test_special_tokens_come_first(trained: PreTrainedTokenizerFast) -> None:
    assert trained.convert_ids_to_tokens(list(range(6))) == list(SPECIAL_TOKENS)
    assert (trained.pad_token_id, trained.bos_token_id, trained.eos_token_id) == (0, 1, 2)
    assert set(trained.all_special_ids) == set(range(6))


def test_digits_are_tokens_of_their_own(trained: PreTrainedTokenizerFast) -> None:
    tokenizer = train_tokenizer(["12 34 1212 in 1234"] * 50, 300)
    assert [tokenizer.decode([i]) for i in ids(tokenizer, "1234")] == ["1", "2", "3", "4"]


def test_no_space_is_added_in_front(trained: PreTrainedTokenizerFast) -> None:
    assert trained.decode(ids(trained, "Ann")[:1]).startswith("A")


def test_both_languages_are_merged(trained: PreTrainedTokenizerFast) -> None:
    assert len(ids(trained, "小猫在红房子里。")) <= 8
    assert len(ids(trained, "Ann lives in the red house.")) <= 15


def test_the_same_texts_give_the_same_tokenizer_in_another_process(tmp_path: Path) -> None:
    code = (
        "from heedlm.models import train_tokenizer\n"
        "texts = [f'word{i % 7} and 字{i % 5} or {i}' for i in range(300)]\n"
        "train_tokenizer(texts, 400, seed=1, max_characters=3000).save_pretrained(folder)"
    )
    here, there = tmp_path / "here", tmp_path / "there"
    exec(code, {"folder": here})
    subprocess.run([sys.executable, "-c", f"folder = {str(there)!r}\n{code}"], check=True)
    assert (here / "tokenizer.json").read_bytes() == (there / "tokenizer.json").read_bytes()


def test_the_seed_chooses_among_too_many_texts() -> None:
    texts = [f"{word} {word}" for word in ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot") for _ in range(9)]
    vocabularies = [train_tokenizer(texts, 300, seed=s, max_characters=60).get_vocab() for s in (0, 0, 1)]
    assert vocabularies[0] == vocabularies[1]
    assert vocabularies[0] != vocabularies[2]


def test_transformers_loads_it_with_its_template(trained: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    for again in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert isinstance(again, PreTrainedTokenizerFast)
        assert again.get_vocab() == trained.get_vocab()
        assert again.chat_template == HEED_TEMPLATE
        assert set(again.all_special_ids) == set(range(6))
        assert again("Ann <|eos|>")["input_ids"][-1] == 2


def test_few_merges_give_a_smaller_vocabulary() -> None:
    assert len(train_tokenizer(["ab"], 1000)) == SMALLEST_VOCABULARY


def test_what_cannot_be_trained_is_one_line() -> None:
    with pytest.raises(BadInput, match="vocab_size=200 is too small"):
        train_tokenizer(["text"], 200)
    with pytest.raises(BadInput, match="no text"):
        train_tokenizer(["", ""], 300)


def test_unreadable_tokenizers_are_one_line(trained: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {}}))
    with pytest.raises(BadInput, match="no usable tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
