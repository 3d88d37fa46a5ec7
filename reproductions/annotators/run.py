"""Twenty people hand in labels while the server is killed with signal 9 fifty times, and while its disk fails.

Every reply carries a key of its own; a person whose request got no answer sends it again. What was acknowledged must be
in the database once, at the end of it all; the books of who holds what must agree; and a start must take under three
seconds.

    python reproductions/annotators/run.py [--kills 50] [--people 20] [--database URL]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from crowd import Server, audit, crowd, prepare

HERE = Path(__file__).parent
OVERLAP, ITEMS = 3, 4000


def killed(folder: Path, url: str, people: int, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill the server at random moments while people work."""
    draw, starts = random.Random(seed), []
    project = prepare(url, people, ITEMS, OVERLAP)
    server = Server(url, folder)
    starts.append(server.start())
    workers, halt = crowd(server, project, people)
    try:
        _until_all_work(workers)
        for _ in range(kills):
            time.sleep(draw.uniform(0.1, 1.5))
            server.kill()
            starts.append(server.start())
        time.sleep(0.5)
    finally:
        halt.set()
        for worker in workers:
            worker.join(30)
        server.stop()
    broken = [worker.broken for worker in workers if worker.broken]
    return {
        "kills": kills,
        "people": people,
        **audit(url, workers, OVERLAP),
        "sent_again_and_known": sum(worker.repeats for worker in workers),
        "broken_people": broken,
        "start_seconds": {"median": round(median(starts), 2), "most": round(max(starts), 2)},
    }


def failing(folder: Path, url: str, people: int, seconds: float) -> dict[str, Any] | None:
    """Let one in three writes and fsyncs of the database fail, for a while, three times; None without a compiler."""
    library, flag = folder / "failing.so", folder / "fail"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(HERE / "failing.c"), "-ldl"], check=True)
    project = prepare(url, people, ITEMS, OVERLAP)
    server = Server(url, folder, {"LD_PRELOAD": str(library), "HEED_FAIL_FLAG": str(flag)})
    server.start()
    workers, halt = crowd(server, project, people)
    try:
        _until_all_work(workers)
        for _ in range(3):
            flag.touch()
            time.sleep(seconds)
            flag.unlink()
            before = sum(len(worker.acknowledged) for worker in workers)
            time.sleep(seconds)
            after = sum(len(worker.acknowledged) for worker in workers)
            assert after > before, "work does not go on after the disk has recovered"
        server.kill()
        server.start()
    finally:
        halt.set()
        for worker in workers:
            worker.join(30)
        server.stop()
    failures = sum(worker.refused.get(500, 0) + worker.refused.get(503, 0) for worker in workers)
    return {"people": people, "failed_requests": failures, **audit(url, workers, OVERLAP)}


def _until_all_work(workers: list[Any]) -> None:
    deadline = time.monotonic() + 120
    while not all(worker.acknowledged or worker.broken for worker in workers):
        if time.monotonic() > deadline:
            raise RuntimeError("not everybody came to work")
        time.sleep(0.1)


def holds(found: dict[str, Any]) -> bool:
    """Nothing lost, doubled, changed or given too often; the database sound."""
    zero = ("lost", "duplicated", "changed", "above_overlap", "books_wrong")
    return all(found[name] == 0 for name in zero) and found["sound"] and found["acknowledged"] > 0


def main() -> None:
    """Run both, write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long the disk fails each time")
    args = parser.parse_args()
    found: dict[str, Any] = {
        "command": f"python reproductions/annotators/run.py --kills {args.kills} --people {args.people}"
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = killed(folder, str(folder / "killed.db"), args.people, args.kills)
        second = failing(folder, str(folder / "failing.db"), args.people, args.seconds)
    found["killed"], found["failing disk"] = first, second
    found["claims"] = {
        "no acknowledged label is lost, doubled or changed by 50 kills": holds(first),
        "nor by failing writes and fsyncs": second is not None and holds(second) and second["failed_requests"] > 0,
        "a start takes under 3 s": first["start_seconds"]["most"] < 3,
    }
    (HERE / "result.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
