"""DPO and KTO on the same ten folds of hh-rlhf as the reward models of run.py, measured on the very same pairs.

    python examples/hh-rlhf/prefer.py all   [--out runs/hh-rlhf] [--tiny]
    python examples/hh-rlhf/prefer.py tune | fold K | folds | measure     (the parts of `all`, in order)

What run.py made in the output folder is taken up: the fine-tuned model, and the scores to compare with. The score of an
answer is its implicit reward, β·log π/ref.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import data
import torch
from run import FILES, FULL, SCORERS, TINY, Example, asked, of_file
from steps import do, write_result

from heedlm import runs
from heedlm.evals.reward_model import compare_accuracy, held_out_accuracy
from heedlm.models.load import load_with_tokenizer
from heedlm.objectives import Dpo, Kto
from heedlm.records import Comparison
from heedlm.runs import Run
from heedlm.stages import prefer
from heedlm.train.preference import answer_logps, implicit_rewards

HERE = Path(__file__).parent
METHODS = {"dpo": Dpo(), "kto": Kto()}
RATES = (1e-4, 3e-4, 1e-3, 2e-3)


class Preferences(Example):
    """The parts, each of which takes up what the one before left in the folder."""

    def train(self, name: str, rows: Sequence[Comparison], places: Sequence[int], method: str, lr: float) -> Run:
        """A policy trained on these rows from the fine-tuned model, as its reward models are."""
        out = self.out / name
        return do(
            prefer, "prefer", out, model=self.base().path, data=self.written(out, rows, places),
            objective={"name": method}, length=data.LENGTH, held_out_share=0.06, batch=32, budget=2048,
            epochs=self.size.epochs, optim={"lr": lr}, cadence={"evaluate": 10},
        )  # fmt: skip

    def implicit(
        self, policy: Run, method: str, rows: Sequence[Comparison], places: Sequence[int]
    ) -> list[list[float]]:
        """The implicit rewards of the answers of some rows."""
        rankings = self.rankings(rows, places)
        reference, _ = load_with_tokenizer(runs.find_model(self.base().path))
        trained, _ = load_with_tokenizer(runs.find_model(policy.path))
        logps = (answer_logps(model, rankings, budget=4096) for model in (trained, reference))
        return implicit_rewards(METHODS[method], *logps, rankings)

    def tune(self) -> dict[str, Any]:
        """Accuracy on folds 8 and 9 of policies trained on folds 1 to 7, for each rate; the best is taken."""
        target = self.out / "prefer-tune.json"
        if target.exists():
            return dict(json.loads(target.read_text("utf-8")))
        rows, folds = self.rows()
        learned, asked = ([i for fold in part for i in fold] for part in (folds[1:8], folds[8:]))
        found: dict[str, Any] = {}
        for method in METHODS:
            tried = {}
            for lr in RATES:
                scores: dict[int, list[float]] = {}
                for file in FILES:
                    ours, theirs = of_file(rows, learned, file), of_file(rows, asked, file)
                    policy = self.train(f"prefer/tune/{method}-{lr:g}/{file}", rows, ours, method, lr)
                    scores |= zip(theirs, self.implicit(policy, method, rows, theirs), strict=True)
                measured = held_out_accuracy([rows[i] for i in scores], list(scores.values()))
                tried[f"{lr:g}"] = measured.accuracy.to_dict()
            found[method] = {"tried": tried, "lr": max(RATES, key=lambda lr: tried[f"{lr:g}"]["estimate"])}
        target.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return found

    def fold(self, number: int) -> None:
        """Both methods, each file apart, on nine folds; their scores of the tenth go to a file."""
        target = self.out / f"fold-{number}" / "prefer.json"
        if target.exists():
            return
        rates, (rows, folds) = self.tune(), self.rows()
        test = folds[number]
        train = [place for other, fold in enumerate(folds) if other != number for place in fold]
        began, scores = process_time(), {}
        for method in METHODS:
            found: dict[int, list[float]] = {}
            for file in FILES:
                ours, theirs = of_file(rows, train, file), of_file(rows, test, file)
                policy = self.train(f"prefer/fold-{number}/{method}/{file}", rows, ours, method, rates[method]["lr"])
                found |= zip(theirs, self.implicit(policy, method, rows, theirs), strict=True)
            scores[method] = [found[i] for i in test]
        said = {"rows": test, "seconds": process_time() - began, "scores": scores}
        target.write_text(json.dumps(said), encoding="utf-8")

    def measure(self) -> dict[str, Any]:
        """Pooled accuracy, and the paired differences to the reward model and the baselines of run.py."""
        rows, _ = self.rows()
        found = []
        for path in sorted(self.out.glob("fold-?/prefer.json")):
            ours, theirs = (json.loads(file.read_text("utf-8")) for file in (path, path.with_name("scores.json")))
            assert ours["rows"] == theirs["rows"], f"{path.parent}: other rows than those of run.py"
            found.append({**ours, "scores": theirs["scores"] | ours["scores"]})
        clean = [fold for fold in found if not set(fold["rows"]) & self.development()]
        return {
            "tuning": self.tune(),
            "folds": len(found),
            **against(rows, found),
            "without_development_folds": against(rows, clean) if clean else None,
            "core_minutes_folds": sum(fold["seconds"] for fold in found) / 60,
        }


def against(rows: Sequence[Comparison], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy of both methods, and each minus every scorer of run.py and minus the other, on the same pairs."""
    pairs = [rows[place] for fold in found for place in fold["rows"]]
    scores = {name: [row for fold in found for row in fold["scores"][name]] for name in (*METHODS, *SCORERS)}
    table: dict[str, Any] = {"pairs": len(pairs)}
    for method in METHODS:
        full = held_out_accuracy(pairs, scores[method])
        table[method] = {
            "accuracy": full.accuracy.to_dict(),
            "by_file": {source: share for source, (_, share) in full.by_source.items()},
            "minus": {
                name: compare_accuracy(pairs, scores[method], values).to_dict()
                for name, values in scores.items()
                if name != method
            },
        }
    return table


def main() -> None:
    """Do the parts asked for; `measure` and `all` write prefer.json."""
    options = asked(str(__doc__), ("all", "tune", "fold", "folds", "measure"))
    torch.set_num_threads(1)
    example = Preferences(options.out, TINY if options.tiny else FULL)
    if options.part in ("all", "tune"):
        example.tune()
    if options.part in ("all", "fold", "folds"):
        for number in options.numbers or range(data.FOLDS):
            example.fold(number)
    if options.part in ("all", "measure"):
        figures = example.measure()
        target = (options.out if options.tiny else HERE) / "prefer.json"
        write_result(target, "python examples/hh-rlhf/prefer.py all", figures)
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
