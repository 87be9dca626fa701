"""The Monty worker: a process that runs programs one after another in Monty, and never in CPython.

Covered: Monty is an interpreter of its own, without access to files, environment, network or processes; it runs in
yet another process (`monty subprocess`), with limits on time, heap and recursion; every program gets a fresh session;
clock, sleep and random state are fixed, so that a program has one result.
NOT covered: a flaw in Monty itself that escapes its process. This process is an ordinary one without secrets in its
environment; run it inside a container where a further wall is wanted.

One Monty pool per process, because threads of one process contend. Started by `yonder.sandbox.process`.
"""

import datetime
import math
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from yonder.sandbox.lacking import lacks_feature
from yonder.sandbox.protocol import CRASHED_EXIT, CappedText, Limits, Reply, trim
from yonder.sandbox.result import Status

if TYPE_CHECKING:
    from pydantic_monty import MontySession, OSPolicy, ResourceLimits

GRACE_S = 0.5  # past the limit, Monty's pool kills its process

# Fed to the session before the program, so the program's line numbers stay its own. The names it needs are closed
# over, so a program that rebinds `float` or `type` changes neither function.
PRELUDE = """
def __yonder_make(builtin, type, float, int):
    def round(number, ndigits=None):
        # Monty breaks ties in the printed decimal, CPython in the exact binary value, as formatting does in both.
        if type(number) is float and type(ndigits) is int and 0 <= ndigits < 324:  # more digits than a float has
            return float(f"{number:.{ndigits}f}")
        return builtin(number, ndigits)
    return round

round = __yonder_make(round, type, float, int)

def __yonder_make(Decimal, type, float, int, str):
    def number_or_complaint(value):
        kind = type(value)
        if kind is not int and kind is not float and kind is not Decimal:
            return f"returned a {kind.__name__}, not a number"
        try:
            number = float(value)
        except OverflowError:
            return f"returned {kind.__name__} too large for a float"
        return number if number - number == 0 else f"returned {number}, not a finite number"
    return number_or_complaint

from decimal import Decimal as __yonder_decimal
__yonder_number = __yonder_make(__yonder_decimal, type, float, int, str)
"""


_Judged = tuple[Status, float | None, str]


class MontyWorker:
    """Runs programs in one Monty pool with one process, each in a session restored from the same prelude."""

    def __init__(self, limits: Limits) -> None:
        from pydantic_monty import Monty

        self.limits = limits
        self.resources: ResourceLimits = {
            "max_feed_duration_secs": limits.timeout_s,
            "max_memory": limits.memory_mb * 2**20,
            "max_recursion_depth": limits.recursion,
        }
        self.policy: OSPolicy = {
            "datetime": datetime.datetime(2026, 1, 1),
            "sleep": "zero",
            "random_start": {"seed": 0},
        }
        self.pool: Monty = Monty(min_processes=1, max_processes=1, feed_duration_limit_grace=GRACE_S)
        self.pool.__enter__()
        with self._session() as session:
            session.feed_run(PRELUDE)
            self.start = session.dump()

    def _session(self) -> "MontySession":
        return self.pool.checkout(limits=self.resources, os_policy=self.policy, assert_message_annotations=False)

    def run(self, program: str) -> Reply:
        """Run one program. If Monty's process dies under it, so does this one: the parent then starts another."""
        from pydantic_monty import MontyCrashedError, MontyRuntimeError, MontySyntaxError

        printed = CappedText(self.limits.output_chars)

        def keep(stream: str, text: str) -> None:
            printed.write(text)

        began = time.perf_counter()
        try:
            with self._session() as session:
                session.load_session(self.start)
                code = f"{program}\n__yonder_number({self.limits.entry}())"
                output = cast(object, session.feed_run(code, print_callback=keep))
            status, value, detail = _judge_output(output)
        except MontyCrashedError as error:
            if not error.timed_out:
                os._exit(CRASHED_EXIT)
            status, value, detail = "timeout", None, "the interpreter did not stop at its limit and was killed"
        except (MontyRuntimeError, MontySyntaxError) as error:
            status, value, detail = _judge_error(error.display("type-msg"), self.limits.entry)
        except (ValueError, RecursionError) as error:  # an output that cannot become a Python object, such as 10**5000
            status, value, detail = "error", None, f"{type(error).__name__}: {error}"
        lacking = status == "error" and lacks_feature(detail)
        return Reply(status, value, trim(detail), printed.text, time.perf_counter() - began, lacking)


def _judge_output(output: object) -> _Judged:
    """What the prelude's last function gave: a float, or a complaint as text."""
    if type(output) is float and math.isfinite(output):
        return "ok", output, ""
    return "error", None, output if isinstance(output, str) else "the program did not give a number"


def _judge_error(message: str, entry: str) -> _Judged:
    """Sort an error by its "Type: message" line. The two limits' messages are Monty's own words."""
    if message.startswith("TimeoutError: feed time limit exceeded"):
        return "timeout", None, message
    if message.startswith(("MemoryError: memory limit exceeded", "MemoryError: the worker exceeded its memory limit")):
        return "memory", None, message
    if message == f"NameError: name '{entry}' is not defined":
        return "error", None, f"the program defines no {entry}()"
    return "error", None, message


def make_runner(limits: Limits) -> Callable[[str], Reply]:
    """Start Monty and return the function that runs a program. Raises when Monty is missing or cannot start."""
    return MontyWorker(limits).run
