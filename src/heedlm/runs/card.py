"""The model card: what a saved model is, and which data and models it came from."""

from __future__ import annotations

from heedlm import __version__
from heedlm.runs.lineage import as_text, lineage
from heedlm.runs.run import Run


def model_card(run: Run, what: str) -> str:
    """Markdown for the README of a model folder, with the run's lineage.

    Args:
        run: The run that made the model.
        what: One sentence that says what the model is.
    """
    inputs = [f"| {item.role} | `{item.run or item.path}` | `{item.fingerprint[:16]}` |" for item in run.info.inputs]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [heed]",
            "---",
            f"# {run.name}",
            "",
            what,
            "",
            f"Made by `heed {run.info.stage}` (Heed {__version__}, seed {run.info.seed}) from:",
            "",
            "| role | source | fingerprint |",
            "|---|---|---|",
            *inputs,
            "",
            "```",
            as_text(lineage(run)),
            "```",
            "",
            "Its settings and measurements lie in the run directory, `config.toml` and `run.json`.",
            "",
        ]
    )
