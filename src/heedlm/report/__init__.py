"""The report of a run: one HTML file that needs no network, made from what the run directory holds."""

from heedlm.report.page import render, write_report
from heedlm.report.source import Source

__all__ = ["Source", "render", "write_report"]
