"""Whether text is Python, and its syntax tree, without a word on the terminal about code that a model wrote."""

import ast
import threading
import warnings

_ONE_AT_A_TIME = threading.Lock()  # the filters of warnings are the process's, not a thread's


def syntax_tree(program: str, whole: bool = False) -> ast.Module | None:
    """The syntax tree; None where the text does not parse, or with `whole` does not compile."""
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(program)
            if whole:
                compile(tree, "program", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


def parses(program: str, whole: bool = False) -> bool:
    """Whether it is Python; with `whole`, Python that compiles."""
    return syntax_tree(program, whole) is not None
