"""How fast the web application answers fifty annotators: time to read a task, to keep a draft, to hand in a reply.

The server is a process of its own, the people are threads of this one; both share the machine. "thinking" people pause
about two seconds between requests, which is faster than anybody ranks four answers; "tireless" ones do not pause.

    python benchmarks/serve.py [--people 50] [--seconds 30] [--database URL]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "reproductions" / "annotators"))
from crowd import Server, audit, crowd, prepare

from heedlm.runs.info import versions

RESULT = Path(__file__).parent / "results" / "serve.json"


def measure(url: str, folder: Path, people: int, seconds: float, think: float) -> dict[str, Any]:
    """Let people work for so long; the first fifth does not count."""
    project = prepare(url, people, 3000, 3)
    server = Server(url, folder)
    server.start()
    workers, halt = crowd(server, project, people, think)
    try:
        while not all(worker.seconds["submit"] or worker.broken for worker in workers):
            time.sleep(0.1)
        for worker in workers:
            for values in worker.seconds.values():
                values.clear()
        begun = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - begun
        # Taken before people are told to stop: then all fifty end their pauses and hand in at the same moment.
        measured = {name: [v for w in workers for v in w.seconds[name][:]] for name in ("next", "draft", "submit")}
    finally:
        halt.set()
        for worker in workers:
            worker.join(30)
        server.stop()
    found: dict[str, Any] = {"people": people, "think_seconds": think, "seconds": round(took, 1)}
    total = 0
    for name, seconds_each in measured.items():
        values = [1000 * value for value in seconds_each]
        total += len(values)
        cut = quantiles(values, n=100)
        found[name] = {"n": len(values), "median_ms": round(median(values), 1), "p99_ms": round(cut[98], 1)}
    found["requests_a_second"] = round(total / took, 1)
    found["books"] = audit(url, workers, 3)
    return found


def main() -> None:
    """Measure both kinds of people and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    found: dict[str, Any] = {"command": "python benchmarks/serve.py", "versions": versions(), "aim": "p99 below 100 ms"}
    with tempfile.TemporaryDirectory() as name:
        for kind, think in (("thinking", 2.0), ("tireless", 0.0)):
            folder = Path(name)
            found[kind] = measure(str(folder / f"{kind}.db"), folder, args.people, args.seconds, think)
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
