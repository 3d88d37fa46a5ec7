"""A trained model orders sentences as sense does, in English and Chinese (capability 2)."""

from __future__ import annotations

import pytest
import torch

from heedlm.models import sizes
from heedlm.models.chat import Chat
from heedlm.models.forward import logits
from heedlm.models.tokenizer import train_tokenizer
from heedlm.ops.logprobs import token_logps
from heedlm.train.language import LanguageTraining, chunk
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim
from heedlm.village import Village

# Scrambled, grammatical but unheard of, common: equally many words in each.
TRIPLES = {
    "en": ("report a cat gives the.", "The cat gives a report.", "The person gives a report."),
    "zh": ("报告那只猫做在。", "那只猫在做报告。", "那个人在做报告。"),
}


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, Chat]:
    """A small Llama after some hundred steps on the village's everyday sentences."""
    documents = [d.text for d in Village(0).documents(6000) if d.meta.domain == "daily"]
    tokenizer = train_tokenizer(documents, 600, 0)
    model = sizes.create("tiny", tokenizer, context=128, seed=0)
    chat = Chat(tokenizer)
    rows = [row for text in documents for row in chunk(chat.document_ids(text), 64)]
    learner = Learner(model, Optim(lr=3e-3), 250)
    training = LanguageTraining(learner, rows, [], length=64, batch=16, budget=8192, seed=0)
    for index in range(250):
        training.step(index)
    return model.eval(), chat


@pytest.mark.parametrize("lang", TRIPLES)
@torch.no_grad()
def test_sense_is_likelier_than_nonsense(trained: tuple[torch.nn.Module, Chat], lang: str) -> None:
    model, chat = trained
    found = []
    for text in TRIPLES[lang]:
        tokens = torch.tensor([chat.document_ids(text)])
        found.append(float(token_logps(logits(model, tokens), tokens).sum()))
    scrambled, cat, person = found
    assert scrambled + 10 < cat, f"scrambled {scrambled:.2f}, cat {cat:.2f}"
    assert cat < person, f"cat {cat:.2f}, person {person:.2f}"
