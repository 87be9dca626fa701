"""Run one program with CPython's own `exec`. Only for a process that `kernel.confine` has locked up.

Nothing here isolates anything: the caller must have confined the process before, and must end it afterwards.
"""

import math
import random
import sys
import types
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

from yonder.sandbox.protocol import CappedText, Limits, Reply, trim


def number_or_complaint(value: object) -> float | str:
    """A finite float, or what is wrong with `value`. Same words as the Monty prelude."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | Fraction):
        return f"returned a {type(value).__name__}, not a number"
    try:
        number = float(value)
    except OverflowError:
        return f"returned {type(value).__name__} too large for a float"
    return number if math.isfinite(number) else f"returned {number}, not a finite number"


def execute(program: str, limits: Limits) -> Reply:
    """Run `program` in this process, which must be confined already and must not be used afterwards."""
    printed = CappedText(limits.output_chars)
    sys.stdout = sys.stderr = cast(Any, printed)
    sys.stdin = cast(Any, None)
    main_module = types.ModuleType("__main__")
    sys.modules["__main__"] = main_module
    random.seed(0)  # a fork is seeded anew, by chance, so this must be here
    reply = Reply("error", None, f"the program defines no {limits.entry}()")
    try:
        sys.setrecursionlimit(limits.recursion + 20)  # the frames below us
        exec(compile(program, "main.py", "exec"), main_module.__dict__)
        if limits.entry in main_module.__dict__:
            number = number_or_complaint(main_module.__dict__[limits.entry]())
            reply = Reply("error", None, number) if isinstance(number, str) else Reply("ok", number)
    except MemoryError:
        reply = Reply("memory", None, "MemoryError: memory limit exceeded")
    except BaseException as error:  # SystemExit and KeyboardInterrupt are the program's doing too
        reply = Reply("error", None, _describe(error))
    return reply._replace(printed=printed.text, detail=trim(reply.detail))


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # a __str__ of the program's own
        return f"{type(error).__name__}, whose text cannot be made"
