r"""Read the final answer out of a text: a number or an option letter. Pure functions; None means that there is none.

Numbers (the forms that labels and models use, [ReFT]'s among them): -3, 1,000, $1,000, 18%, 1/2, 3 1/2, .5, 2e3,
<203>, **60**, \boxed{60}. A percent or currency sign is dropped: "18%" reads as 18, as in the labels of SVAMP.
"""

import math
import re
from collections.abc import Sequence

from yonder.rewards.latex import latex_inside, latex_number

_FIGURE = r"(?:(?:\d{1,3}(?:,\d{2,3}){0,6},\d{3}(?!,?\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?![\w.]))?|(?<!\d)\.\d+)"
_NUMBER = re.compile(  # neither a power or its exponent ("cm^2") nor a piece of a longer thing ("1.2.3")
    r"(?P<sign>(?<![\w)\].])[-+])?(?P<gap>\s?)(?:[$€£]\s?(?P<minus>-(?=\d))?)?(?<!\^)(?<!\^\{)(?<!\d)(?<!\d[./])"
    rf"(?:(?P<whole>\d+)\s+(?=\d+/\d))?(?P<top>{_FIGURE})(?![\d.]*\s?\^)(?:\s?/\s?(?P<bottom>{_FIGURE})(?![\d/]))?"
)
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "—": " - ", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⁄": "/", "×": "\\times ", "\u00a0": " "}
)
_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?!\d)")  # 12 000: spaces between thousands
_TIED = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_REACH = 300  # characters behind an anchor
_TRIES = 20  # anchors, from the last; both bounds keep the time small whatever the text
_MARKUP = ":*_\"'`([<{$=~≈ \t\r\n"
_ANCHOR = re.compile(
    r"\\boxed\s*\{|####|<answer>|\banswer\b[^\S\n]*[*_]*(?:is|was|equals)\b(?!\s+not\b)|\banswer\b[\s*_]*[:=]",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$)")


def read_number(label: str) -> float | None:
    """The number that a label is, as a whole ("1,000", "1/2", "18%", LaTeX); None for anything else ("None", "nan")."""
    text = _clean(_GROUPS.sub(_joined, label)).strip().strip("<>*").strip()
    match = _NUMBER.fullmatch(text.removesuffix(".").removesuffix("%").rstrip())
    return _value(match, spaced_sign=True) if match else latex_number(text)


def final_number(text: str) -> float | None:
    r"""The number that a text gives as its answer.

    The last anchor with a number decides: "the answer is", "answer:", "####", \boxed{}; what follows it is read up to
    the end of its sentence (300 characters at most), behind the last "=" there, first number. "answer:" must be
    followed by the number itself: a whole solution may stand behind it. A text without such an anchor gives its last
    number. Only finite numbers count.
    """
    text = _clean(text)
    for anchor in list(_ANCHOR.finditer(text))[: -_TRIES - 1 : -1]:
        number = _after(anchor, text)
        if number is not None:
            return number
    number = latex_inside(text.rstrip().rpartition("\n")[2][-_REACH:], last=True)
    if number is not None:
        return number
    for match in reversed(list(_NUMBER.finditer(text))):
        number = _value(match, spaced_sign=False)
        if number is not None:
            return number
    return None


def _joined(match: re.Match[str]) -> str:
    return "".join(match[0].split())


def _clean(text: str) -> str:
    text = _TIED.sub("", text).translate(_SIGNS)
    text = re.sub(r"\\[()\[\],!;]|\$\$", " ", text.replace("{,}", ",").replace(r"\$", "$").replace(r"\%", "%"))
    return re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}", r" \1 ", text)


def _after(anchor: re.Match[str], text: str) -> float | None:
    """The number that stands behind an anchor; None when its sentence has none."""
    rest = _GROUPS.sub(_joined, text[anchor.end() : anchor.end() + _REACH])
    if anchor.group().startswith("\\"):
        return _first(_braced(rest))
    rest = rest.lstrip(_MARKUP)
    if anchor.group()[-1] in ":=":
        sentence = _sentence(rest)
        match = _NUMBER.match(rest)
        expression = "\\" in sentence or "^" in sentence or not match
        number = latex_number(sentence) if expression else None
        return _value(match, spaced_sign=True) if number is None and match else number
    return _first(_sentence(rest))


def _sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def _braced(text: str) -> str:
    """Up to the brace that closes one already open; all of it when none does."""
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:i]
    return text


def _first(sentence: str) -> float | None:
    part = sentence.rpartition("=")[2]
    number = latex_inside(part)
    if number is not None:
        return number
    match = _NUMBER.search(part) or _NUMBER.search(sentence)
    return _value(match, spaced_sign=match.start() == 0) if match else None


def _value(match: re.Match[str], spaced_sign: bool) -> float | None:
    """Its finite value. "- 3" is negative only if `spaced_sign`; elsewhere that is a bullet or a difference."""
    top, bottom = float(match["top"].replace(",", "")), float((match["bottom"] or "1").replace(",", ""))
    if bottom == 0:
        return None
    value = top / bottom + float(match["whole"] or 0)
    signed = match["sign"] == "-" and (spaced_sign or not match["gap"])
    value = -value if signed or match["minus"] else value
    return value if math.isfinite(value) else None


LETTERS = "ABCDEFGHIJ"  # ten options at most, as in MMLU-Pro
_IS = r"(?:[\s*_]*(?:\b(?:is|would be|should be|must be)\b|[:=]))"
_LETTER = (
    r"[\s:*_\"'`(\[<>{$]*(?:\\text\w*\s*\{)?"
    rf"(?:(?:the\s+)?(?:option|choice|letter)\b{_IS}?[\s:*_\"'`(\[<{{$]*)?"
    r"(?P<letter>[A-Ja-j])(?P<close>\s?[)\]>}]|[*_.:\"'`])?(?![\w'’])"
)
_VERDICT = re.compile(
    rf"(?:\\boxed\s*\{{|####|\b(?:answer|ans|(?:correct|right|best)\s+(?:option|choice))\b{_IS}?){_LETTER}"
    r"|(?<![\w'’])(?P<subject>[A-Ja-j])[)\]*_]*\s+is\s+(?:therefore\s+|thus\s+)?(?:the\s+)?(?:correct|right|best|answer)\b",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    rf"\b(?:option|choice|choose|pick|select|hence|therefore|thus|so)\b{_IS}?{_LETTER}(?=\W*$)", re.IGNORECASE | re.M
)
_LABELED = re.compile(r"(?<!\w)(?<!not )\(([A-J])\)|^[ \t*_]*([A-J])[).:]", re.MULTILINE)
_CUT = re.compile(
    r"\b(?:because|since|as|not|rather|instead|while|whereas|but|which|so)\b|\n|[.!?;](?=\s|$)", re.IGNORECASE
)
_ALSO = re.compile(r"(?:^|[\s,/&(\[])(?P<letter>[A-J])(?=[)\],./\s]|$)")
_ALSO_SMALL = re.compile(r"(?:[,/&]|\bor\b|\band\b)\s*[(\[]?(?P<letter>[a-j])(?=[)\],./\s]|$)")
_ARTICLE = re.compile(r"\s+(?!(?:because|since|as|is|and|or|not|but|which)\b)[a-z]", re.IGNORECASE)
_OPERATOR = re.compile(r"\s*[\^+=/×*<>]\s*[\w(]|\(")


def read_letter(label: str, options: Sequence[str] = ()) -> str | None:
    """The option letter (capital) that a label is: "c", "(C)", "C." or an option's text; None for anything else."""
    text = label.strip()
    letter = text.strip("().:[] ").upper()
    if len(letter) == 1 and letter in _letters(options):
        return letter
    same = [i for i, option in enumerate(options[: len(LETTERS)]) if option.strip().casefold() == text.casefold()]
    return LETTERS[same[0]] if len(same) == 1 else None


def final_letter(text: str, options: Sequence[str] = ()) -> str | None:
    """The option (capital letter) that a text chooses; `options` are their texts, ten are assumed without them.

    In this order: the last verdict ("the answer is (C)", "answer: C", "#### C", boxed, "C is correct"); "option C", "we
    choose C", "hence C" at the end of a line, if only one letter is chosen so; a text with one labeled letter ("(C)
    Paris"); a last line which is the letter alone. A verdict that lists several letters, verdicts for every option in
    turn and listings of options choose nothing. "A" and "I" before another word are article and pronoun, not verdicts.
    """
    verdicts = [(match, letter) for match in _VERDICT.finditer(text) if (letter := _verdict(match, text))]
    letters = _letters(options)
    named = {letter for _, letter in verdicts}
    if verdicts:
        match, letter = verdicts[-1]
        every = len(options) > 2 and named >= set(letters)
        return letter if letter in letters and not every and not _lists_more(match, letter, text, options) else None
    chosen = {letter for match in _CHOSEN.finditer(text) if (letter := _verdict(match, text))}
    labeled = {a or b for a, b in _LABELED.findall(text)}
    alone = re.fullmatch(r"\W*([A-Ja-j])\W*", text.strip().rpartition("\n")[2])
    for found in (chosen, labeled if not chosen else set[str](), {alone[1].upper()} if alone else set[str]()):
        if len(found) == 1 and found <= set(letters):
            return found.pop()
    return None


def _letters(options: Sequence[str]) -> str:
    return LETTERS[: len(options)] if options else LETTERS


def _verdict(match: re.Match[str], text: str) -> str | None:
    """The letter of a match, capital; None where it is an article, a pronoun or a variable in a formula."""
    groups = match.groupdict()
    if groups.get("subject"):
        return groups["subject"].upper()
    rest = text[match.end() :]
    bare = not groups["close"] and text[match.start("letter") - 1] not in "([<{"
    if bare and ((groups["letter"] in "aAiI" and _ARTICLE.match(rest)) or _OPERATOR.match(rest)):
        return None
    return groups["letter"].upper()


def _lists_more(match: re.Match[str], letter: str, text: str, options: Sequence[str]) -> bool:
    """Whether the sentence of a verdict names another letter ("A or B", "(A) (B)"), outside the option's own text."""
    if not match.groupdict()["letter"]:
        return False
    rest = text[match.end() : match.end() + _REACH]
    own = options[_letters(options).index(letter)].strip() if options else ""
    stripped = rest.lstrip(")]>}*_ .:")
    if own and stripped.casefold().startswith(own.casefold()):
        rest = stripped[len(own) :]
    elif match["close"] == "." and not re.match(r"\s*[(\[]?[A-J][)\].,]", rest):
        return False
    rest = rest[: end.start()] if (end := _CUT.search(rest)) else rest
    pattern = _ALSO if match["letter"].isupper() else _ALSO_SMALL
    others = [m for m in pattern.finditer(rest) if not (m["letter"] in "AaI" and _ARTICLE.match(rest[m.end() :]))]
    return any(m["letter"].upper() != letter for m in others)
