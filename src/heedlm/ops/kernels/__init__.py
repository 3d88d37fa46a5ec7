"""Attention in C for processors, where plain operators spend more time on starting and on memory than on numbers.

The C compiler at hand makes a library of it at first use, in some seconds, which is kept in the user's cache folder.
Where there is no compiler, or what it made computes something else, `loops` is None and callers go the plain way.
`HEED_KERNELS=0` in the environment switches them off.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from heedlm.ops.shapes import Float, Int

_log = logging.getLogger(__name__)
_SOURCES = ("decode.c", "norm.c", "packed.c", "shares.c")
_REALS = {torch.float32: ("-DREAL=float", "-DSINGLE"), torch.float64: ("-DREAL=double",)}
# Of OpenMP only the calls are compiled in: they are torch's own threads, whose library is loaded already.
_ATTEMPTS = (("-O3", "-march=native", "-fopenmp"), ("-O3", "-fopenmp"), ("-O3", "-march=native"), ("-O3",))
_PATIENCE = 60  # seconds for a compiler
COLUMNS = 16  # what the width of a cache block must be a multiple of
_WIDTH = 8  # and of a head
_ROWS = 64  # rows whose part of a weight's gradient is summed together (`norm.c`)

Block = tuple[Tensor, Tensor]


class _Heads(ctypes.Structure):
    """A tensor (N, H, D) as `packed.c` takes it."""

    _fields_ = (("data", ctypes.c_void_p), ("token", ctypes.c_long), ("head", ctypes.c_long))

    @classmethod
    def of(cls, x: Tensor) -> _Heads:
        return cls(x.data_ptr(), x.stride(0), x.stride(1))


class _Work(ctypes.Structure):
    """What `packed.c` needs to know besides tensors of heads."""

    _fields_ = (
        ("pieces", ctypes.c_void_p),
        ("families", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("count", "heads", "kv_heads", "dim", "half")),
        ("window", ctypes.c_long),
        ("scale", ctypes.c_double),
        ("threads", ctypes.c_int),
    )


@dataclass(frozen=True)
class Pieces:
    """How sequences lie end to end in one row of tokens.

    Attributes:
        spans: (P, 4) of each piece where its prefix begins among all tokens, how many tokens of it the piece
            follows, where its own tokens begin, and how many they are.
        families: (F + 1,) where each family's pieces begin: a root, then the pieces whose prefix it is.
    """

    spans: Int[Tensor, "P 4"]
    families: Int[Tensor, "F"]


class Loops:
    """The functions in C in one precision.

    Args:
        path: The library.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        pointer, number, stride, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_double
        self._attend = library.attend
        self._attend.restype = None
        self._attend.argtypes = [
            *(pointer, stride) * 3,
            *(pointer, pointer, pointer, number, pointer, number),
            *(number, number, number, number, real, pointer, pointer, number),
        ]
        self._rms_norm, self._gate = library.rms_norm, library.gate
        self._rms_norm.restype = self._gate.restype = None
        self._rms_norm.argtypes = [pointer, pointer, real, stride, number, number, pointer, pointer, number]
        self._rms_norm_backward = library.rms_norm_backward
        self._rms_norm_backward.restype = None
        self._rms_norm_backward.argtypes = [pointer, number, *(pointer,) * 3, stride, number, pointer, pointer, number]
        self._gate.argtypes = [pointer, number, number, pointer, number]
        self._share = library.share
        self._share.restype = None
        self._share.argtypes = [pointer, stride, stride, pointer, real, number, pointer, pointer, number]
        self._draw = library.draw
        self._draw.restype = None
        self._draw.argtypes = [pointer, stride, stride, pointer, real, pointer, pointer, number]
        work = ctypes.POINTER(_Work)
        self._forward, self._backward = library.packed_forward, library.packed_backward
        self._forward.argtypes = [work, *(_Heads,) * 4, pointer, stride]
        self._backward.argtypes = [work, *(_Heads,) * 5, pointer, stride, *(_Heads,) * 3]

    def attend(
        self,
        q: Float[Tensor, "B H D"],
        k: Float[Tensor, "B K D"],
        v: Float[Tensor, "B K D"],
        turns: Float[Tensor, "B 1 D"] | None,
        blocks: Sequence[Block],
        first: Int[Tensor, "B"],
        column: int,
        scale: float,
    ) -> Float[Tensor, "B H D"]:
        """Attention of one new token of each row to itself and to what its cache holds; K heads of keys serve H.

        Args:
            q: Queries; heads side by side in memory.
            k: The new token's keys.
            v: Its values.
            turns: Cosine and sine, side by side, for each rotary pair of queries and keys; None: they stay.
            blocks: The cache, keys (B · K, D, columns) and values (B · K, columns, D) of each block of columns. The new
                token's are written to it.
            first: The first column that each row sees.
            column: The one that the new token takes, the last that rows see; both count over all blocks.
            scale: What scores are multiplied by.
        """
        rows, heads, dim = q.shape
        width = blocks[0][0].shape[2]
        used = blocks[: column // width + 1]
        out = torch.empty((rows, heads, dim), dtype=q.dtype)
        scratch = torch.empty(rows * (len(used) * width + dim), dtype=q.dtype)
        array = ctypes.c_void_p * len(used)
        self._attend(
            *(argument for x in (q, k, v) for argument in (x.data_ptr(), x.stride(0))),
            None if turns is None else turns.data_ptr(),
            array(*(keys.data_ptr() for keys, _ in used)),
            array(*(values.data_ptr() for _, values in used)),
            width,
            first.data_ptr(),
            column,
            rows,
            heads,
            k.shape[1],
            dim,
            scale,
            out.data_ptr(),
            scratch.data_ptr(),
            torch.get_num_threads(),
        )
        return out

    def rms_norm(
        self, x: Float[Tensor, "N E"], weight: Float[Tensor, "E"], eps: float, dtype: torch.dtype | None = None
    ) -> tuple[Float[Tensor, "N E"], Float[Tensor, "N"]]:
        """Rows divided by the root of their mean square, times the weight (Zhang & Sennrich 2019).

        Returns:
            The rows, in `dtype` (this precision or bfloat16), and what each was multiplied by; the gradient needs it.
        """
        x, out = x.contiguous(), torch.empty(x.shape, dtype=dtype or x.dtype)
        inverses = torch.empty(len(x), dtype=x.dtype)
        self._rms_norm(
            x.data_ptr(),
            weight.data_ptr(),
            eps,
            len(x),
            x.shape[1],
            out.dtype == torch.bfloat16,
            out.data_ptr(),
            inverses.data_ptr(),
            torch.get_num_threads(),
        )
        return out, inverses

    def rms_norm_backward(
        self,
        grad: Float[Tensor, "N E"],
        x: Float[Tensor, "N E"],
        weight: Float[Tensor, "E"],
        inverses: Float[Tensor, "N"],
    ) -> tuple[Float[Tensor, "N E"], Float[Tensor, "E"]]:
        """Gradients of rows and weight from that of what `rms_norm` gave, in this precision or in bfloat16."""
        grad, x = grad.contiguous(), x.contiguous()
        of_x, parts = torch.empty_like(x), x.new_empty((-(-len(x) // _ROWS), x.shape[1]))
        self._rms_norm_backward(
            grad.data_ptr(),
            grad.dtype == torch.bfloat16,
            x.data_ptr(),
            weight.data_ptr(),
            inverses.data_ptr(),
            len(x),
            x.shape[1],
            of_x.data_ptr(),
            parts.data_ptr(),
            torch.get_num_threads(),
        )
        return of_x, parts.sum(0)

    def gate(self, x: Float[Tensor, "N F2"]) -> Float[Tensor, "N F"]:
        """The second half of each row, each number times the SiLU of that of the first half (Shazeer 2020)."""
        x, dim = x.contiguous(), x.shape[1] // 2
        out = torch.empty((len(x), dim), dtype=x.dtype)
        self._gate(x.data_ptr(), len(x), dim, out.data_ptr(), torch.get_num_threads())
        return out

    def share(
        self, logits: Float[Tensor, "M V"], targets: Int[Tensor, "M"], temperature: float, keep: bool
    ) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
        """Log-probability (nats) of a target under each row of logits, and the row's entropy (nats).

        Args:
            logits: Side by side in memory. With `keep` they become probabilities.
            targets: Token ids.
            temperature: What logits are divided by.
            keep: Whether to leave probabilities behind.
        """
        rows, size = logits.shape
        logps, targets = torch.empty(rows, dtype=logits.dtype), targets.contiguous()
        entropies = torch.empty_like(logps)
        self._share(
            logits.data_ptr(),
            rows,
            size,
            targets.data_ptr(),
            1 / temperature,
            keep,
            logps.data_ptr(),
            entropies.data_ptr(),
            torch.get_num_threads(),
        )
        return logps, entropies

    def draw(
        self, logits: Float[Tensor, "B V"], uniform: Float[Tensor, "B"], temperature: float
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """The token of each row on whose stretch of the whole its number falls, and its log-probability (nats).

        Where a row's logits are broken, its log-probability is NaN and its token, though in range, means nothing.

        Args:
            logits: Side by side in memory.
            uniform: Numbers in [0, 1), in float64.
            temperature: What logits are divided by.
        """
        rows, size = logits.shape
        tokens, logps = torch.empty(rows, dtype=torch.long), torch.empty(rows, dtype=logits.dtype)
        uniform = uniform.contiguous()
        self._draw(
            logits.data_ptr(),
            rows,
            size,
            uniform.data_ptr(),
            1 / temperature,
            tokens.data_ptr(),
            logps.data_ptr(),
            torch.get_num_threads(),
        )
        return tokens, logps

    def attend_packed(
        self,
        q: Float[Tensor, "N H D"],
        k: Float[Tensor, "N K D"],
        v: Float[Tensor, "N K D"],
        pieces: Pieces,
        window: int | None,
        scale: float,
    ) -> tuple[Float[Tensor, "N H D"], Float[Tensor, "H N"]]:
        """Causal attention of each piece to its prefix and itself; K heads of keys serve H.

        Args:
            q: Queries, in this precision or in bfloat16, which is read as float32.
            k: Keys.
            v: Values.
            pieces: How sequences lie among the tokens. Those that belong to none get zeros.
            window: How many tokens, itself included, each looks back at; None: all.
            scale: What scores are multiplied by.

        Returns:
            The mixed values, in the precision of q, and the logarithm of the sum of each query's exponentiated scores,
            which the gradient needs.
        """
        q, k, v = (_plain(x) for x in (q, k, v))
        out = _empty(q, pieces)
        logsum = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32 if q.dtype == torch.bfloat16 else q.dtype)
        heads = (_Heads.of(x) for x in (q, k, v, out))
        _check(self._forward(_work(q, k, pieces, window, scale), *heads, logsum.data_ptr(), len(q)))
        return out, logsum

    def attend_packed_backward(
        self,
        q: Float[Tensor, "N H D"],
        k: Float[Tensor, "N K D"],
        v: Float[Tensor, "N K D"],
        out: Float[Tensor, "N H D"],
        logsum: Float[Tensor, "H N"],
        grad: Float[Tensor, "N H D"],
        pieces: Pieces,
        window: int | None,
        scale: float,
    ) -> tuple[Float[Tensor, "N H D"], Float[Tensor, "N K D"], Float[Tensor, "N K D"]]:
        """Gradients of queries, keys and values from that of what `attend_packed` gave (Dao et al. 2022, alg. 4)."""
        q, k, v, grad = (_plain(x) for x in (q, k, v, grad.to(q.dtype)))
        of_q, of_k, of_v = (_empty(x, pieces) for x in (q, k, v))
        given, wanted = (_Heads.of(x) for x in (q, k, v, out, grad)), (_Heads.of(x) for x in (of_q, of_k, of_v))
        work = _work(q, k, pieces, window, scale)
        _check(self._backward(work, *given, logsum.data_ptr(), len(q), *wanted))
        return of_q, of_k, of_v


def _plain(x: Tensor) -> Tensor:
    """The same with the numbers of a head side by side."""
    return x if x.stride(2) == 1 else x.contiguous()


def _empty(like: Tensor, pieces: Pieces) -> Tensor:
    """Room for a result; zeros where no piece will write."""
    out = like.new_empty(like.shape)
    out[int(pieces.spans[:, 3].sum()) :] = 0.0
    return out


def _work(q: Tensor, k: Tensor, pieces: Pieces, window: int | None, scale: float) -> _Work:
    return _Work(
        pieces.spans.data_ptr(),
        pieces.families.data_ptr(),
        len(pieces.families) - 1,
        q.shape[1],
        k.shape[1],
        q.shape[2],
        q.dtype == torch.bfloat16,
        window or 0,
        scale,
        torch.get_num_threads(),
    )


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for attention")


def fits(head_dim: int) -> bool:
    """Whether the loops take heads of this width."""
    return head_dim % _WIDTH == 0


def loops_for(x: Tensor) -> Loops | None:
    """The loops that take this tensor, whose numbers must lie side by side in memory, or None."""
    return loops(x.dtype) if x.device.type == "cpu" and x.is_contiguous() else None


@lru_cache
def loops(dtype: torch.dtype) -> Loops | None:
    """The loops for tensors of this precision on a processor, or None where they cannot be had."""
    if dtype not in _REALS or os.name != "posix" or os.environ.get("HEED_KERNELS") == "0":
        return None
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    for flags in _ATTEMPTS:
        try:
            found = Loops(_made(compiler, (*flags, *_REALS[dtype])))
        except (
            OSError,
            RuntimeError,
            subprocess.SubprocessError,
        ) as error:  # no compiler after all, no home
            _log.debug("kernels with %s: %s", " ".join(flags), error)
            continue
        if _sound(found, dtype):
            return found
        _log.debug("kernels with %s compute something else", " ".join(flags))
    return None


def _made(compiler: str, flags: tuple[str, ...]) -> Path:
    """The library, compiled unless it was before by this compiler for this processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=_PATIENCE, check=True).stdout
    sources = [Path(__file__).parent / name for name in _SOURCES]
    texts = [path.read_bytes() for path in sorted(sources[0].parent.glob("*.[ch]"))]
    parts = (*texts, version, " ".join(flags).encode(), _processor().encode())
    folder = _folder()
    path = folder / f"kernels-{hashlib.sha256(b'/'.join(parts)).hexdigest()[:20]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for source in sources:
                _run(compiler, *flags, "-std=gnu11", "-fPIC", "-c", str(source), cwd=place)
            objects = [source.stem + ".o" for source in sources]
            lazily = ["-Wl,-undefined,dynamic_lookup"] if platform.system() == "Darwin" else []
            _run(compiler, "-shared", *objects, *lazily, "-lm", "-o", "all.so", cwd=place)
            (Path(place) / "all.so").replace(path)
    return path


def _run(*command: str, cwd: str) -> None:
    subprocess.run(command, cwd=cwd, capture_output=True, timeout=_PATIENCE, check=True)


def _folder() -> Path:
    """Where libraries are kept: a folder that nobody else may write to.

    Raises:
        OSError: There is none.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heed"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} must be your own, and no one else may write to it")
    return folder


def _processor() -> str:
    """What this processor can do: a library made for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.machine())


def _sound(found: Loops, dtype: torch.dtype) -> bool:
    """Whether the loops compute what the plain operators do, on a few numbers."""
    B, H, K, D, width, column = 3, 4, 2, 24, COLUMNS, COLUMNS + 4
    source = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source, dtype=dtype)

    q, k, v, first = some(B, H, D), some(B, K, D), some(B, K, D), torch.tensor([0, 3, width + 1])
    blocks = [(some(B * K, D, width), some(B * K, width, D)) for _ in range(2)]
    got = found.attend(q, k, v, None, blocks, first, column, 0.3)
    keys = torch.cat([part for part, _ in blocks], dim=2).view(B, K, 1, D, -1)
    values = torch.cat([part for _, part in blocks], dim=1).view(B, K, 1, -1, D)
    scores = (q.view(B, K, H // K, 1, D) @ keys * 0.3).squeeze(3)
    columns = torch.arange(2 * width)
    hidden = (columns < first[:, None]) | (columns > column)
    shares = scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(-1)
    close = 1e-4 if dtype == torch.float32 else 1e-10
    return bool(torch.allclose((shares[..., None, :] @ values).view(B, H, D), got, rtol=close, atol=close))
