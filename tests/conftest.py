"""What all tests share: one thread, no network, shapes checked at every call, and the shared data folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook
from tests import postgresql as postgresql_server
from torch import Tensor

# Two test processes share the machine's cores. The environment is for processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# Figures are compared to more digits than a GPU and a CPU agree on; CUDA_VISIBLE_DEVICES=0 lets tests see one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Annotations such as Float[Tensor, "B T"] become run-time checks in these packages (see heedlm.ops.shapes).
# Nothing of them has been imported yet, which the hook needs. The tower: an int will do for a float.
install_import_hook(
    ["heedlm.ops", "heedlm.objectives", "heedlm.models"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

# A loaded machine is slow now and then; that is no fault of the code. The same examples on every run.
settings.register_profile("heed", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("heed")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data sets and a real model: HEED_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("HEED_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set HEED_SHARED to the folder that holds data/ and models/")
    return folder


@pytest.fixture(scope="session")
def f64() -> Callable[..., Tensor]:
    """`f64(1, 2)` is a float64 tensor of two numbers, `f64([1, 2])` one row of two."""

    def make(*values: object) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return make


@pytest.fixture(scope="session")
def near() -> Callable[..., None]:
    """Assert that two tensors, lists or numbers agree to 1e-6 (absolute and relative), or to `tol`."""

    def check(actual: object, expected: object, tol: float = 1e-6) -> None:
        torch.testing.assert_close(
            torch.as_tensor(actual, dtype=torch.float64).detach(),
            torch.as_tensor(expected, dtype=torch.float64).detach(),
            atol=tol,
            rtol=tol,
        )

    return check


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of this session's own."""
    if postgresql_server.programs() is None:
        pytest.skip(postgresql_server.MISSING)
    with postgresql_server.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's feedback database is to lie: each test that asks runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.db")
    return postgresql_server.new_database(request.getfixturevalue("postgresql"))
