"""Loops in C beside the plain operators, and what happens where they cannot be made."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import rms_norm, silu

from heedlm.ops import kernels
from heedlm.ops.kernels import COLUMNS, Loops, Pieces, loops

CLOSE = {torch.float32: 2e-5, torch.float64: 1e-12}
DTYPES = sorted(CLOSE, key=str)


def made(dtype: torch.dtype = torch.float64) -> Loops:
    found = loops(dtype)
    if found is None:
        pytest.skip("no C compiler that makes the loops")
    return found


def numbers(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---------------------------------------------------------------- what they compute


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(1, 5),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    dim=st.sampled_from([8, 16, 24, 32, 64]),
    width=st.sampled_from([COLUMNS, 2 * COLUMNS, 3 * COLUMNS]),
    data=st.data(),
)
def test_one_more_token(
    dtype: torch.dtype, rows: int, kv_heads: int, group: int, dim: int, width: int, data: st.DataObject
) -> None:
    column = data.draw(st.integers(0, 3 * width - 1))
    first = torch.tensor([data.draw(st.integers(0, column)) for _ in range(rows)])
    turning = data.draw(st.booleans())
    heads = numbers(rows, kv_heads * (group + 2), dim, dtype=dtype)
    q, k, v = heads.split_with_sizes([kv_heads * group, kv_heads, kv_heads], dim=1)
    angle = numbers(rows, 1, dim // 2, dtype=dtype, seed=1)
    turns = torch.polar(torch.ones_like(angle), angle)
    blocks = [
        (
            numbers(rows * kv_heads, dim, width, dtype=dtype, seed=2 + b),
            numbers(rows * kv_heads, width, dim, dtype=dtype, seed=9 + b),
        )
        for b in range(3)
    ]
    blocks[-1][1][:, -1] = 1e30  # what nobody sees must not matter, but when it is written over
    before = [[part.clone() for part in block] for block in blocks]
    turn = torch.view_as_real(turns).flatten(-2) if turning else None
    found = made(dtype).attend(q, k, v, turn, blocks, first, column, 0.3)

    def turned(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:2], -1, 2)) * turns
        return torch.view_as_real(pairs).flatten(-2) if turning else x

    for (keys, values), (old_keys, old_values), number in zip(blocks, before, range(3), strict=True):
        if number == column // width:
            old_keys.view(rows, kv_heads, dim, width)[..., column % width] = turned(k)
            old_values.view(rows, kv_heads, width, dim)[:, :, column % width] = v
        torch.testing.assert_close(keys, old_keys, rtol=CLOSE[dtype], atol=CLOSE[dtype])
        assert torch.equal(values, old_values)
    keys = torch.cat([part for part, _ in before], dim=2).view(rows, kv_heads, 1, dim, -1)
    values = torch.cat([part for _, part in before], dim=1).view(rows, kv_heads, 1, -1, dim)
    scores = (turned(q).view(rows, kv_heads, group, 1, dim) @ keys).squeeze(3) * 0.3
    places = torch.arange(3 * width)
    hidden = (places < first[:, None]) | (places > column)
    shares = scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(-1)
    wanted = (shares[..., None, :] @ values.where(~hidden[:, None, None, :, None], 0.0)).view(rows, -1, dim)
    torch.testing.assert_close(found, wanted, rtol=20 * CLOSE[dtype], atol=20 * CLOSE[dtype])


@settings(deadline=None, max_examples=40)
@given(dtype=st.sampled_from(DTYPES), rows=st.integers(1, 5), dim=st.integers(1, 70), size=st.sampled_from([1, 1e4]))
def test_what_lies_between_the_products(dtype: torch.dtype, rows: int, dim: int, size: float) -> None:
    found, x, weight = made(dtype), numbers(rows, dim, dtype=dtype) * size, numbers(dim, dtype=dtype, seed=1)
    close = {"rtol": CLOSE[dtype], "atol": CLOSE[dtype]}
    torch.testing.assert_close(found.rms_norm(x, weight, 1e-5)[0], rms_norm(x, (dim,), weight, 1e-5), **close)
    both = numbers(rows, 2 * dim, dtype=dtype, seed=2) * size
    gates, ups = both.chunk(2, dim=1)
    torch.testing.assert_close(found.gate(both), silu(gates) * ups, **close)
    torch.testing.assert_close(found.gate(both.t().contiguous().t()), silu(gates) * ups, **close)


@settings(deadline=None, max_examples=40)
@given(dtype=st.sampled_from(DTYPES), rows=st.integers(1, 140), dim=st.integers(1, 70), half=st.booleans())
def test_the_gradient_of_a_norm(dtype: torch.dtype, rows: int, dim: int, half: bool) -> None:
    narrow = torch.bfloat16 if half and dtype == torch.float32 else dtype
    x, weight = numbers(rows, dim, dtype=dtype), numbers(dim, dtype=dtype, seed=1)
    grad = numbers(rows, dim, dtype=dtype, seed=2).to(narrow)
    out, inverses = made(dtype).rms_norm(x, weight, 1e-5, narrow)
    found = made(dtype).rms_norm_backward(grad, x, weight, inverses)
    exact = [part.double().requires_grad_() for part in (x, weight)]
    plain = rms_norm(exact[0], (dim,), exact[1], 1e-5)
    wanted = torch.autograd.grad((plain * grad.double()).sum(), exact)
    # Rounded as torch does it, but where the number lies between two of bfloat16's.
    close = 0.008 if narrow == torch.bfloat16 else CLOSE[dtype]
    assert out.dtype == narrow
    torch.testing.assert_close(out.double(), plain, rtol=close, atol=CLOSE[dtype])
    for mine, theirs in zip(found, wanted, strict=True):
        size = float(theirs.abs().max())
        torch.testing.assert_close(mine.double(), theirs, rtol=20 * CLOSE[dtype], atol=20 * CLOSE[dtype] * (1 + size))


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(1, 4),
    size=st.integers(1, 70),
    temperature=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    keep=st.booleans(),
    excluded=st.booleans(),
)
def test_shares(dtype: torch.dtype, rows: int, size: int, temperature: float, keep: bool, excluded: bool) -> None:
    logits = 3 * numbers(rows, size, dtype=dtype)
    if excluded:
        logits[:, 1:-1:2] = -torch.inf
    targets = torch.arange(rows) % max(1, size // 2) * 2 % size
    logs = (logits / temperature).log_softmax(-1)
    given = logits.clone()
    logps, entropies = made(dtype).share(given, targets, temperature, keep=keep)
    close = {"rtol": CLOSE[dtype], "atol": CLOSE[dtype] / 0.1}
    torch.testing.assert_close(logps, logs.gather(1, targets[:, None])[:, 0], **close)
    torch.testing.assert_close(entropies, torch.special.entr(logs.exp()).sum(-1), **close)
    torch.testing.assert_close(given, logs.exp() if keep else logits, **close)
    if keep and excluded:
        assert not given[logits == -torch.inf].any()


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    size=st.integers(1, 300),
    temperature=st.sampled_from([0.1, 1.0, 3.0]),
    excluded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_number_falls_on_a_token(
    dtype: torch.dtype, size: int, temperature: float, excluded: bool, seed: int
) -> None:
    logits = 2 * numbers(9, size, dtype=dtype, seed=seed)
    if excluded:
        logits[:, size // 2 :: 2] = -torch.inf
        logits[:, 0] = 0.0
    uniform = torch.rand(9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    uniform[0], uniform[1] = 0.0, 1 - 2.0**-53
    tokens, logps = made(dtype).draw(logits, uniform, temperature)
    shares = (logits.double() / temperature).softmax(-1)
    ends = shares.cumsum(-1).gather(1, tokens[:, None])[:, 0]
    own = shares.gather(1, tokens[:, None])[:, 0]
    close = 1e-5 if dtype == torch.float32 else 1e-12
    assert (own > 0).all()
    assert (uniform <= ends + close).all()
    assert (uniform >= ends - own - close).all()
    torch.testing.assert_close(logps.double(), own.log(), rtol=10 * close, atol=10 * close)


def test_drawn_tokens_come_as_often_as_they_should() -> None:
    logits = numbers(1, 37, dtype=torch.float32).expand(40_000, -1).contiguous()
    uniform = torch.rand(40_000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    tokens, _ = made(torch.float32).draw(logits, uniform, 1.0)
    wanted = 40_000 * logits[0].double().softmax(-1)
    chi = ((torch.bincount(tokens, minlength=37) - wanted) ** 2 / wanted).sum()
    assert float(chi) < 70  # 36 degrees of freedom: once in two thousand seeds


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_not_a_number_stays_so(dtype: torch.dtype, broken: float) -> None:
    found = made(dtype)
    x = numbers(2, 40, dtype=dtype)
    x[1, 3] = broken
    assert found.rms_norm(x, torch.ones(40, dtype=dtype), 1e-5)[0].isnan().any(1).tolist() == [False, True]
    x[1, 3] = torch.nan
    assert found.gate(x).isnan().any(1).tolist() == [False, True]
    logps, entropies = found.share(x, torch.zeros(2, dtype=torch.long), 1.0, keep=True)
    for parts in (logps, entropies, x.sum(1)):
        assert parts.isfinite().tolist() == [True, False]
    x[:, 3] = torch.tensor([0.0, broken], dtype=dtype)
    tokens, logps = found.draw(x[:, :5].contiguous(), torch.tensor([0.5, 0.5], dtype=torch.float64), 1.0)
    assert logps.isnan().tolist() == [not bool(x[0].isfinite().all()), True]
    assert ((tokens >= 0) & (tokens < 5)).all()
    q = numbers(6, 2, 8, dtype=dtype)
    bad = q.clone()
    bad[2, 1, 5] = broken
    pieces = Pieces(torch.tensor([[0, 0, 0, 4], [4, 0, 4, 2]]), torch.tensor([0, 1, 2]))
    for parts, wanted in (((bad, q, q), [2]), ((q, bad, q), [2, 3])):
        out, _ = found.attend_packed(*parts, pieces, None, 1.0)
        rows = (~out[:, 1].isfinite()).any(1)
        assert set(rows.nonzero().flatten().tolist()) <= set(wanted)
        assert out[:, 0].isfinite().all()
        assert bool(rows[2])
    blocks = [(numbers(4, 8, 32, dtype=dtype), numbers(4, 32, 8, dtype=dtype))]
    out = found.attend(bad[1:3], q[1:3], q[1:3], None, blocks, torch.tensor([0, 0]), 4, 1.0)
    assert (~out.isfinite()).any(2).tolist() == [[False, False], [False, True]]


def test_threads_change_no_digit() -> None:
    found, before = made(torch.float32), torch.get_num_threads()
    q, k, v, grad = (numbers(200, heads, 16, dtype=torch.float32, seed=heads) for heads in (4, 2, 2, 4))
    pieces = Pieces(
        torch.tensor([[0, 0, 0, 70], [0, 70, 70, 30], [0, 70, 100, 20], [120, 0, 120, 80]]), torch.tensor([0, 3, 4])
    )
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out, logsum = found.attend_packed(q, k, v, pieces, None, 0.25)
            parts = found.attend_packed_backward(q, k, v, out, logsum, grad, pieces, None, 0.25)
            results.append(torch.cat([out, *parts], dim=1))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_tokens_of_no_piece_get_zeros() -> None:
    q = numbers(5, 1, 8)
    pieces = Pieces(torch.tensor([[0, 0, 0, 3]]), torch.tensor([0, 1]))
    out, logsum = made().attend_packed(q, q, q, pieces, None, 1.0)
    parts = made().attend_packed_backward(q, q, q, out, logsum, torch.ones_like(q), pieces, None, 1.0)
    for x in (out, *parts):
        assert x[:3].abs().sum() > 0
        assert not x[3:].any()


# ---------------------------------------------------------------- where they cannot be made


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No library made yet, in a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loops.cache_clear()
    yield tmp_path / "heed"
    loops.cache_clear()


def test_a_library_is_made_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    (library,) = fresh.iterdir()
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    ran = []
    monkeypatch.setattr(kernels, "_run", lambda *command, cwd: ran.append(command))
    loops.cache_clear()
    assert loops(torch.float64) is not None
    assert (ran, list(fresh.iterdir())) == ([], [library])


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", ["HEED_KERNELS", "CC", "PATH"])
def test_none_without_a_compiler(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, {"HEED_KERNELS": "0", "CC": "false", "PATH": str(tmp_path)}[name])
    assert loops(torch.float32) is None
    assert not list(tmp_path.glob("heed/*"))


def test_none_where_there_is_no_home(monkeypatch: pytest.MonkeyPatch, fresh: Path) -> None:
    def homeless() -> Path:
        raise RuntimeError("could not determine home directory")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert loops(torch.float32) is None
    assert not fresh.exists()


def test_none_of_the_kinds_that_are_not_known(fresh: Path) -> None:
    assert loops(torch.bfloat16) is None
    assert not fresh.exists()


def test_none_that_computes_something_else(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    loops.cache_clear()
    right = Loops.attend
    monkeypatch.setattr(Loops, "attend", lambda *args: right(*args) + 0.01)
    assert loops(torch.float64) is None


@pytest.mark.skipif(os.name != "posix", reason="no permissions of this kind here")
def test_no_library_from_a_folder_that_others_may_write_to(fresh: Path) -> None:
    fresh.mkdir()
    fresh.chmod(0o777)
    assert loops(torch.float32) is None
    assert not list(fresh.iterdir())
