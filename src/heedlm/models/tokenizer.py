"""Tokenizers: train one (byte-level BPE, Chinese and English alike), or load the one a model came with."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from heedlm.errors import BadInput
from heedlm.models.folder import is_hub_name, network, one_line

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (PAD, BOS, EOS, *ROLE_TOKENS.values())
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)

HEED_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, seed: int = 0, max_characters: int = 20_000_000
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with Heed's special tokens (ids 0 to 5) and chat template.

    Every Unicode text survives encoding and decoding unchanged, digits are tokens of their own, and no space
    is added in front. The same texts, size and seed give the same tokenizer.

    Args:
        texts: What to learn merges from; Chinese and English need no preparation.
        vocab_size: Tokens in all, special ones included; fewer come out if the texts hold too few merges.
        seed: Chooses which texts are used where there are more than `max_characters`.
        max_characters: How much text to learn from.

    Raises:
        BadInput: `vocab_size` too small for 256 bytes and the special tokens, or no text at all.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise BadInput(f"vocab_size={vocab_size} is too small: bytes and special tokens take {SMALLEST_VOCABULARY}")
    chosen = _within(texts, max_characters, seed)
    if not chosen:
        raise BadInput("the tokenizer was given no text: give a corpus with at least one non-empty document")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(chosen, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=list(ROLE_TOKENS.values()),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = HEED_TEMPLATE
    return tokenizer


def load_tokenizer(path: str | Path, *, trust: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in a model folder (or of a hub name).

    Raises:
        BadInput: No tokenizer there, unreadable files, or no EOS token.
    """
    if not Path(path).is_dir() and not is_hub_name(path):
        raise BadInput(f"{path}: no such model folder: give a folder with a tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust, **network(path))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BadInput(f"{path}: no usable tokenizer: {one_line(error)}") from error
    if len(tokenizer) == 0:
        raise BadInput(f"{path} holds no tokenizer: copy tokenizer.json and tokenizer_config.json into it")
    if tokenizer.eos_token_id is None:
        raise BadInput(
            f"{path}: the tokenizer has no EOS token, so answers could never end:"
            ' name one as "eos_token" in tokenizer_config.json'
        )
    return tokenizer


def _within(texts: Iterable[str], limit: int, seed: int) -> list[str]:
    """The texts, or a random part of them of about `limit` characters."""
    kept = [text for text in texts if text]
    if sum(map(len, kept)) > limit:
        random.Random(seed).shuffle(kept)
        total, count = 0, 0
        while count < len(kept) and total < limit:
            total += len(kept[count])
            count += 1
        kept = kept[:count]
    return kept
