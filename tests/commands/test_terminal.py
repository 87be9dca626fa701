"""The progress line of a terminal, drawn into a text."""

import io
import re

import pytest
from rich.console import Console

from yonder.commands.terminal import TerminalProgress

FACTS = {
    "math": "0.412 (41% right)",
    "probed": "0.733 (38% right)",
    "judge": "0.655",
    "KL": "0.013",
    "false yes": "0.24",
    "tokens/s": "1834",
}


@pytest.mark.parametrize("width", [80, 120])
def test_name_bar_step_and_time_left_are_whole_and_the_facts_take_what_is_left(width: int) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    progress = TerminalProgress(console)
    progress.start("distill", 120)
    progress.advance(37, FACTS)
    progress.finish()
    parts = re.split(r"\x1b\[[?\d]*[A-Za-z]|[\r\n]", drawn.getvalue())
    line = next(part.rstrip() for part in parts[::-1] if part.strip())
    assert line.startswith("distill " + "━" * 7) and line.index(" 37/120") == len("distill ") + 24 + 1
    assert " left -:--:--" in line
    assert "math 0." in line and line.endswith("…") and len(line) <= width
    assert ("(41% right)" in line) == (width == 120)


def test_brackets_in_facts_are_text() -> None:
    drawn = io.StringIO()
    progress = TerminalProgress(Console(file=drawn, width=120, force_terminal=True, color_system=None))
    progress.start("a[b]", 2)
    progress.advance(1, {"[red]": "1 [/]"})
    progress.finish()
    assert "a[b]" in drawn.getvalue() and "[red] 1 [/]" in drawn.getvalue()
