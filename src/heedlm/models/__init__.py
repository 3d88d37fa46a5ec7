"""Models: loading and saving, forward passes, reward heads, tokenizers, chat templates, named sizes."""

from heedlm.models.chat import Chat
from heedlm.models.forward import (
    calibrate,
    calibration,
    context_limit,
    logits,
    reward_scores,
    token_scores,
)
from heedlm.models.load import (
    CausalModel,
    ScalarModel,
    check_fits,
    check_same_vocabulary,
    load_model,
    load_reward,
    load_with_tokenizer,
    parameters,
    save_model,
    weights_hash,
)
from heedlm.models.scalar import new_critic, new_reward
from heedlm.models.sizes import SIZES, create
from heedlm.models.tokenizer import load_tokenizer, train_tokenizer

__all__ = [
    "SIZES",
    "CausalModel",
    "Chat",
    "ScalarModel",
    "calibrate",
    "calibration",
    "check_fits",
    "check_same_vocabulary",
    "context_limit",
    "create",
    "load_model",
    "load_reward",
    "load_tokenizer",
    "load_with_tokenizer",
    "logits",
    "new_critic",
    "new_reward",
    "parameters",
    "reward_scores",
    "save_model",
    "token_scores",
    "train_tokenizer",
    "weights_hash",
]
