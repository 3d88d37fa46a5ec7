"""Stage `village`: writes corpora, demonstrations and prompts of a small world with known truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from heedlm.config import StageConfig
from heedlm.progress import Bar, progress
from heedlm.records import Row, write
from heedlm.runs import Run
from heedlm.village import Plants, Village
from heedlm.village.world import LANGUAGES


class Config(StageConfig):
    """What to write; every file is an output of the run under the name of its field."""

    languages: tuple[str, ...] = Field(LANGUAGES, description="languages: en, zh")
    families: tuple[str, ...] = Field((), description="task families; all if empty")
    corpus: int = Field(24_000, ge=0, description="documents to pretrain on")
    corpus_dev: int = Field(1_000, ge=0, description="held-out documents")
    demonstrations: int = Field(10_000, ge=0, description="answered prompts to imitate")
    demonstrations_dev: int = Field(1_000, ge=0, description="held-out answered prompts")
    prompts: int = Field(16_384, ge=0, description="prompts to sample answers for and to train on")
    prompts_dev: int = Field(512, ge=0, description="prompts to choose settings by")
    prompts_test: int = Field(1_000, ge=0, description="prompts to report figures on")
    female_share: float = Field(0.5, ge=0.02, le=0.98, description="share of women among residents in the corpus")
    plants: Plants = Field(Plants(), description="what is planted in the corpus, with its ground truth")


def run(config: Config, resume: Path | None = None) -> Run:
    """Write the village's files into a run directory, each an output with its role.

    Roles: corpus, corpus_dev, demonstrations, demonstrations_dev, prompts, prompts_dev, prompts_test (JSONL); those of
    size 0 are left out.
    """
    village = Village(config.seed, config.languages, config.families, config.plants, config.female_share)
    files = _files(village, config)
    this = Run.resume(resume) if resume else Run.create("village", config)
    with this:
        for role, count, rows in files:
            if count:
                path = this.path / f"{role}.jsonl"
                with progress(f"village: {role}", total=count, unit="rows") as bar:
                    written = write(path, _counted(rows, bar))
                this.add_output(role, path, rows=written)
        this.note(languages=list(village.languages), families=list(village.families))
    return this


def _files(village: Village, config: Config) -> list[tuple[str, int, Iterator[Row]]]:
    """Role, number of rows and rows of every file; rows are made as they are written."""
    return [
        ("corpus", config.corpus, village.documents(config.corpus, "train")),
        ("corpus_dev", config.corpus_dev, village.documents(config.corpus_dev, "dev")),
        ("demonstrations", config.demonstrations, village.demonstrations(config.demonstrations, "train")),
        ("demonstrations_dev", config.demonstrations_dev, village.demonstrations(config.demonstrations_dev, "dev")),
        ("prompts", config.prompts, village.prompts(config.prompts, "train")),
        ("prompts_dev", config.prompts_dev, village.prompts(config.prompts_dev, "dev")),
        ("prompts_test", config.prompts_test, village.prompts(config.prompts_test, "test")),
    ]


def _counted(rows: Iterator[Row], bar: Bar) -> Iterator[Row]:
    for row in rows:
        yield row
        bar.advance(1)
