"""The benchmarks are no part of the package: their folder is found from here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))


@pytest.fixture(scope="session")
def kept_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the toy model."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(autouse=True)
def _own_cache(kept_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEED_BENCH_CACHE", str(kept_models))
