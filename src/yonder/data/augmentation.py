"""Rewriting word problems and their programs: fresh numbers, one plain style, one short program form.

A tiny policy trained on 3,000 problems learns the numbers by heart. Three pure functions help it to copy them instead:

- `normalise_question`: one spelling for every question (lower case, spaced punctuation, `6.0` -> `6`, no thousands
commas).
- `resample_numbers`: new numbers in the question and, consistently, in the program.
- `canonical_program`: the program as one short form, `def solution():` with a single `return` over numbers of the
question.
- `name_numbers`: the question with `n0`, `n1`.. for its numbers, and the assignments that give them their values.

Numbers of a question are linked to literals of its program by value. Where two numbers of the question have the same
value
and the program uses it, the link is ambiguous and the answer is None. Nothing is executed: programs are read as
syntax trees,
and the arithmetic that a check needs is done by a small evaluator that knows +, -, *, / and // on numbers.
"""

from __future__ import annotations

import ast
import random
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

__all__ = [
    "canonical_program",
    "evaluate_program",
    "name_numbers",
    "named_solution",
    "normalise_question",
    "resample_numbers",
]

NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?![\w])")
LITERAL = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")
MAX_DEPTH = 60
ATTEMPTS = 40


# --- text ------------------------------------------------------------------------------------------------------------


def normalise_question(question: str) -> str:
    """One spelling for every question: lower case, punctuation spaced, no commas, whole numbers without `.0`."""
    text = question.lower().replace("\u2019", "'")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"(\d)\.0+(?!\d)", r"\1", text)
    text = re.sub(r"(?<![\d])\.(?=\d)", "0.", text)
    text = text.replace(",", " ")
    text = re.sub(r"\.(?!\d)", " . ", text)
    text = re.sub(r"([?!;:()\"$%])", r" \1 ", text)
    text = re.sub(r"(?<=\w)'s\b", " 's", text)
    return re.sub(r"\s+", " ", text).strip()


def _value(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _body(program: str) -> str:
    """The statements of `solution` as text, without docstring and comments; raises SyntaxError or ValueError."""
    function = ast.parse(program).body[0]
    if not isinstance(function, ast.FunctionDef):
        raise ValueError("no function")
    statements = function.body
    if statements and isinstance(statements[0], ast.Expr) and isinstance(statements[0].value, ast.Constant):
        statements = statements[1:]
    return "\n".join("    " + line for statement in statements for line in ast.unparse(statement).split("\n"))


def _program(question: str, body: str) -> str:
    return f'def solution():\n    """{question}"""\n{body}'


# --- programs as expressions -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """A literal; `value` is exact, `text` is how it is written."""

    value: Fraction
    text: str


@dataclass(frozen=True)
class Operation:
    """`operator` is one of + - * / //, or `ceil` for a division rounded up."""

    operator: str
    left: Node
    right: Node


Node = Leaf | Operation
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
}


def _evaluate(node: Node) -> Fraction:
    """The exact value; raises ZeroDivisionError."""
    if isinstance(node, Leaf):
        return node.value
    left, right = _evaluate(node.left), _evaluate(node.right)
    match node.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right
        case "//":
            return Fraction(left // right)
        case _:  # ceil
            return Fraction(-(-left // right))


def _expression(node: ast.expr, names: dict[str, Node], depth: int = 0) -> Node:
    """A syntax tree as a Node; raises ValueError for anything but arithmetic on literals and known names."""
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Leaf(Fraction(str(node.value)), str(node.value))
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left = _expression(node.left, names, depth + 1)
        return Operation(_OPERATORS[type(node.op)], left, _expression(node.right, names, depth + 1))
    if isinstance(node, ast.Call) and len(node.args) == 1 and ast.unparse(node.func) in ("int", "round", "float"):
        return _expression(node.args[0], names, depth + 1)
    raise ValueError(f"not plain arithmetic: {ast.dump(node)[:60]}")


def _round_up(statement: ast.If, names: dict[str, Node]) -> tuple[str, Node]:
    """`if a % b != 0: x += 1` after `x = a // b` is x = ceil(a / b); anything else raises ValueError."""
    text = ast.unparse(statement)
    found = re.fullmatch(r"if .+ % .+ (?:!= 0|> 0):\n    (\w+) (?:\+= 1|= \1 \+ 1)", text)
    if found is None:
        raise ValueError("a branch")
    node = names.get(found[1])
    if not isinstance(node, Operation) or node.operator != "//":
        raise ValueError("a branch")
    return found[1], Operation("ceil", node.left, node.right)


def _tree(program: str) -> Node:
    """The program's result as one expression; raises ValueError where it is not straight-line arithmetic."""
    function = ast.parse(program).body[0]
    if not isinstance(function, ast.FunctionDef):
        raise ValueError("no function")
    names: dict[str, Node] = {}
    for statement in function.body:
        match statement:
            case ast.Expr(value=ast.Constant()):
                continue
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = _expression(value, names)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value) if (
                type(op) in _OPERATORS and name in names
            ):
                names[name] = Operation(_OPERATORS[type(op)], names[name], _expression(value, names))
            case ast.If():
                name, node = _round_up(statement, names)
                names[name] = node
            case ast.Return(value=ast.expr() as value):
                return _expression(value, names)
            case _:
                raise ValueError("not straight-line")
    raise ValueError("no return")


def _leaves(node: Node) -> list[Leaf]:
    return [node] if isinstance(node, Leaf) else _leaves(node.left) + _leaves(node.right)


def _operations(node: Node) -> list[Operation]:
    """Every operation, children before parents."""
    return [] if isinstance(node, Leaf) else _operations(node.left) + _operations(node.right) + [node]


# --- the short form --------------------------------------------------------------------------------------------------


def _terms(node: Node, plus: str, minus: str, sign: int = 1) -> list[tuple[int, Node]]:
    """A chain of + and - (or * alone where `minus` is empty) as signed terms."""
    if isinstance(node, Operation) and node.operator == plus:
        return _terms(node.left, plus, minus, sign) + _terms(node.right, plus, minus, sign)
    if isinstance(node, Operation) and minus and node.operator == minus:
        return _terms(node.left, plus, minus, sign) + _terms(node.right, plus, minus, -sign)
    return [(sign, node)]


def _ordered(node: Node, places: dict[Fraction, int]) -> Node:
    """Same value, operands of sums and products in the order the question names them."""
    if isinstance(node, Leaf):
        return node
    if node.operator in ("+", "-", "*"):
        plus, minus = ("*", "") if node.operator == "*" else ("+", "-")
        terms = [(sign, _ordered(term, places)) for sign, term in _terms(node, plus, minus)]
        if not any(sign > 0 for sign, _ in terms):
            return node
        terms.sort(key=lambda item: min(places.get(leaf.value, 99) for leaf in _leaves(item[1])))
        first = next(index for index, (sign, _) in enumerate(terms) if sign > 0)
        terms.insert(0, terms.pop(first))
        result = terms[0][1]
        for sign, term in terms[1:]:
            result = Operation(plus if sign > 0 else minus, result, term)
        return result
    left, right = _ordered(node.left, places), _ordered(node.right, places)
    operator = node.operator
    if operator != "/" and _evaluate(right) != 0 and (_evaluate(left) / _evaluate(right)).denominator == 1:
        operator = "/"
    return Operation(operator, left, right)


def _written(node: Node, spelled: dict[Fraction, str], priority: int = 0) -> str:
    if isinstance(node, Leaf):
        return spelled.get(node.value, node.text)
    if node.operator == "ceil":
        return f"-(-{_written(node.left, spelled, 9)} // {_written(node.right, spelled, 9)})"
    own = 1 if node.operator in ("+", "-") else 2
    right_priority = own if node.operator in ("+", "*") else own + 1
    text = f"{_written(node.left, spelled, own)} {node.operator} {_written(node.right, spelled, right_priority)}"
    return f"({text})" if own < priority else text


def canonical_program(question: str, program: str, named: bool = True) -> str | None:
    """The program in one short form, or None where it is not arithmetic that can be linked to the question.

    `named`: first `n0 = ..`, `n1 = ..` for every number of the question in its order, then `return` over those names
    (the value copied, then the operation chosen); otherwise one `return` over literals.
    """
    try:
        node = _tree(program)
        numbers = [match.group().replace(",", "") for match in NUMBER.finditer(question)]
        values = [Fraction(text) for text in numbers]
        used = {leaf.value for leaf in _leaves(node)}
        if any(values.count(value) > 1 for value in used):
            return None
        places = {value: index for index, value in enumerate(values)}
        node = _ordered(node, places)
    except (ValueError, SyntaxError, ZeroDivisionError, RecursionError, IndexError):
        return None
    if named:
        spelled = {value: f"n{index}" for value, index in places.items()}
        lines = [f"    n{index} = {text}" for index, text in enumerate(numbers)]
    else:
        spelled, lines = {value: numbers[index] for value, index in places.items()}, []
    return _program(question, "\n".join([*lines, f"    return {_written(node, spelled)}"]))


class NamedQuestion(NamedTuple):
    """A question with names for its numbers, and the lines that assign them."""

    text: str
    assignments: str  # "    n0 = 12\n    n1 = 5\n"


def name_numbers(question: str) -> NamedQuestion:
    """The question in one spelling, its i-th number replaced by the name n<i>."""
    plain = normalise_question(question)
    numbers = [match.group() for match in NUMBER.finditer(plain)]
    names = iter(range(len(numbers)))
    text = NUMBER.sub(lambda _: f"n{next(names)}", plain)
    return NamedQuestion(text, "".join(f"    n{i} = {number}\n" for i, number in enumerate(numbers)))


def named_solution(question: str, program: str) -> str | None:
    """The program's result as one `return` over the names of `name_numbers`, or None where it cannot be linked to
    the question."""
    canonical = canonical_program(normalise_question(question), program)
    return None if canonical is None else canonical[canonical.rindex("    return ") :]


def evaluate_program(program: str) -> float | None:
    """The result of straight-line arithmetic without running it; None for any other program."""
    try:
        return float(_evaluate(_tree(program)))
    except (ValueError, SyntaxError, ZeroDivisionError, OverflowError, RecursionError, IndexError):
        return None


# --- fresh numbers ---------------------------------------------------------------------------------------------------


def _fresh(text: str, rng: random.Random) -> str:
    """A number that could stand where `text` stands, about as many digits, at most two decimals; 0, 1 and years
    stay."""
    plain = text.replace(",", "")
    if plain in ("0", "1") or re.fullmatch(r"(?:19|20)\d\d", plain):
        return plain
    whole, _, decimals = plain.partition(".")
    digits = len(whole)
    if rng.random() < 0.3:
        digits = max(1, digits + rng.choice((-1, 1)))
    low = 0 if decimals and digits == 1 else 2 if digits == 1 else 10 ** (digits - 1)
    fresh = str(rng.randint(low, 10**digits - 1))
    if decimals.strip("0"):
        fresh += "." + "".join(str(rng.randint(0, 9)) for _ in decimals[:2][:-1]) + str(rng.randint(1, 9))
    return fresh


def _renumbered(node: Node, new: dict[Fraction, str]) -> Node:
    if isinstance(node, Leaf):
        text = new.get(node.value)
        return node if text is None else Leaf(Fraction(text), text)
    return Operation(node.operator, _renumbered(node.left, new), _renumbered(node.right, new))


def _divisible(old: Node, node: Node, new: dict[Fraction, str]) -> bool:
    """Change one number so that divisions that came out even still do; False where no number could be changed."""
    for before, after in zip(_operations(old), _operations(node), strict=True):
        if before.operator not in ("/", "//") or _evaluate(before.left) % _evaluate(before.right):
            continue
        rest = _evaluate(after.left) % _evaluate(after.right)
        if not rest:
            continue
        fixed = {leaf.value for leaf in _leaves(before.right)}
        for sign, term in _terms(before.left, "+", "-"):
            if isinstance(term, Leaf) and term.value in new and term.value not in fixed:
                changed = Fraction(new[term.value]) + (-rest if sign > 0 else rest)
                if changed <= 1:
                    changed += _evaluate(after.right)
                if changed.denominator == 1:
                    new[term.value] = str(changed)
                    return True
        return False
    return True


def _plausible(old: Node, new: Node) -> bool:
    """Every intermediate result keeps its sign and stays whole where it was whole."""
    for before, after in zip(_operations(old), _operations(new), strict=True):
        was, now = _evaluate(before), _evaluate(after)
        if (was > 0) != (now > 0) or (was.denominator == 1 and now.denominator != 1) or (was == 0) != (now == 0):
            return False
    return True


def _rewritten(question: str, body: str, new: dict[Fraction, str]) -> tuple[str, str]:
    new_question = NUMBER.sub(lambda match: new[_value(match.group())], question)
    new_body = LITERAL.sub(lambda match: new.get(_value(match.group()), match.group()), body)
    return new_question, _program(new_question, new_body)


def resample_numbers(question: str, program: str, rng: random.Random) -> tuple[str, str] | None:
    """The question and program with new numbers, or None where the link is ambiguous or no plausible numbers were
    found.

    Equal values in question and program change together. Every intermediate result keeps its sign and stays whole
    where it
    was whole; numbers that differed still differ. The caller computes the new answer by running the new program.
    """
    try:
        old = _tree(program)
        body = _body(program)
    except (ValueError, SyntaxError, RecursionError, IndexError):
        return None
    texts: dict[Fraction, str] = {}
    values = [_value(match.group()) for match in NUMBER.finditer(question)]
    for match in NUMBER.finditer(question):
        texts.setdefault(_value(match.group()), match.group())
    used = {leaf.value for leaf in _leaves(old)}
    if not values or any(values.count(value) > 1 for value in used):
        return None
    for _ in range(ATTEMPTS):
        new = {value: _fresh(text, rng) for value, text in texts.items()}
        constants = used - set(texts)
        try:
            if not _divisible(old, _renumbered(old, new), new) or not _plausible(old, _renumbered(old, new)):
                continue
        except ZeroDivisionError:
            continue
        fresh = {Fraction(text) for text in new.values()}
        if len(fresh) < len(new) or fresh & constants:
            continue
        return _rewritten(question, body, new)
    return None
