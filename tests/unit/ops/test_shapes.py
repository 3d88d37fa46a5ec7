"""Shapes are checked in tests, and cost nothing without jaxtyping."""

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from heedlm.ops.logprobs import token_logps


def test_a_wrong_shape_or_kind_is_caught_in_tests():
    with pytest.raises(TypeCheckError):
        token_logps(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(TypeCheckError):
        token_logps(torch.zeros(2, 3, 4), torch.zeros(2, 3))


def test_heed_runs_without_jaxtyping():
    program = (
        "import sys; sys.modules['beartype'] = None\n"
        "import torch, typing\n"
        "from heedlm.ops import logprobs, shapes\n"
        "import heedlm.objectives\n"
        "assert 'jaxtyping' not in sys.modules\n"
        "logprobs.token_logps(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long))\n"
        "hints = typing.get_type_hints(logprobs.token_logps)\n"
        "assert hints['logits'] is torch.Tensor, hints\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
