r"""Read the final answer out of a text: a number or an option letter. Pure functions; None means that there is none.

Numbers (the forms that labels and models use, [ReFT]'s among them): -3, 1,000, $1,000, 18%, 1/2, 3 1/2, .5, 2e3,
<203>, **60**, \boxed{60}. A percent or currency sign is dropped: "18%" reads as 18, as in the labels of SVAMP.
"""

import math
import re
from collections.abc import Sequence

from yonder.rewards.latex import last_latex, latex_inside, latex_number

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
    number, or a LaTeX expression of its last line with no number behind it. Only finite numbers count.
    """
    text = _clean(text)
    for anchor in list(_ANCHOR.finditer(text))[: -_TRIES - 1 : -1]:
        number = _after(anchor, text)
        if number is not None:
            return number
    number, behind = last_latex(text.rstrip().rpartition("\n")[2][-_REACH:])
    if number is not None and not _NUMBER.search(behind):
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
_SURELY = (
    r"(?:\s+(?:therefore|thus|then|hence|clearly|indeed|probably|definitely|actually|simply|still|"
    r"(?:most\s+)?likely)\b,?)*"
)
_IS = rf"(?:(?:,\s*(?:then|therefore|thus|hence),)?[\s*_]*(?:\b(?:is|would be|should be|must be)\b{_SURELY}|[:=：]))"
_OPEN = r"[\s:：*_\"'`(\[<>{$]*"
_LETTER = (
    rf"{_OPEN}(?:(?:the\s+)?(?:option|choice|letter)\b{_IS}?{_OPEN})?"
    r"(?P<letter>[A-Ja-j])(?P<close>\s?[)\]>}]|[*_.:\"'`])?(?![\w'’])"
)
_AMONG = r"(?:\s+(?:to|among|amongst|from|for|of|in|out|based|here|that|which)\b[^.\n:?!]{0,80}?)"
_RIGHTLY = re.compile(
    r"\b(?:is|would be|must be)\s+(?:(?:therefore|thus)\s+)?(?:the\s+)?(?:most\s+\w+\s+|only\s+)?"
    r"(?:correct|right|best|answer)\b(?!-|\s+(?:known|if|only\s+if|when|about|in|example)\b)",
    re.IGNORECASE,
)
_RIGHT = rf"\s+{_RIGHTLY.pattern}"
_VERDICT = re.compile(
    rf"(?:\\boxed\s*\{{|####|\b(?P<noun>answer|ans|(?:correct|right|best)\s+(?:option|choice|response|letter))\b(?:{_AMONG}?{_IS})?)"
    rf"{_LETTER}|(?<![\w'’])(?P<subject>[A-Ja-j])[)\]*_]*{_RIGHT}",
    re.IGNORECASE,
)
_BEFORE_SUBJECT = re.compile(  # "(C) is correct", "so C is correct"; not "statement I is correct", "vitamin C is best"
    r"(?:^|[^\w\s]\s*|\n\s*|\b(?:option|choice|answer|letter|so|thus|hence|therefore|that|only)\s+)$", re.IGNORECASE
)
_CHOSEN = re.compile(
    r"\b(?:option|choice|choose|pick|select|with|hence|therefore|thus|so|it\s+is|it['’]s|this\s+is|that\s+is)\b"
    rf"{_IS}?,?{_LETTER}(?=\W*$)",
    re.IGNORECASE | re.M,
)
_LABELED = re.compile(r"(?<!\w)(?<!not )\(([A-J])\)|^[ \t*_]*([A-J])[).:]", re.MULTILINE)
_LABELED_LINE = re.compile(r"[\W_]*([A-J])[)\].:*_]+\s*(.*)")
_CUT = re.compile(
    r"\b(?:because|since|as|not|rather|instead|while|whereas|but|which|so)\b|\n|[.!?;](?=\s|$)", re.IGNORECASE
)
_ALSO = re.compile(r"(?:^|[\s,/&(\[])(?P<letter>[A-J])(?=[)\],./\s]|$)")
_ALSO_SMALL = re.compile(r"(?:[,/&]|\bor\b|\band\b)\s*[(\[]?(?P<letter>[a-j])(?=[)\],./\s]|$)")
_ARTICLE = re.compile(  # this and the next two on the letter's own line: "Answer: A" may stand above anything
    r"[^\S\n]+(?!(?:because|since|as|is|and|or|not|but|which|rather|instead|due|given|while|whereas|so|if|when|based)\b)[a-z]",
    re.IGNORECASE,
)
_OPERATOR = re.compile(r"[^\S\n]*[\^+=/×*<>]\s*[\w(]|\(")
_JUDGED = re.compile(r"[^\S\n]+(?:is|was|are|would|could|can|may|might|does|has|seems)\b", re.IGNORECASE)
_IS_RIGHT = re.compile(_RIGHT, re.IGNORECASE)
_LABEL_BEFORE = re.compile(r"(?<!\w)([a-j])[)\].:,*]*\s*[\"'*(]*$")
_FONT = re.compile(r"\\(?:text\w*|math(?:rm|bf|sf|it|tt)|bf|rm)\s*\{([^{}]*)\}")
_CLOSING = ")]>}*_ .:,\"'`(\n$"
_DASHES = "-–—"
_QUOTES = str.maketrans(dict.fromkeys("“”„«»", '"') | dict.fromkeys("‘’", "'"))


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

    What stands before `</think>` is not read. In this order: the last verdict ("the answer is (C)", "answer: C",
    "#### C", boxed, "C is correct", "C, Paris, is the best answer"); a last line which is the letter alone, or with its
    own text; "option C", "we choose C", "hence C" at the end of the last line, or of any line if only one letter is
    chosen so; a text with one labeled letter ("(C) Paris"). A verdict that lists several letters, verdicts for every
    option in turn and listings of options choose nothing. "A" and "I" before another word are article and pronoun,
    "statement I is correct" and "answer A is wrong" are no verdicts.
    """
    text = _plain(text.rpartition("</think>")[2] if text.rpartition("</think>")[2].strip() else text)
    own = [_plain(option).strip().rstrip(".") for option in options[: len(LETTERS)]]
    letters = _letters(options)
    verdicts = [(match, letter) for match in _VERDICT.finditer(text) if (letter := _verdict(match, text))]
    told = _own_text_is_right(text, own)
    if told and (not verdicts or told[-1][0] >= verdicts[-1][0].end()):
        return told[-1][1]
    if verdicts:
        match, letter = verdicts[-1]
        every = len(options) > 2 and {letter for _, letter in verdicts} >= set(letters)
        return letter if letter in letters and not every and not _lists_more(match, letter, text, own) else None
    lines = [line for line in text.splitlines() if line.strip()]
    chosen = [(match.end(), letter) for match in _CHOSEN.finditer(text) if (letter := _verdict(match, text))]
    last_start = len(text.rstrip()) - len(lines[-1].rstrip()) if lines else 0
    labeled = {a or b for a, b in _LABELED.findall(text)}
    for group in (
        _last_line(lines, own),
        {letter for end, letter in chosen if end > last_start},
        {letter for _, letter in chosen},
        labeled if not chosen else set[str](),
    ):
        if len(group) == 1 and group <= set(letters):
            return group.pop()
    return None


def _plain(text: str) -> str:
    r"""Without LaTeX around letters: \text{C}, \(C\), (C)\ . Quotes of all kinds become plain ones."""
    return re.sub(r"(?:\\[()\[\],!; ]|[ \t])+", " ", _FONT.sub(r"\1", _FONT.sub(r"\1", text))).translate(_QUOTES)


def _letters(options: Sequence[str]) -> str:
    return LETTERS[: len(options)] if options else LETTERS


def _own_text_is_right(text: str, own: Sequence[str]) -> list[tuple[int, str]]:
    """Where "(C) Paris is the correct answer" ends, with an option's own text between letter and verdict."""
    found: list[tuple[int, str]] = []
    longest = min(max(map(len, own), default=0), 4 * _REACH) + 20
    for match in _RIGHTLY.finditer(text):
        before = text[max(0, match.start() - longest) : match.start()].rstrip(_CLOSING).casefold()
        for letter, option in zip(LETTERS, own, strict=False):
            shown = option.rstrip(_CLOSING).casefold()
            if shown and before.endswith(shown):
                label = _LABEL_BEFORE.search(before.removesuffix(shown))
                found += [(match.end(), letter)] if label and label[1].upper() == letter else []
    return found


def _last_line(lines: Sequence[str], own: Sequence[str]) -> set[str]:
    """The letter of a last line that is the letter alone, or the letter and its own text below no such line."""
    last = lines[-1] if lines else ""
    if alone := re.fullmatch(r"[\W_]*([A-Ja-j])[\W_]*", last):
        return {alone[1].upper()}
    label = _LABELED_LINE.fullmatch(last)
    if label is None or (len(lines) > 1 and _LABELED_LINE.fullmatch(lines[-2])):
        return set()
    place = LETTERS.index(label[1])
    text = label[2].strip(_CLOSING).casefold()
    return {label[1]} if place < len(own) and text == own[place].strip(_CLOSING).casefold() else set()


def _verdict(match: re.Match[str], text: str) -> str | None:
    """The letter of a match, capital; None where it is an article, a pronoun, a variable in a formula, or named without
    being chosen."""
    groups = match.groupdict()
    if groups.get("subject"):
        before = text[max(0, match.start("subject") - 20) : match.start("subject")]
        return groups["subject"].upper() if _BEFORE_SUBJECT.search(before) else None
    rest = text[match.end() :][:_REACH]
    bare = not groups["close"] and text[match.start("letter") - 1] not in "([<{"
    if bare and ((groups["letter"] in "aAiI" and _ARTICLE.match(rest)) or _OPERATOR.match(rest)):
        return None
    gap = text[match.end("noun") : match.start("letter")] if groups.get("noun") else "#"
    if not gap.strip(" ([*") and _JUDGED.match(rest) and not _IS_RIGHT.match(rest):
        return None  # "answer A is wrong"
    return groups["letter"].upper()


def _lists_more(match: re.Match[str], letter: str, text: str, own: Sequence[str]) -> bool:
    """Whether the sentence of a verdict names another letter ("A or B", "(A) (B)"), outside the option's own text."""
    if not match.groupdict().get("letter"):
        return False
    rest = text[match.end() : match.end() + _REACH]
    option = own[LETTERS.index(letter)].lstrip(_CLOSING + _DASHES) if own else ""
    stripped = text[match.end() :][: _REACH + len(option)].lstrip(_CLOSING + _DASHES)
    if option and stripped.casefold().startswith(option.casefold()):
        rest = stripped[len(option) :]
    elif match["close"] == "." and not re.match(r"\s*[(\[]?[A-J][)\].,]", rest):
        return False
    rest = rest[: end.start()] if (end := _CUT.search(rest)) else rest
    pattern = _ALSO if match["letter"].isupper() else _ALSO_SMALL
    others = [m for m in pattern.finditer(rest) if not (m["letter"] in "AaI" and _ARTICLE.match(rest[m.end() :]))]
    return any(m["letter"].upper() != letter for m in others)
