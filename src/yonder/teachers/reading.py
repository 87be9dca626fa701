"""A teacher's text as one of the policy's own responses, which verifier, vote, SFT and reward model can read."""

import re
from typing import NamedTuple

from yonder.core.syntax import parses
from yonder.data.augmentation import named_solution
from yonder.data.programs import HEADER, INDENT, solution_body
from yonder.data.tasks import CONCLUSION, without_ending
from yonder.recipe.data import TaskSettings
from yonder.rewards.answers import final_letter, final_number
from yonder.schema import Prompt
from yonder.teachers.prompt import plain_question

_TAG = r"(?:think|thinking|thought|thoughts|reasoning)"
_THOUGHT = re.compile(rf"<{_TAG}>.*?</{_TAG}>", re.DOTALL | re.IGNORECASE)
_OPEN = re.compile(rf"<{_TAG}>", re.IGNORECASE)
_CLOSE = re.compile(rf"</{_TAG}>", re.IGNORECASE)
_BLOCK = re.compile(r"^[ \t]*```[ \t]*\w*[ \t]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_BARE = re.compile(r"^(?:import |from \w+ import |def )", re.MULTILINE)
_VERDICT = re.compile(  # a last line that says the answer and nothing else
    r"\W*(?:(?:therefore|thus|so|hence)?,?\s*(?:the\s+)?(?:final\s+)?answer\b|\\boxed|####).{0,80}", re.IGNORECASE
)
_CONCLUDED = re.compile(r"^.*\bthe (?:final )?answer is:? *\S[^\n]*(?=\n)", re.MULTILINE | re.IGNORECASE)


class Reading(NamedTuple):
    """What became of a text."""

    response: str  # with the given prefix where it was read, else the text as it is
    finished: bool
    problem: str = ""  # why it could not be read


def read_answer(prompt: Prompt, task: TaskSettings, text: str, finished: bool, goes_on: bool) -> Reading:
    """A teacher's text as a response. `finished`: it ended by itself; `goes_on`: it continues the policy's own prompt.

    program: the function from a code block, or as it stands, below the given prefix. text, choice: the answer's ending
    is written as the task format writes it. open: the text. Thoughts between tags are removed first. A text that cannot
    be read is kept as it is, with the reason.
    """
    said = without_thoughts(text)
    if not said.strip():
        reason = "cut within its thoughts" if not finished else "only thoughts" if text.strip() else "empty"
        return Reading(said, finished, reason)
    if task.format == "open":
        return Reading(prompt.prefix + said.strip(), finished)
    if task.format == "program":
        return _continued(prompt, said, finished) if goes_on else _program(prompt, task, said, finished)
    return _concluded(prompt, task, said, finished, goes_on)


def without_thoughts(text: str) -> str:
    """Without what stands between tags of thinking; a template may have written the first tag, the end may be cut."""
    text = _THOUGHT.sub("", text)
    if closed := list(_CLOSE.finditer(text)):
        text = text[closed[-1].end() :]
    elif opened := _OPEN.search(text):
        text = text[: opened.start()]
    return text


def _program(prompt: Prompt, task: TaskSettings, text: str, finished: bool) -> Reading:
    """The function that a chat answer gives: of several blocks the last with a function that can be read."""
    programs = _programs(text)
    for program in reversed(programs):
        body = solution_body(program)
        if body is None and program.lstrip("\n").startswith(INDENT):
            body = solution_body(HEADER + program)  # the body alone
        if body is None:
            continue
        if task.numbers == "named":
            linked = named_solution(plain_question(prompt), HEADER + body)
            if linked is None:
                return Reading(prompt.prefix + body, True, "not one formula over the question's numbers")
            body = linked
        return Reading(prompt.prefix + body, True)
    if not finished:
        return Reading(text.strip(), False, "cut before its program ended")
    return Reading(text.strip(), True, "no function without arguments" if programs else "no Python program")


def _programs(text: str) -> list[str]:
    """The code blocks of a text; without one, what begins like a program, up to where it is none any more."""
    blocks = [match[1] for match in _BLOCK.finditer(text)]
    if blocks or not (start := _BARE.search(text)):
        return blocks
    lines = text[start.start() :].split("\n")
    for end in range(len(lines), 0, -1):
        program = "\n".join(lines[:end])
        if (end == len(lines) or not lines[end].startswith(INDENT)) and parses(program, whole=True):
            return [program]
    return ["\n".join(lines)]


def _continued(prompt: Prompt, text: str, finished: bool) -> Reading:
    """The body that continues the given prefix, up to the first line that is not its own."""
    lines = text.split("\n")
    if lines[0].strip() and not lines[0].startswith((" ", "\t")):
        lines[0] = INDENT + lines[0]  # servers may drop a first space
    inside = [bool(not line.strip() or line.startswith((" ", "\t"))) for line in lines]
    end = inside.index(False) if False in inside else len(lines)
    body = "\n".join(lines[:end]).rstrip()
    ended = finished or end < len(lines)
    if body and parses(HEADER + body, whole=True):
        return Reading(prompt.prefix + body, ended)
    return Reading(prompt.prefix + body, ended, "no Python program" if ended else "cut before its program ended")


def _concluded(prompt: Prompt, task: TaskSettings, text: str, finished: bool, goes_on: bool) -> Reading:
    """Reasoning and "Therefore, the answer is: 72"."""
    if goes_on and (first := _CONCLUDED.search(text)):
        text, finished = text[: first.end()], True  # what follows answers questions of its own making
    if not finished:
        return Reading(prompt.prefix + text.strip(), False, "cut before its answer")
    if task.format == "choice":
        answer = final_letter(text, prompt.options)
    else:
        number = final_number(text)
        answer = None if number is None else _written(number)
    if answer is None:
        problem = "no single option letter" if task.format == "choice" else "no number"
        return Reading(prompt.prefix + text.strip(), True, problem)
    reasoning = _reasoning(text.strip(), answer, prompt)
    return Reading(prompt.prefix + (f"{reasoning}\n{CONCLUSION}{answer}" if reasoning else CONCLUSION + answer), True)


def _reasoning(text: str, answer: str, prompt: Prompt) -> str:
    """A text without its last words where they only say the answer."""
    shorter = without_ending(text)
    if shorter != text:
        return shorter
    rest, _, last = text.rpartition("\n")
    said = final_letter(last, prompt.options) if prompt.options else final_number(last)
    same = said == answer if prompt.options else isinstance(said, float) and _written(said) == answer
    alone = re.fullmatch(r"\W*[\w.,]+\W*", last) is not None
    return rest.rstrip() if same and (alone or _VERDICT.fullmatch(last)) else text


def _written(number: float) -> str:
    """A number in figures: ten, and more where a large one needs them."""
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    short = f"{number:.10g}"
    return short if abs(float(short) - number) < 1e-6 else repr(number)
