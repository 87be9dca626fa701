"""Syntax trees of programs that a model wrote."""

import subprocess
import sys

from yonder.core.syntax import parses, syntax_tree


def test_parse_and_compile_are_two_questions():
    assert parses("return 1") and not parses("return 1", whole=True)
    assert parses("x = 1", whole=True) and not parses("x = ") and not parses("x\0")
    assert syntax_tree("(" * 9999) is None


def test_odd_code_says_nothing_on_the_terminal():
    """A process of its own, since pytest has its own filters."""
    code = "from yonder.core.syntax import parses; assert parses('x = 1if 2else 3; y = 1 is 2', whole=True)"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
