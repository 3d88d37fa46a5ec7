"""What the device can do, measured in the same run, and the time that a piece of work must take on it.

A decode step reads every weight of the layers and of the output matrix once, and the keys and values of all earlier
tokens of every row: it takes at least those bytes over the bandwidth, and at least its operations over the rate of a
large matrix product. Training and reading of prompts are bound by operations. Norms, biases, embedding rows,
sampling and the optimiser are left out, so no bound is slower than the truth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.flops import Decoder, training

BYTES = 2  # of a number in bfloat16

# Dense bfloat16 TFLOP/s without sparsity, and GB/s of memory, as the maker's data sheets give them.
DATA_SHEETS = (
    ("H200", 989.4, 4800.0),
    ("H100 NVL", 835.5, 3900.0),
    ("H100 PCIe", 756.0, 2000.0),
    ("H100", 989.4, 3350.0),
    ("A100", 312.0, 2039.0),
)


@dataclass(frozen=True)
class Limits:
    """Bytes and operations a second.

    Attributes:
        bandwidth: Bytes read and written by a large copy, a second.
        flops: Operations of a large bfloat16 product, a second.
        sheet_bandwidth: The data sheet's bandwidth; None for a device that is not known here.
        sheet_flops: The data sheet's rate; None likewise.
    """

    bandwidth: float
    flops: float
    sheet_bandwidth: float | None = None
    sheet_flops: float | None = None

    def seconds(self, moved: float, operations: float) -> float:
        """The least time for moving so many bytes and doing so many operations, both at once."""
        return max(moved / self.bandwidth, operations / self.flops)


def measure(device: torch.device, square: int, copied: int) -> Limits:
    """Time a large copy and a large product on random numbers."""
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(square, square, generator=generator, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    product = _best(lambda: torch.mm(a, b, out=out), device)
    source = torch.randint(0, 255, (copied,), dtype=torch.uint8, generator=generator, device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    sheet_flops, sheet_bandwidth = data_sheet(name)
    return Limits(2 * copied / copy, 2 * square**3 / product, sheet_bandwidth, sheet_flops)


def data_sheet(name: str) -> tuple[float | None, float | None]:
    """Operations and bytes a second by the data sheet of a device with this name."""
    for part, teraflops, gigabytes in DATA_SHEETS:
        if all(word in name for word in part.split()):
            return teraflops * 1e12, gigabytes * 1e9
    return None, None


def _best(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of a run: the median of five groups of ten."""
    for _ in range(3):
        run()
    spent = []
    for _ in range(5):
        wait(device)
        began = time.perf_counter()
        for _ in range(10):
            run()
        wait(device)
        spent.append((time.perf_counter() - began) / 10)
    return statistics.median(spent)


def wait(device: torch.device) -> None:
    """Until the device has done all it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def weight_bytes(shape: Decoder) -> int:
    """What a decode step reads of the weights: the layers' matrices and the output matrix."""
    return BYTES * (shape.weights + shape.width * shape.vocabulary)


def kept_bytes(shape: Decoder) -> int:
    """Keys and values of one token in all layers."""
    return BYTES * 2 * shape.layers * shape.kv_heads * shape.head


def step_bytes(shape: Decoder, batch: int, tokens: int) -> int:
    """What one decode step reads for `batch` rows of `tokens` tokens each, the one it reads included."""
    return weight_bytes(shape) + batch * tokens * kept_bytes(shape)


def decode_seconds(shape: Decoder, batch: int, prompt: int, answer: int, limits: Limits) -> float:
    """The least time for `batch` answers: reading the prompts gives the first token, a step each of the others."""
    reading = limits.seconds(weight_bytes(shape), shape.rows([prompt] * batch, logits=batch))
    steps = (
        limits.seconds(step_bytes(shape, batch, tokens), shape.forward(batch, batch * tokens, batch))
        for tokens in range(prompt + 1, prompt + answer)
    )
    return reading + sum(steps)


def training_flops(shape: Decoder, rows: list[int]) -> int:
    """Operations of a forward and a backward pass over rows whose every token but the first is predicted."""
    return training(shape.rows(rows, logits=sum(rows) - len(rows)))


def ppo_seconds(shape: Decoder, batch: int, prompt: int, answer: int, limits: Limits, *, frozen: bool = False) -> float:
    """The least time for a PPO step: decoding, and reference, reward, critic and both updates at the product's rate.

    Log-probs under the policy come with sampling. Where the weights are `frozen` (adapters learn) their gradients,
    a third of the products of an update, are not computed; the adapters' own products are left out.
    """
    asked, given = [prompt] * batch, [answer] * batch
    after = shape.rl_step(asked, given, critic=True) - shape.decoding(asked, given)
    if frozen:
        tokens, scored = batch * (prompt + answer), batch * answer
        after -= shape.forward(tokens, 0, scored) + shape.forward(tokens, 0, 0)
    return decode_seconds(shape, batch, prompt, answer, limits) + after / limits.flops
