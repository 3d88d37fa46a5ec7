"""Human comparisons from hh-rlhf: a reward model measured over ten folds, and PPO against it.

    python examples/hh-rlhf/run.py all   [--out runs/hh-rlhf] [--tiny]
    python examples/hh-rlhf/run.py base | fold K | folds | measure | ppo     (the parts of `all`, in order)

Every finished part stays in the output folder, so an interrupted run goes on where it stopped, and two processes
can share the folds: `fold 0 2 4 6 8` in one, `fold 1 3 5 7 9` in the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import data
from baselines import bag_of_words, signed_length
from steps import do, shared, write_result

from heedlm import runs
from heedlm.evals.reward_model import compare_accuracy, held_out_accuracy, length_scores
from heedlm.models.chat import Chat
from heedlm.models.load import load_reward
from heedlm.models.tokenizer import load_tokenizer
from heedlm.records import Comparison, write
from heedlm.report import write_report
from heedlm.runs import Run
from heedlm.stages import evaluate, pretrain, reward, rl, sft
from heedlm.train.ranking import Ranking, answer_rows, ranking_scores

HERE = Path(__file__).parent
KINDS = ("pretrained", "random")
# The two files were labelled by different questions, which of two answers is more helpful, and which less harmful,
# and pull in opposite directions; so each has a reward model of its own (as in Llama 2), and so have the baselines.
FILES = ("harmless-base", "helpful-base")
SCORERS = (*KINDS, "bag of words", "length", "bag of words, files mixed", "longer answer")


@dataclass(frozen=True)
class Size:
    """How much is read and trained; `optim` and `imitation` were chosen inside fold 0's training rows (README)."""

    texts: int | None
    rows: int | None
    pretrain: int
    sft: int
    ppo: int
    rollouts: int
    prompts: int
    lr: float = 2e-3
    imitation: float = 0.0
    epochs: float = 1.0


FULL = Size(texts=None, rows=None, pretrain=1300, sft=500, ppo=100, rollouts=32, prompts=400)
TINY = Size(texts=150, rows=60, pretrain=2, sft=2, ppo=2, rollouts=4, prompts=8)


class Example:
    """The parts of the example, each of which takes up what the one before left in the folder."""

    def __init__(self, out: Path, size: Size) -> None:
        self.out, self.size = out, size

    def base(self) -> Run:
        """A tokenizer and a Llama from nothing on real text, then fine-tuning on conversations."""
        out, size = self.out, self.size
        if not (out / "demonstrations.jsonl").exists():
            data.texts(shared(), out, size.texts)
        base = do(
            pretrain, "pretrain", out, data=out / "corpus.jsonl", held_out=out / "corpus_dev.jsonl", size="tiny",
            vocabulary=4096, context=256, length=128, batch=32, steps=size.pretrain, optim={"lr": 4e-3},
            cadence={"evaluate": max(1, size.pretrain // 4), "checkpoint": 100},
        )  # fmt: skip
        return do(
            sft, "sft", out, model=base.path, data=out / "demonstrations.jsonl", length=192, batch=16,
            steps=size.sft, held_out_share=0.01, max_bad_rows=0.2, optim={"lr": 2e-3},
            cadence={"evaluate": max(1, size.sft // 4), "checkpoint": 100},
        )  # fmt: skip

    def rows(self) -> tuple[list[Comparison], list[list[int]]]:
        """All comparisons, whole, and the row numbers of the ten folds."""
        rows = data.comparisons(shared(), self.size.rows)
        return rows, data.folds(rows)

    def chat(self) -> Chat:
        """The chat of the model trained here."""
        return Chat(load_tokenizer(runs.find_model(self.base().path)))

    def fold(self, number: int) -> None:
        """Reward models and baselines of each file on nine folds; their scores of the tenth go to a file."""
        target = self.out / f"fold-{number}" / "scores.json"
        if target.exists():
            return
        rows, folds = self.rows()
        test = folds[number]
        train = [place for other, fold in enumerate(folds) if other != number for place in fold]
        found: dict[str, dict[int, list[float]]] = {name: {} for name in SCORERS}
        began = process_time()
        for file in FILES:
            ours, theirs = of_file(rows, train, file), of_file(rows, test, file)
            for kind in KINDS:
                judge = self.judge(f"fold-{number}/{file}/{kind}", rows, ours, kind)
                found[kind] |= zip(theirs, self.scores(judge, rows, theirs), strict=True)
            learned, asked = [rows[i] for i in ours], [rows[i] for i in theirs]
            found["bag of words"] |= zip(theirs, bag_of_words(learned, asked), strict=True)
            found["length"] |= zip(theirs, signed_length(learned, asked), strict=True)
        seconds = process_time() - began
        both = bag_of_words([rows[i] for i in train], [rows[i] for i in test])
        found["bag of words, files mixed"] = dict(zip(test, both, strict=True))
        found["longer answer"] = dict(zip(test, length_scores([rows[i] for i in test]), strict=True))
        scores = {name: [values[i] for i in test] for name, values in found.items()}
        target.write_text(json.dumps({"rows": test, "seconds": seconds, "scores": scores}), encoding="utf-8")

    def judge(self, name: str, rows: Sequence[Comparison], train: Sequence[int], kind: str) -> Run:
        """A reward model trained on these rows, from the fine-tuned model or from random weights."""
        out, size = self.out / name, self.size
        return do(
            reward, "reward", out, model=self.base().path, data=self.written(out, rows, train),
            init="model" if kind == "pretrained" else "random", imitation=size.imitation, length=data.LENGTH,
            held_out_share=0.06, batch=32, budget=2048, epochs=size.epochs, optim={"lr": size.lr},
            cadence={"evaluate": 10},
        )  # fmt: skip

    def written(self, out: Path, rows: Sequence[Comparison], places: Sequence[int]) -> Path:
        """Those rows, cut, as a file in a folder."""
        file = out / "comparisons.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            # By id, whose order has nothing to do with content: the held-out share is the first rows.
            write(file, sorted(data.cut([rows[i] for i in places], self.chat()), key=lambda row: row.id))
        return file

    def rankings(self, rows: Sequence[Comparison], places: Sequence[int]) -> list[Ranking]:
        """Token rows of the answers of some rows."""
        chat, cut = self.chat(), data.cut([rows[i] for i in places], self.chat())
        texts = ((row, [answer.text for answer in row.answers]) for row in cut)
        return [Ranking(answer_rows(chat, row.prompt, each, data.LENGTH), list(row.ranks)) for row, each in texts]

    def scores(self, judge: Run, rows: Sequence[Comparison], places: Sequence[int]) -> list[list[float]]:
        """A reward model's scores of the answers of some rows."""
        return ranking_scores(load_reward(runs.find_model(judge.path)), self.rankings(rows, places))

    def measure(self) -> dict[str, Any]:
        """Pooled accuracy over the finished folds, and the paired differences to each baseline."""
        rows, _ = self.rows()
        found = [json.loads(path.read_text("utf-8")) for path in sorted(self.out.glob("fold-?/scores.json"))]
        clean = [fold for fold in found if not set(fold["rows"]) & self.development()]
        return {
            "folds": len(found),
            **pooled(rows, found),
            "without_development_folds": pooled(rows, clean) if clean else None,
            "core_minutes_folds": sum(fold["seconds"] for fold in found) / 60,
        }

    def development(self) -> set[int]:
        """Rows on which settings were chosen: folds 8 and 9, with models trained on folds 1 to 7."""
        return {place for fold in self.rows()[1][8:] for place in fold}

    def ppo(self) -> dict[str, Any]:
        """PPO for helpfulness: taught by folds 1 to 5, judged by folds 6 to 9, on the prompts of fold 0."""
        out, size, chat = self.out / "ppo", self.size, self.chat()
        rows, folds = self.rows()
        parts = ([i for fold in part for i in fold] for part in (folds[1:6], folds[6:], folds[:1]))
        ours, theirs, unseen = (of_file(rows, part, "helpful-base") for part in parts)
        teacher = self.judge("ppo/teacher", rows, ours, "pretrained")
        referee = self.judge("ppo/referee", rows, theirs, "pretrained")
        for name, places in (("prompts", ours), ("prompts_test", unseen)):
            write(out / f"{name}.jsonl", data.prompts([rows[i] for i in places], chat, 96))
        tuned, sampling = self.base().path, {"max_new_tokens": 64}
        policy = do(
            rl, "ppo", out, model=tuned, reward=teacher.path, prompts=out / "prompts.jsonl", steps=size.ppo,
            rollouts=size.rollouts, minibatch=max(1, size.rollouts // 2), sampling=sampling, watch=size.rollouts,
            mix={"data": self.out / "demonstrations.jsonl", "role": "demonstrations", "coef": 0.1},
            kl={"coef": 0.2}, critic={"pretrain": 5}, cadence={"evaluate": max(1, size.ppo // 2)},
        )  # fmt: skip
        common = {"model": policy.path, "against": tuned, "prompts": out / "prompts_test.jsonl", "sampling": sampling}
        verdicts = {}
        for name, judge in (("referee", referee), ("teacher", teacher)):
            run = do(
                evaluate, "evaluate", out / name, **common, judge=judge.path, reward=teacher.path, limit=size.prompts,
            )  # fmt: skip
            write_report(run.path)
            verdicts[name] = run.info.results
        return {
            "teacher_rows": len(ours),
            "referee_rows": len(theirs),
            "report": str(write_report(policy.path).relative_to(self.out)),
        } | {
            f"judged_by_{name}": {
                "settings": found["settings"],
                **{key: found.get(key) for key in ("kl_nats", "reward", "reward_against", "text", "text_against")},
            }
            for name, found in verdicts.items()
        }


def of_file(rows: Sequence[Comparison], places: Sequence[int], file: str) -> list[int]:
    """Those of the row numbers whose rows come from a file."""
    return [place for place in places if rows[place].meta.source == file]


def pooled(rows: Sequence[Comparison], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy of every scorer over the pairs of some folds, and the pretrained model's minus each other's."""
    pairs = [rows[place] for fold in found for place in fold["rows"]]
    scores = {name: [row for fold in found for row in fold["scores"][name]] for name in SCORERS}
    full = {name: held_out_accuracy(pairs, values) for name, values in scores.items()}
    return {
        "pairs": len(pairs),
        "accuracy": {name: measured.accuracy.to_dict() for name, measured in full.items()},
        "accuracy_by_file": {
            name: {source: share for source, (_, share) in measured.by_source.items()}
            for name, measured in full.items()
        },
        "pretrained_minus": {
            name: compare_accuracy(pairs, scores["pretrained"], values).to_dict()
            for name, values in scores.items()
            if name != "pretrained"
        },
    }


def asked(doc: str, parts: Sequence[str]) -> argparse.Namespace:
    """What the command line says: a part of the example, which folds, where."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=parts)
    parser.add_argument("numbers", nargs="*", type=int, help="which folds")
    parser.add_argument("--out", type=Path, default=Path("runs/hh-rlhf"))
    parser.add_argument("--tiny", action="store_true", help="a minute's check that everything runs")
    return parser.parse_args()


def main() -> None:
    """Do the parts asked for; `measure` and `ppo` write their figures to files, `all` everything to result.json."""
    options = asked(str(__doc__), ("all", "base", "fold", "folds", "measure", "ppo"))
    torch.set_num_threads(1)
    example = Example(options.out, TINY if options.tiny else FULL)
    if options.part in ("all", "base"):
        example.base()
    if options.part in ("all", "fold", "folds"):
        for number in options.numbers or range(data.FOLDS):
            example.fold(number)
    target = (options.out if options.tiny else HERE) / "result.json"
    figures = json.loads(target.read_text("utf-8")) if target.exists() else {}
    if options.part in ("all", "measure"):
        figures |= {"settings": example.size.__dict__, "reward_model": example.measure()}
    if options.part in ("all", "ppo"):
        figures["ppo"] = example.ppo()
    if options.part in ("all", "measure", "ppo"):
        kept = {key: value for key, value in figures.items() if key not in ("command", "versions")}
        write_result(target, "python examples/hh-rlhf/run.py all", kept)
        print(json.dumps(figures.get("reward_model", {}), indent=1))


if __name__ == "__main__":
    main()
