from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from heedlm.errors import BadInput
from heedlm.models import (
    check_fits,
    check_same_vocabulary,
    create,
    load_model,
    load_reward,
    load_tokenizer,
    load_with_tokenizer,
    logits,
    new_reward,
    parameters,
    save_model,
    train_tokenizer,
    weights_hash,
)

Tiny = Callable[[str], PreTrainedModel]


@pytest.fixture
def folder(tmp_path: Path, trained: PreTrainedTokenizerFast) -> Path:
    save_model(create("tiny", trained, context=64), trained, tmp_path / "model", card="# A model")
    return tmp_path / "model"


def test_save_and_load_give_the_same_model(folder: Path, trained: PreTrainedTokenizerFast) -> None:
    model, tokenizer = load_with_tokenizer(folder)
    assert weights_hash(model) == weights_hash(create("tiny", trained, context=64))
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    assert tokenizer.get_vocab() == trained.get_vocab()
    assert tokenizer.chat_template == trained.chat_template
    assert (folder / "README.md").read_text() == "# A model"
    assert sorted(p.name for p in folder.glob("*.bin")) == []


def test_tied_embeddings_are_saved_once_and_stay_tied(folder: Path) -> None:
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load_model(folder)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert parameters(model) == sum(v.numel() for v in load_file(folder / "model.safetensors").values())


@pytest.mark.parametrize(("name", "dtype"), [("float64", torch.float64), ("bfloat16", torch.bfloat16)])
def test_dtype_is_as_asked(folder: Path, name: str, dtype: torch.dtype) -> None:
    assert {p.dtype for p in load_model(folder, dtype=name).parameters()} == {dtype}


def test_dropout_is_off_unless_asked_for(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16)).save_pretrained(tmp_path)
    tokens = torch.arange(10)[None]
    model = load_model(tmp_path)
    with torch.no_grad():
        still = logits(model, tokens)
        model.train()
        assert torch.equal(logits(model, tokens), still)
        kept = load_model(tmp_path, dropout=None).train()
        assert not torch.equal(logits(kept, tokens), still)
        chosen = load_model(tmp_path, dropout=0.3)
    assert chosen.config.attn_pdrop == chosen.config.resid_pdrop == chosen.config.embd_pdrop == 0.3


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pickled weights only \(pytorch_model.bin\).*convert"):
        load_model(folder)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), r"no \*.safetensors"),
        (lambda f: (f / "config.json").write_text("{oops"), "config.json cannot be used"),
        (lambda f: (f / "config.json").write_text('{"model_type": "nonesuch"}'), "config.json cannot be used"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x00" * 100), "safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-999]), "safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "safetensors"),
    ],
)
def test_damaged_folders_are_one_line(folder: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(folder)
    with pytest.raises(BadInput, match=says) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_missing_and_misshapen_weights_are_never_random(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({k: v for k, v in weights.items() if k != name}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=f"lacks {name}"):
        load_model(folder)
    save_file({**weights, name: weights[name][:-1].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=name):
        load_model(folder)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    for load in (load_model, load_reward, load_tokenizer):
        with pytest.raises(BadInput, match="no such model folder"):
            load(tmp_path / "nowhere")


def test_a_hub_name_is_not_fetched_offline() -> None:
    with pytest.raises(BadInput, match="org/absent-model"):
        load_model("org/absent-model")
    with pytest.raises(BadInput, match="org/absent-model"):
        load_tokenizer("org/absent-model")


def test_model_code_is_never_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(BadInput):
        load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_reward_models_and_language_models_are_told_apart(
    folder: Path, tmp_path: Path, trained: PreTrainedTokenizerFast
) -> None:
    save_model(new_reward(folder), trained, tmp_path / "reward")
    with pytest.raises(BadInput, match="is a reward model"):
        load_model(tmp_path / "reward")
    with pytest.raises(BadInput, match="heed reward"):
        load_reward(folder)


def test_a_tokenizer_larger_than_the_model_is_refused(tiny: Tiny, trained: PreTrainedTokenizerFast) -> None:
    with pytest.raises(BadInput, match=f"{len(trained)} tokens, the model embeds 50"):
        check_fits(tiny("llama"), trained)


def test_a_tokenizer_without_eos_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(BadInput, match="no EOS token"):
        load_tokenizer(folder)


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(BadInput, match="tokenizer"):
        load_tokenizer(folder)


def test_different_vocabularies_are_refused(trained: PreTrainedTokenizerFast) -> None:
    check_same_vocabulary(trained, copy.deepcopy(trained))
    other = train_tokenizer(["zzz yyy zzz yyy www"] * 9, 320)
    with pytest.raises(BadInput, match="different vocabularies, first at id 2"):
        check_same_vocabulary(trained, other)


def test_an_unknown_dtype_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="dtype='int8' is unknown"):
        load_model(folder, dtype="int8")


def test_hashes_tell_weights_apart(tiny: Tiny) -> None:
    one, other = tiny("llama"), tiny("llama")
    assert weights_hash(one) == weights_hash(other)
    with torch.no_grad():
        other.model.norm.weight[0] += 1e-12
    assert weights_hash(one) != weights_hash(other)
    assert weights_hash(one) == weights_hash(tiny("llama"))
    assert weights_hash(tiny("llama").bfloat16()) != weights_hash(one)


def test_loading_and_saving_print_nothing(folder: Path) -> None:
    code = (
        "import sys; from heedlm.models import *\n"
        "model, tokenizer = load_with_tokenizer(sys.argv[1])\n"
        "reward = new_reward(model); save_model(reward, tokenizer, sys.argv[1] + '-r'); load_reward(sys.argv[1] + '-r')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_stories260k_loads_as_it_is(shared: Path) -> None:
    model, tokenizer = load_with_tokenizer(shared / "models" / "stories260K")
    assert tokenizer.pad_token_id is None
    assert parameters(model) == 260_032
    assert parameters(new_reward(model)) == 260_032 + 64
