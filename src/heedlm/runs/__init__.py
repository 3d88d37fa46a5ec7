"""Runs: their directories, checkpoints, fingerprints and lineage; nothing here needs torch."""

from heedlm.runs import checkpoints
from heedlm.runs.card import model_card
from heedlm.runs.checkpoints import newest as newest_checkpoint
from heedlm.runs.checkpoints import save as save_checkpoint
from heedlm.runs.data import quarantine, unused_name
from heedlm.runs.fingerprints import Input, find_data, find_model, fingerprint, has_data, run_of
from heedlm.runs.info import InputInfo, OutputInfo, RunInfo, peak_mib
from heedlm.runs.lineage import Node, Sighting, as_text, lineage, models_that_saw
from heedlm.runs.run import Run
from heedlm.runs.signals import interrupted, stop_requested

__all__ = [
    "Input",
    "InputInfo",
    "Node",
    "OutputInfo",
    "Run",
    "RunInfo",
    "Sighting",
    "as_text",
    "checkpoints",
    "find_data",
    "find_model",
    "fingerprint",
    "has_data",
    "interrupted",
    "lineage",
    "model_card",
    "models_that_saw",
    "newest_checkpoint",
    "peak_mib",
    "quarantine",
    "run_of",
    "save_checkpoint",
    "stop_requested",
    "unused_name",
]
