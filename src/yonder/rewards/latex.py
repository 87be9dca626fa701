r"""The value of a short LaTeX expression (\frac{3}{4}, 2\sqrt{2}, 3 \times 10^5), read with math-verify.

math-verify limits its time by SIGALRM, which raises off the main thread (verl PR #5635: every sample scored 0), and
with that switched off a hostile expression may take for ever (verl PR #5839: training froze). So its timeouts are off
here, and time is bounded by what is let in: a short expression of known commands with few parentheses, whose tree is
then evaluated with floats (never by SymPy, which would compute 9^{9^9} exactly).
"""

import logging
import math
import re
from functools import lru_cache
from typing import Any

_LENGTH = 100  # characters; 0.1 s at most for what passes, against 10 s for 40 nested parentheses (measured)
_PARENTHESES = 3
_BRACES = 12
_ALLOWED = re.compile(r"(?:\\(?:[dt]?frac|sqrt|times|cdot|div|pi|left|right)(?![a-zA-Z])|[\s\d.,+\-*/^(){}=%$\[\]])+")

_COMMAND = re.compile(r"\\[a-z]|\^")


def latex_number(text: str) -> float | None:
    """Its finite real value; None when it is no such expression. Safe in any thread."""
    text = text.strip().rstrip(".").replace("$", "").strip()
    unsafe = len(text) > _LENGTH or text.count("(") + text.count("[") > _PARENTHESES or text.count("{") > _BRACES
    if "\\" not in text and re.search(r"\d\s+\d", text):
        return None  # "3 4" is two numbers; math-verify would add or multiply them
    if unsafe or not any(c.isdigit() or c == "\\" for c in text) or not _ALLOWED.fullmatch(text):
        return None
    return _parsed(text.rpartition("=")[2])


def latex_inside(text: str) -> float | None:
    r"""The value of the first such expression within a sentence ("we get \frac{1}{2}"); None without one."""
    runs = _runs(text)
    return latex_number(runs[0][0]) if runs else None


def last_latex(text: str) -> tuple[float | None, str]:
    """The value of the last such expression within a text, and the text behind it."""
    runs = _runs(text)
    return (latex_number(runs[-1][0]), text[runs[-1].end() :]) if runs else (None, text)


def _runs(text: str) -> list[re.Match[str]]:
    return [run for run in _ALLOWED.finditer(text) if _COMMAND.search(run[0])]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> float | None:
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify.parser").setLevel(logging.ERROR)  # it warns that its timeout is off; ours is above
    found = parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)  # type: ignore[arg-type]
    try:
        value = _float(found[0]) if found else None
    except (OverflowError, ZeroDivisionError, TypeError, ValueError):
        return None
    return value if value is not None and math.isfinite(value) else None


def _float(tree: Any) -> float | None:
    """The float value of a SymPy tree of numbers, sums, products and powers; None for any other node."""
    import sympy

    if isinstance(tree, sympy.Number | sympy.NumberSymbol):
        return float(tree)
    if not isinstance(tree, sympy.Add | sympy.Mul | sympy.Pow):
        return None
    values: list[float] = []
    for part in tree.args:
        value = _float(part)
        if value is None:
            return None
        values.append(value)
    if isinstance(tree, sympy.Add):
        return math.fsum(values)
    return math.prod(values) if isinstance(tree, sympy.Mul) else math.pow(*values)
