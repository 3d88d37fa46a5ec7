"""Runs: their directories, checkpoints, fingerprints and lineage; nothing here needs torch."""

from heedlm.runs import checkpoints
from heedlm.runs.fingerprints import Input, find_data, find_model, fingerprint
from heedlm.runs.info import InputInfo, OutputInfo, RunInfo, peak_mib
from heedlm.runs.run import Run
from heedlm.runs.signals import interrupted, stop_requested

__all__ = [
    "Input",
    "InputInfo",
    "OutputInfo",
    "Run",
    "RunInfo",
    "checkpoints",
    "find_data",
    "find_model",
    "fingerprint",
    "interrupted",
    "peak_mib",
    "stop_requested",
]
