"""Run programs that a model wrote; get a finite number, or the reason why not.

Reading order: `result` (what comes back), `runner` (the Sandbox), `pool` and `process` (this side of the workers),
`protocol` (what is said), `worker`, `monty`, `confined`, `execution`, `kernel` (the other side), `lacking` (when
Monty's error is Monty's), `cache` (memory and log), `probe` (for `yonder doctor`).
"""

from yonder.sandbox.probe import Probe, probe
from yonder.sandbox.result import Counts, Executor, ProgramResult, Status
from yonder.sandbox.runner import Sandbox

__all__ = ["Counts", "Executor", "Probe", "ProgramResult", "Sandbox", "Status", "probe"]
