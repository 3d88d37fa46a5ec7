"""`heed ppo` killed with signal 9 at random moments and resumed each time: it ends as if nothing had happened.

A small PPO run writes a checkpoint at every step. It is started as a process of its own, killed at a moment drawn by
chance (a number of steps after the start, and then a fraction of a second; every fifth time at any moment of starting
up), and resumed, as often as asked. After every kill: the newest checkpoint is whole, it is not older than the one
before, and the next process goes on from exactly that one. In the end weights, metrics (without times and memory) and
samples are compared with those of a run that nobody disturbed. The last part fills a small disk in the middle of a
checkpoint.

    python reproductions/kill-9/run.py [--kills 50] [--seed 0] [--out runs/kill-9]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heedlm.models import create, save_model, train_tokenizer
from heedlm.records import Message, Prompt, write
from heedlm.runs import Run, checkpoints
from heedlm.runs.info import versions

HERE = Path(__file__).parent
HEED = (sys.executable, "-c", "import sys; from heedlm.cli import main; sys.exit(main())")
NAMES = ("Ann", "Bob", "Cai", "Dora", "Eve", "Finn")
SETTINGS = (
    "rollouts=4", "minibatch=2", "passes=2", "sampling.max_new_tokens=6", "watch=3", "critic.pretrain=2",
    "critic.init=policy", "kl.target=2.0", "guard=off", "cadence.evaluate=5", "cadence.checkpoint=1", "threads=1",
)  # fmt: skip


def prepare(out: Path) -> Path:
    """A small model with random weights, and prompts for it."""
    folder = out.absolute() / "material"
    if not (folder / "prompts.jsonl").exists():
        texts = [f"Where does {name} live? In house {number}." for name in NAMES for number in range(8)]
        tokenizer = train_tokenizer(texts, 300)
        save_model(create("tiny", tokenizer, context=64), tokenizer, folder / "model")
        rows = [Prompt(messages=(Message(role="user", content=text.split(" In")[0]),), id=text) for text in texts]
        write(folder / "prompts.jsonl", rows)
    return folder


def words(folder: Path, steps: int) -> list[str]:
    """The command of the run, without `heed` and without `out=`."""
    given = (f"model={folder / 'model'}", f"prompts={folder / 'prompts.jsonl'}", "reward=near_length")
    return ["ppo", *given, f"steps={steps}", "name=killed", *SETTINGS]


@dataclass
class Tally:
    """What the kills met.

    Attributes:
        kills: Processes that were killed.
        in_a_write: Of these, how many left a half-written checkpoint behind.
        before_a_step: How many had not finished a step of their own.
        reached: Step of the newest whole checkpoint after each kill.
        went_on: How many processes went on from a checkpoint; the others were killed before they could.
        faults: What went wrong, in words.
    """

    kills: int = 0
    in_a_write: int = 0
    before_a_step: int = 0
    reached: list[int] = field(default_factory=list)
    went_on: int = 0
    faults: list[str] = field(default_factory=list)


def killed_again_and_again(command: Sequence[str], out: Path, kills: int, seed: int) -> tuple[Run, Tally]:
    """Start the run, kill and resume it `kills` times, and let it come to its end."""
    chance, tally = random.Random(seed), Tally()
    out.mkdir(parents=True)
    begin = [*command, f"out={out}"]
    path: Path | None = None
    for number in range(kills):
        early = number % 5 == 4
        process = start(resume(path) if path else begin, out)
        wait_for(process, path, out, 0 if early else chance.randint(1, 8), tally)
        time.sleep(chance.uniform(0, 3.0 if early else 0.2))
        if process.poll() is not None:
            tally.faults.append(f"start {number + 1} ended by itself with {process.returncode}: {last_line(out)}")
            break
        process.kill()
        process.wait(timeout=60)
        path = look(out, tally)
    done = subprocess.run([*HEED, *(resume(path) if path else begin)], capture_output=True, text=True, check=False)
    if done.returncode:
        tally.faults.append(f"the last start ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return Run.open(found(out)), tally


def start(command: Sequence[str], out: Path) -> subprocess.Popen[str]:
    """The command as a process of its own, its words in a file."""
    with (out / "said.txt").open("a", encoding="utf-8") as said:
        return subprocess.Popen([*HEED, *command, "--quiet"], stdout=said, stderr=said, text=True)


def resume(path: Path) -> list[str]:
    """The command that goes on with a run."""
    return ["resume", str(path)]


def found(out: Path) -> Path:
    """The run's directory."""
    (file,) = out.glob("ppo/killed-*/run.json")
    return file.parent


def wait_for(process: subprocess.Popen[str], path: Path | None, out: Path, steps: int, tally: Tally) -> None:
    """Wait until this process has finished so many steps; for no steps, return at once."""
    before = newest_number(path) if path else 0
    deadline = time.monotonic() + 120
    while steps and process.poll() is None and time.monotonic() < deadline:
        runs = list(out.glob("ppo/killed-*/run.json"))
        if runs and newest_number(runs[0].parent) >= before + steps:
            return
        time.sleep(0.002)
    tally.before_a_step += not steps


def newest_number(path: Path) -> int:
    """The highest checkpoint by name, whole or not: cheap enough to ask hundreds of times a second."""
    names = (item.name for item in (path / "checkpoints").glob("[0-9]*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def look(out: Path, tally: Tally) -> Path | None:
    """What a killed process left; None if it had not even begun a run."""
    tally.kills += 1
    if not list(out.glob("ppo/killed-*/run.json")):
        return None
    path = found(out)
    tally.in_a_write += any((path / "checkpoints").glob(".tmp-*"))
    resumed = Run.open(path).info.resumed
    # Each process says from which checkpoint it went on.
    if len(resumed) > tally.went_on and resumed[-1] != tally.reached[-1]:
        tally.faults.append(f"went on from {resumed[-1]}, though the newest checkpoint was {tally.reached[-1]}")
    tally.went_on = len(resumed)
    newest = checkpoints.newest(path)
    step = checkpoints.step_of(newest) if newest else 0
    if newest is not None and (harm := checkpoints.damage(newest)):
        tally.faults.append(f"{newest.name}: {harm}")
    if step < max(tally.reached, default=0):
        tally.faults.append(f"fell back to step {step} after {max(tally.reached)}")
    tally.reached.append(step)
    return path


def last_line(out: Path) -> str:
    """The last thing a process said."""
    return ((out / "said.txt").read_text(encoding="utf-8").strip().splitlines() or [""])[-1]


def differences(whole: Run, other: Run) -> list[str]:
    """What two runs do not have in common: status, metrics, samples, results, the bytes of weights."""
    pairs = {
        "status": (whole.info.status, other.info.status),
        "metrics": (without_times(whole), without_times(other)),
        "samples": (whole.read_samples(), other.read_samples()),
        "results": (whole.info.results, other.info.results),
    }
    for item in whole.info.outputs:
        one, two = whole.output(item.role), other.output(item.role)
        files = [file.relative_to(one) for file in sorted(one.rglob("*.safetensors"))] if one else []
        for file in files:
            same = two is not None and (one / file).read_bytes() == (two / file).read_bytes() if one else False
            pairs[f"{item.role}/{file}"] = (True, same)
    return [name for name, (one, two) in pairs.items() if one != two]


def without_times(run: Run) -> list[dict[str, Any]]:
    """Metrics but for times and memory, which are the machine's and not the run's."""
    machine = ("seconds", "time/", "memory/")
    return [{k: v for k, v in row.items() if not k.startswith(machine)} for row in run.read_metrics()]


def on_a_small_disk(command: Sequence[str], whole: Run, out: Path) -> dict[str, Any]:
    """The same run on a disk that is full at its third checkpoint, and resumed when there is room again.

    The disk is a tmpfs in a mount namespace of its own. Where a system allows none, that is said.
    """
    place = out / "disk"
    place.mkdir(parents=True, exist_ok=True)
    script = f"""
        mount -t tmpfs -o size={_bytes_of_a_checkpoint(whole) * 5 // 2} tmpfs "{place}" || exit 99
        "$@" out="{place}" --quiet; echo "code $?"
        df --output=pcent "{place}" | tail -n 1
        mount -o remount,size=1g "{place}"
        "${{@:1:3}}" resume "{place}"/ppo/* --quiet; echo "code $?"
        cp -r "{place}/ppo" "{out}/kept"
    """
    shutil.rmtree(out / "kept", ignore_errors=True)
    line = ["unshare", "-rm", "bash", "-c", script, "bash", *HEED, *command]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if not (out / "kept").is_dir():
        return {"possible": False, "why": done.stderr.strip()[-200:]}
    codes = [int(said.split()[1]) for said in done.stdout.splitlines() if said.startswith("code ")]
    resumed = Run.open(next((out / "kept").iterdir()))
    return {
        "possible": True,
        "exit_codes": codes,
        "said": [said for said in done.stderr.splitlines() if said.startswith("heed ")],
        "resumed_at": resumed.info.resumed,
        "differences": differences(whole, resumed),
    }


def _bytes_of_a_checkpoint(run: Run) -> int:
    newest = checkpoints.newest(run)
    assert newest is not None
    return sum(file.stat().st_size for file in newest.iterdir())


def main() -> None:
    """Run, kill, resume, compare, and write result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kill-9"))
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    command = words(prepare(args.out), steps=10 * args.kills)
    subprocess.run([*HEED, *command, f"out={args.out / 'whole'}", "--quiet"], check=True, stdout=sys.stderr)
    whole = Run.open(found(args.out / "whole"))
    run, tally = killed_again_and_again(command, args.out / "killed", args.kills, args.seed)
    disk = on_a_small_disk(command, whole, args.out.absolute())
    different = differences(whole, run)
    result = {
        "command": f"python reproductions/kill-9/run.py --kills {args.kills} --seed {args.seed}",
        "versions": versions(),
        "steps": len(whole.read_metrics()),
        "killed": asdict(tally),
        "differences": different,
        "full_disk": disk,
        "claims": {
            "the newest checkpoint is whole after every kill and is the one that is gone on from": {
                "kills": tally.kills,
                "holds": tally.kills == args.kills and not tally.faults,
            },
            "weights, metrics and samples are those of an undisturbed run": {"holds": not different},
            "a full disk ends the run in one line with exit code 1, and with room again it ends as undisturbed": {
                "holds": disk["possible"] and disk["exit_codes"] == [1, 0] and not disk["differences"],
            },
        },
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
