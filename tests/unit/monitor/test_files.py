"""Logs of several trainers read into the same rows, and what is said of files that cannot be."""

import json
import math
import shutil
import struct
from pathlib import Path

import pytest

from heedlm.errors import BadInput
from heedlm.monitor import Thresholds
from heedlm.monitor.columns import Columns
from heedlm.monitor.files import open_log, read_log, run_settings
from heedlm.monitor.tfevents import scalars

# Written by PyTorch's SummaryWriter: three steps of reward and length, one KL as a tensor and one NaN, and a text.
EVENTS = Path(__file__).parent / "data" / "events.out.tfevents.0"
ROWS = [
    {"step": 1, "reward/mean": 0.5, "length/mean": 21.25},
    {"step": 2, "reward/mean": 1.0, "length/mean": 22.25, "kl/token_nats": 0.125},
    {"step": 300, "reward/mean": 150.0, "length/mean": 320.25, "kl/token_nats": math.nan},
]


def same(rows: list[dict], wanted: list[dict]) -> bool:
    return json.dumps(rows, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_run_of_heed(tmp_path):
    lines = ['{"step": 1, "seconds": 0.1, "reward/mean": 0.5, "kl/mean_nats": 8.0, "kl/token_nats": 0.25, "note": "x"}']
    lines += ['{"step": 2, "reward/mean": "nan", "watch/win_rate": 0.5}', '{"step": 3, "reward/m']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = read_log(tmp_path)
    assert same(rows, read_log(tmp_path / "metrics.jsonl"))
    wanted = {"step": 1, "reward/mean": 0.5, "kl/mean_nats": 8.0, "kl/token_nats": 0.25}
    assert same(rows, [wanted, {"step": 2, "reward/mean": math.nan, "watch/win_rate": 0.5}])


def test_what_a_run_of_heed_was_watched_with(tmp_path):
    assert run_settings(tmp_path) == (None, None, None)
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert run_settings(tmp_path) == (None, None, None)
    settings = {"sampling": {"max_new_tokens": 48}, "kl": {"coef": 0.2, "target": 6.0}}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert run_settings(tmp_path) == run_settings(tmp_path / "metrics.jsonl") == (48, 6.0, None)
    settings["monitor"] = Thresholds(kl=0.3).model_dump(mode="json")
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert run_settings(tmp_path).thresholds == Thresholds(kl=0.3)
    for torn in ("{", "[]", '{"monitor": {"kl": -1}}'):
        (tmp_path / "config.json").write_text(torn, encoding="utf-8")
        with pytest.raises(BadInput, match=r"config.json: is damaged"):
            run_settings(tmp_path)


def test_tensorboard(tmp_path):
    assert same(read_log(EVENTS), ROWS)
    shutil.copy(EVENTS, tmp_path)
    assert same(read_log(tmp_path), ROWS)
    assert open_log(EVENTS).columns["reward/mean"] == "train/reward"


def test_a_tensorboard_file_that_is_still_being_written(tmp_path):
    """Cut anywhere in its last record it gives the records before; damage in the middle is an error."""
    data = EVENTS.read_bytes()
    whole = list(scalars(EVENTS))
    (last,) = (place for place in range(len(data)) if record_ends(data, place))
    for end in range(last, len(data) - 4):
        cut = tmp_path / "tfevents.cut"
        cut.write_bytes(data[:end])
        assert list(scalars(cut)) == whole[:-1]
    broken = tmp_path / "tfevents.broken"
    broken.write_bytes(b"no TensorBoard file at all")
    assert list(scalars(broken)) == []
    broken.write_bytes(struct.pack("<QI", 3, 0) + b"\x2a\x09\x0a" + b"\0\0\0\0")
    with pytest.raises(BadInput, match=r"tfevents.broken: is damaged or of another kind \(a field is longer"):
        read_log(broken)


def record_ends(data: bytes, place: int) -> bool:
    """Whether the record that starts here is the file's last."""
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + 16 + struct.unpack_from("<Q", data, starts[-1])[0])
    return place == starts[-2]


def test_folders_with_several_runs_or_none(tmp_path):
    with pytest.raises(BadInput, match="holds no log; give a run folder"):
        read_log(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(EVENTS, tmp_path / name)
    with pytest.raises(BadInput, match=r"holds the logs of several runs; give one of .*a, .*b"):
        read_log(tmp_path)


TRL_PPO = {"objective/scores": 1.0, "objective/kl": 6.0, "policy/entropy_avg": 2.0, "policy/approxkl_avg": 0.01}
TRL_GRPO = {
    "reward": 1.0, "reward_std": 0.5, "completions/mean_length": 30.0, "completions/clipped_ratio": 0.1,
    "kl": 0.2, "entropy": 2.0,
}  # fmt: skip
OPENRLHF = {"train/reward": 1.0, "train/response_length": 30.0, "train/response_clip_ratio": 0.1, "train/kl": 0.2}
VERL = {
    "critic/score/mean": 1.0, "response_length/mean": 30.0, "response_length/clip_ratio": 0.1, "actor/entropy": 2.0,
    "actor/reward_kl_penalty": 0.2, "actor/ppo_kl": 0.01,
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (TRL_PPO, {"reward/mean", "kl/mean_nats", "nll/policy", "policy/approx_kl"}),
        (TRL_GRPO, {"reward/mean", "reward/std", "length/mean", "length/truncated", "kl/token_nats", "nll/policy"}),
        (OPENRLHF, {"reward/mean", "length/mean", "length/truncated", "kl/token_nats"}),
        (
            VERL,
            {"reward/mean", "length/mean", "length/truncated", "nll/policy", "kl/token_nats", "policy/approx_kl"},
        ),
    ],
    ids=["trl-ppo", "trl-grpo", "openrlhf", "verl"],
)
def test_names_of_other_trainers(tmp_path, row, wanted):
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"log_history": [{**row, "step": 5, "epoch": 0.1}]}), encoding="utf-8")
    (found,) = read_log(tmp_path)
    assert set(found) == wanted | {"step"}
    assert found["reward/mean"] == 1.0
    assert found.get("kl/token_nats", 0.2) == 0.2


def test_kl_an_answer_is_divided_by_the_length(tmp_path):
    path = csv(tmp_path / "log.csv", "step,objective/kl,completion_length\n1,6,30\n2,6,\n")
    assert [row.get("kl/token_nats") for row in read_log(path)] == [0.2, None]
    assert [row.get("kl/token_nats") for row in read_log(path, length=12)] == [0.2, 0.5]


def test_columns_of_ones_own(tmp_path):
    path = csv(tmp_path / "log.csv", "when,points,reward\n10,1.5,9\n20,nan,9\n")
    rows = read_log(path, Columns(step="when", reward="points"))
    assert same(rows, [{"step": 10, "reward/mean": 1.5}, {"step": 20, "reward/mean": math.nan}])
    assert [row["step"] for row in read_log(path)] == [1, 2]


def test_rows_of_one_step_are_one_and_steps_may_go_back(tmp_path):
    path = csv(tmp_path / "log.tsv", "Step\treward\tkl\n1\t1\t\n1\t\t.5\n2\t2\t\n1\t3\t\n\t4\t\n")
    one = {"step": 1, "reward/mean": 1.0, "kl/token_nats": 0.5}
    assert same(read_log(path), [one, {"step": 2, "reward/mean": 2.0}, {"step": 1, "reward/mean": 3.0}])


@pytest.mark.parametrize(
    ("name", "text", "columns", "said"),
    [
        ("none.csv", None, {}, r"none.csv: cannot be read \(No such file or directory\); give a run folder"),
        ("none.jsonl", None, {}, "none.jsonl: cannot be read"),
        ("empty.csv", "", {}, "empty.csv: holds no rows"),
        ("odd.csv", "a,b\n1,2\n", {}, "odd.csv: no column is known; say which is which, as in columns.reward=NAME; "),
        ("odd.csv", "a,b\n1,2\n", {"reward": "c"}, r"odd.csv: no column 'c' \(columns.reward\); there are: a, b"),
        ("odd.csv", "step,reward\n0.5,2\n", {}, "odd.csv: row 1: step 0.5 is no whole number"),
        ("odd.csv", "step,reward\n,2\n", {}, "odd.csv: no row has a step"),
        ("odd.csv", "step,watch/win_rate\n1,63\n", {}, "odd.csv: row 1: win rate 63; it must be a share from 0 to 1"),
        ("state.json", '{"a": 1}', {}, r"state.json: is damaged or of another kind \(no log_history in it\)"),
        ("state.json", "{", {}, "state.json: is damaged or of another kind"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, name, text, columns, said):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said) as error:
        read_log(tmp_path / name, Columns(**columns))
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "log.csv").write_bytes(b"\xff\xfe\x00step")
    with pytest.raises(BadInput, match="is not UTF-8"):
        read_log(tmp_path / "log.csv")
