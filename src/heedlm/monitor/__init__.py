"""The collapse detector (docs/monitor.md): five signals, three states, from any trainer's log; no torch."""

from heedlm.monitor.calibrate import calibrate
from heedlm.monitor.detector import Detector, Verdict
from heedlm.monitor.signals import Alarm
from heedlm.monitor.thresholds import Thresholds

__all__ = ["Alarm", "Detector", "Thresholds", "Verdict", "calibrate"]
