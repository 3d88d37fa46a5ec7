"""Event files for TensorBoard: byte for byte as its own writer makes them, and one curve whatever was gone back on."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from heedlm.config import StageConfig, config_hash
from heedlm.monitor.files import read_log
from heedlm.monitor.tfevents import scalars
from heedlm.runs import Run, checkpoints
from heedlm.runs import tensorboard as module
from heedlm.runs.tensorboard import Events, masked_crc, record

# Written by tensorboard 2.21.0 (RecordWriter, protobuf 7.36.2): version, session start at step 300, two scalars.
THEIRS = bytes.fromhex(
    "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
    "100000000000000095fbfe1809000000000000f83f10ac023a020801713b788a"
    "2d000000000000003c418afb09000000000000f83f10ac022a1f0a120a0b7265776172642f6d65616e150000803e"
    "0a090a02ceb2150000807ff3477bb5"
)


def starts(path: Path) -> list[int]:
    """Steps at which a file marks the start of a session; the frames are checked on the way."""
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        (size,) = struct.unpack_from("<Q", data, place)
        message = data[place + 12 : place + 12 + size]
        assert data[place : place + 16 + size] == record(message)
        if message.endswith(b"\x3a\x02\x08\x01"):
            found.append(message[10])
        place += 16 + size
    return found


def start(out: Path, *, tensorboard: bool = True) -> Run:
    return Run.create("ppo", StageConfig(out=out, name="frogs", tensorboard=tensorboard), argv=["heed"])


def test_crc_32c_of_the_standard_vector() -> None:
    plain = 0xE3069283  # RFC 3720, B.4 names the polynomial; of "123456789"
    assert masked_crc(b"123456789") == (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_the_bytes_are_tensorboards_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "time", lambda: 1.5)
    Events(tmp_path).add(300, {"reward/mean": 0.25, "β": math.inf})
    assert (tmp_path / "events.out.tfevents.0000000001").read_bytes() == THEIRS


def test_a_run_is_read_back_as_it_was_logged(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        for step in range(1, 200):
            run.metrics(step, {"reward/mean": step / 8, "kl/token_nats": 0.5}, seconds=float(step))
        run.metrics(200, {"reward/mean": math.nan, "kl/token_nats": 1e300})
    (file,) = (run.path / "tensorboard").iterdir()
    found = [(each.step, each.tag, each.value) for each in scalars(file)]
    assert found[:3] == [(1, "seconds", 1.0), (1, "reward/mean", 0.125), (1, "kl/token_nats", 0.5)]
    assert [value for _, tag, value in found if tag == "reward/mean"][:-1] == [step / 8 for step in range(1, 200)]
    assert math.isnan(found[-2][2])
    assert found[-1][2] == math.inf
    assert starts(file) == [1]
    rows = read_log(run.path / "tensorboard")
    assert [row["step"] for row in rows] == list(range(1, 201))
    assert rows[9]["reward/mean"] == 1.25


def test_off_writes_nothing_and_names_the_run_alike(tmp_path: Path) -> None:
    with start(tmp_path / "a", tensorboard=False) as run:
        run.metrics(1, {"x": 1.0})
    assert not (run.path / "tensorboard").exists()
    with start(tmp_path / "b") as other:
        other.metrics(1, {"x": 1.0})
    assert other.name == run.name
    assert config_hash(StageConfig(tensorboard=True)) == config_hash(StageConfig())


def test_a_resumed_run_begins_a_file_that_voids_what_it_repeats(tmp_path: Path) -> None:
    run = start(tmp_path)
    for step in range(1, 8):
        run.metrics(step, {"x": 1.0})
        if step == 4:
            checkpoints.save(run, step, lambda folder: (folder / "state").write_bytes(b"4"))
    run.finish("interrupted")
    first = run.path / "tensorboard" / "events.out.tfevents.0000000001"
    first.write_bytes(first.read_bytes()[:-5])  # killed while writing
    before = first.read_bytes()
    with Run.resume(run.path) as again:
        for step in range(5, 10):
            again.metrics(step, {"x": 2.0})
    assert first.read_bytes() == before
    second = run.path / "tensorboard" / "events.out.tfevents.0000000002"
    assert starts(second) == [5]
    assert [each.value for each in scalars(second) if each.tag == "x"] == [2.0] * 5
    assert [row["x"] for row in again.read_metrics()] == [1.0] * 4 + [2.0] * 5


def test_a_run_without_the_switch_stays_without_when_resumed(tmp_path: Path) -> None:
    run = start(tmp_path, tensorboard=False)
    run.finish("interrupted")
    with Run.resume(run.path) as again:
        again.metrics(1, {"x": 1.0})
    run.finish("interrupted")
    (run.path / "config.json").unlink()
    with Run.resume(run.path) as again:
        again.metrics(2, {"x": 1.0})
    assert not (run.path / "tensorboard").exists()


def test_a_rollback_voids_what_it_gave_up(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        for step in range(1, 8):
            run.metrics(step, {"x": 1.0})
        run.abandon(3, 1)
        for step in range(4, 6):
            run.metrics(step, {"x": 2.0})
    (file,) = (run.path / "tensorboard").iterdir()
    assert starts(file) == [1, 4]


def test_foreign_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"theirs")
    Events(tmp_path).add(1, {"x": 1.0})
    assert (tmp_path / "events.out.tfevents.1700000000.host.1.0").read_bytes() == b"theirs"
    assert (tmp_path / "events.out.tfevents.0000000001").exists()
