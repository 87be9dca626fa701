"""Programs as prompts need them: a docstring that cannot break out, and the body that continues a given header."""

from __future__ import annotations

import ast
import re
import textwrap

from yonder.core.syntax import syntax_tree

HEADER = "def solution():\n"
INDENT = "    "
_GIVEN = re.compile(  # def line, docstring, named numbers
    r'def \w+\(.*?\):\n(?:\s+"""(?:.|\n)*?"""\n)?(?:\s+n\d+ = [\d.]+\n)*'
)


def docstring_line(text: str) -> str:
    '''The line `    """text"""`, with quotes, backslashes and NUL escaped where they would change or end the string.'''
    text = text.replace("\\", "\\\\").replace("\0", "\\x00")
    text = re.sub(r'"{3,}|"+\Z', lambda quotes: '\\"' * len(quotes[0]), text)
    return f'{INDENT}"""{text}"""\n'


def solution_body(program: str) -> str | None:
    """The body of `solution` below its docstring, four spaces deep: it continues `def solution():` and a docstring.

    Comments stay. Imports, helpers and constants around the function move into it. None where the program does not
    parse, has no `solution` (nor exactly one function), takes arguments, or cannot be written as one function.
    """
    program = program.replace("\r\n", "\n").replace("\r", "\n")
    tree = syntax_tree(program)
    function = _solution(tree) if tree is not None else None
    if tree is None or function is None:
        return None
    statements = list(function.body)
    docstring_end = 0
    while statements and _is_string(statements[0]):
        docstring_end = statements.pop(0).end_lineno or 0
    if not statements:
        return None
    around = _around(tree, function)
    body = _slice(program, function, statements[0], docstring_end)
    if body is None or around:
        body = "\n".join(textwrap.indent(ast.unparse(node), INDENT) for node in (*around, *statements))
    return body if syntax_tree(HEADER + body, whole=True) is not None else None


def _solution(tree: ast.Module) -> ast.FunctionDef | None:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    named = [node for node in functions if node.name == "solution"] or functions
    if not named or (len(named) > 1 and named[-1].name != "solution"):
        return None
    function = named[-1]
    arguments = function.args
    takes = arguments.posonlyargs or arguments.args or arguments.kwonlyargs or arguments.vararg or arguments.kwarg
    return None if takes or function.decorator_list else function


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _around(tree: ast.Module, function: ast.FunctionDef) -> list[ast.stmt]:
    """What the function needs from its module: imports, helpers and constants before it, helpers after it."""
    place = tree.body.index(function)
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    before = [node for node in tree.body[:place] if isinstance(node, kinds)]
    after = [node for node in tree.body[place + 1 :] if isinstance(node, ast.FunctionDef)]
    return [node for node in (*before, *after) if getattr(node, "name", "") != function.name]


def _slice(program: str, function: ast.FunctionDef, first: ast.stmt, docstring_end: int) -> str | None:
    """The body as it is written, or None where it does not stand on lines of its own, four spaces deep."""
    if first.col_offset != len(INDENT) or first.lineno <= max(docstring_end, function.lineno):
        return None
    lines = program.split("\n")
    start = first.lineno - 1
    while start > max(docstring_end, function.lineno) and lines[start - 1].startswith(INDENT + "#"):
        start -= 1
    return "\n".join(lines[start : function.end_lineno]).rstrip()


def split_head(response: str) -> tuple[str, str]:
    """What is given of a program (def line, docstring, named numbers), and the rest; a text has no head."""
    match = _GIVEN.match(response)
    return (match.group(), response[match.end() :]) if match else ("", response)
