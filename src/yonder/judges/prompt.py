"""What a judge reads: the template, the chat turn around it, the student's text as plain text, the two label tokens."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, cast

from yonder.errors import ModelError, RecipeError
from yonder.models.encoding import chat_text
from yonder.models.loading import Tokenizer

CHARACTERS_A_TOKEN = 4  # of English text, where the tokenizer is not known
CONTROL = re.compile(  # the first sign of what looks like a control token; tokens that overlap are each found
    r"<(?=[^<>\s=-][^<>\s]{0,39}>)"  # <|im_end|> <s> </think> <｜User｜> <turn|> <unused42>, inside of <<SYS>>
    r"|\[(?=[a-z_/]*[A-Z])(?=(?:[_/]*[A-Za-z]){2})(?=[A-Za-z_/]{2,40}\])"  # [INST] [gMASK], and Optional[Path]
    r"|\[(?=\|[^|\[\]\s]{1,40}\|\])"  # [|user|] of EXAONE
    r"|\[(?=(?:control_|unused)\d{1,4}\])"  # of Mistral and BERT
    r"|\](?=~!?b[\[\]])|\[(?=e~\[)"  # of MiniMax
    r"|>(?=>[A-Z_]{2,40}<<)"  # >>QUESTION<< of Falcon
)
FENCE = "{fence}"
PLACES = ("{question}", "{response}")
PLACE = re.compile(r"(?<![\w\\{}$])\{[A-Za-z_]\w+\}(?!\})")  # {word}; not \boxed{word}, {{word}}, ${word} or {x}
TAIL_SHOWN = 40  # characters
SENTINELS = ("\u0001question\u0001", "\u0001response\u0001")


def read_judge_prompt(name: str) -> str:
    """The template of a shipped judge prompt or of a file; RecipeError when it lacks {question} or {response}."""
    return read_template(name, PLACES)


def read_template(name: str, places: tuple[str, ...], more: tuple[str, ...] = ()) -> str:
    """A shipped template or that of a file, which has all `places`, each once, in this order.

    {fence} may stand behind the first of them, and `more` anywhere. RecipeError for another one.
    """
    shipped = Path(str(resources.files("yonder") / "prompts" / f"{name}.txt"))
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.txt")))
        raise RecipeError(f"there is no judge prompt `{name}`; give a path, or one of: {have}")
    template = path.read_text(encoding="utf-8").rstrip(
        "\n"
    )  # editors end files with one; a prompt ends at its last word
    if unknown := [place for place in PLACE.findall(template) if place not in (*places, *more, FENCE)]:
        raise RecipeError(
            f"judge prompt {path}: nothing stands for {unknown[0]}; write {', '.join(places)} or {FENCE}, or "
            f"{{ {unknown[0][1:-1]} }} with spaces where these very words are meant"
        )
    for place in places:
        if template.count(place) != 1:
            raise RecipeError(f"judge prompt {path} must contain {place} exactly once")
    for before, after in pairwise(places):
        if template.index(before) > template.index(after):
            raise RecipeError(f"judge prompt {path} must show {before} before {after}")
    if FENCE in template and template.index(FENCE) < template.index(places[0]):
        raise RecipeError(f"judge prompt {path} must show {places[0]} before {FENCE}; what precedes it is shared")
    return template


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """The tokens that are read, as resolved through the real tokenizer and prompt: one a label, or all spellings of
    it."""

    yes_ids: tuple[int, ...]
    no_ids: tuple[int, ...]
    yes_texts: tuple[str, ...]
    no_texts: tuple[str, ...]


class Asked(NamedTuple):
    """One prompt as a server may want it."""

    ids: tuple[int, ...]  # empty: the server takes text only
    text: str
    truncated: bool
    reason: str = ""  # why it cannot be asked at all


class JudgePrompt:
    """A judge prompt for one tokenizer: fixed pieces of text around the question and the response.

    In the student's text every control token is spelled apart, so it cannot end its turn or speak for the judge. The
    whole text is encoded at once: its ids are those that a server makes of the same text.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: str, chat: str, labels: tuple[str, str], every_spelling: bool = False
    ) -> None:
        """ModelError where the tokenizer has no template or label tokens that can be told apart."""
        self.tokenizer = tokenizer
        has_template = bool(tokenizer.chat_template)
        if chat == "on" and not has_template:
            raise ModelError("the judge's tokenizer has no chat template; set the reward's `chat: off`")
        self.chat = has_template and chat != "off"
        self._controls = controls(tokenizer)
        text = template.replace("{question}", SENTINELS[0]).replace("{response}", SENTINELS[1])
        if self.chat:
            text = chat_text(tokenizer, [{"role": "user", "content": text}])
            if text.rstrip().endswith("<think>"):
                raise ModelError(
                    "the judge's chat template opens a think tag that cannot be switched off; use another judge"
                )
        head, rest = text.split(SENTINELS[0])
        middle, tail = rest.split(SENTINELS[1])
        self.rendered = head + "{question}" + middle + "{response}" + tail
        self._pieces = (head, middle, tail)
        self._control_ids = control_ids(tokenizer)
        self._own_controls = self._controls_in(self._encode(head + middle + tail, special=not self.chat))
        self.labels = self._labels(tail, labels, every_spelling)
        self.identity = f"{self.rendered}|{self.labels.yes_ids}|{self.labels.no_ids}"

    def tokens(self, question: str, response: str, limit: int) -> tuple[list[int], bool]:
        """The prompt's tokens, and whether the response was cut so that they fit `limit`.

        No tokens where the question alone leaves no room: a judge that reads no response cannot judge it.
        """
        _, ids, truncated = self._fitted(question, response, limit)
        return ids, truncated

    def before_answer(self, question: str) -> list[int]:
        """The question alone up to where an answer to it begins: a user's turn in the chat template, else a line."""
        head, tail = "", "\n"
        if self.chat:
            text = chat_text(self.tokenizer, [{"role": "user", "content": SENTINELS[0]}])
            head, tail = text.split(SENTINELS[0])
        return self._encode(head, special=not self.chat) + self.plain(question) + self._encode(tail)

    def asked(self, question: str, response: str, limit: int) -> Asked:
        """The prompt as token ids and as text, for servers. In the text every control token is spelled apart."""
        text, ids, truncated = self._fitted(question, response, limit)
        return Asked(tuple(ids), text, truncated) if ids else Asked((), "", True, too_long(limit))

    def sentence(self) -> str:
        """What is read, and after which words."""
        pairs = zip(
            [*self.labels.yes_texts, *self.labels.no_texts], [*self.labels.yes_ids, *self.labels.no_ids], strict=True
        )
        tokens = ", ".join(f"{text!r} ({i})" for text, i in pairs)
        return f"reads {tokens} after {self.rendered[-TAIL_SHOWN:]!r}"

    def _fitted(self, question: str, response: str, limit: int) -> tuple[str, list[int], bool]:
        """Text and tokens with as much of the response as fits, and whether it was cut; no tokens where none does."""
        fence, question = fence_of(question, response), apart(self._controls, question)
        shown = apart(self._controls, response)
        text, ids = self._whole(question, shown, fence)
        if len(ids) <= limit:
            return text, ids, False
        written = self._encode(shown)
        room = len(written)
        while len(ids) > limit:  # what is cut may merge differently with what follows, so it is counted again
            room -= len(ids) - limit
            if room <= 0:
                return "", [], True
            part = cast(str, self.tokenizer.decode(written[:room], clean_up_tokenization_spaces=False))
            text, ids = self._whole(question, apart(self._controls, part.rstrip("\ufffd")), fence)
        return text, ids, True

    def _whole(self, question: str, shown: str, fence: str) -> tuple[str, list[int]]:
        """The prompt with both texts in it, and its tokens."""
        head, middle, tail = (piece.replace(FENCE, fence) for piece in self._pieces)
        text = head + question + middle + shown + tail
        ids = self._encode(text, special=not self.chat)
        if self._controls_in(ids) != self._own_controls:  # two texts that stand side by side spell a control token
            first = self._encode(head, special=not self.chat)
            ids = [*first, *(token for part in (question, middle, shown, tail) for token in self._encode(part))]
        return text, ids

    def _controls_in(self, ids: Sequence[int]) -> int:
        return sum(token in self._control_ids for token in ids)

    def _encode(self, text: str, special: bool = False) -> list[int]:
        ids = cast(list[int], self.tokenizer(text, add_special_tokens=special)["input_ids"])
        return ids[:-1] if special and ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def plain(self, text: str) -> list[int]:
        """Tokens of a text in which every control token is spelled out, also one that is not marked special
        (`</think>`): the text is encoded in pieces that end inside of it."""
        pieces, start = list[str](), 0
        for found in self._controls.finditer(text) if self._controls else ():
            pieces.append(text[start : found.start() + 1])
            start = found.start() + 1
        encoded = [
            cast(list[int], self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"])
            for piece in [*pieces, text[start:]]
        ]
        return [token for piece in encoded for token in piece]

    def _labels(self, tail: str, labels: tuple[str, str], every_spelling: bool) -> LabelTokens:
        """The first token of each label as it follows the tail: with a space in plain prompts, without in a chat turn.

        Every spelling: also with and without the space, in small letters and in capitals, where that is one token.
        """
        space = "" if self.chat or tail[-1:].isspace() else " "
        sides: list[dict[int, None]] = []
        for label in labels:
            side = {self._follows(tail, space + label): None}
            if every_spelling:
                for word in (label, label.lower(), label.upper()):
                    for spelled in (word, " " + word):
                        ids = self._encode(spelled)
                        side |= {ids[0]: None} if len(ids) == 1 else {}
            sides.append(side)
        if set(sides[0]) & set(sides[1]):
            raise ModelError(
                f"the judge's tokenizer begins `{labels[0]}` and `{labels[1]}` with one token; choose others (`yes`, "
                "`no`), or another judge"
            )
        yes, no = (tuple(side) for side in sides)
        yes_texts, no_texts = (tuple(cast(str, self.tokenizer.decode([i])) for i in side) for side in (yes, no))
        return LabelTokens(yes, no, yes_texts, no_texts)

    def _follows(self, tail: str, label: str) -> int:
        """The token that begins the label right after the tail; alone where the two would merge into one token."""
        before, whole = self._encode(tail), self._encode(tail + label)
        return (
            whole[len(before)]
            if len(whole) > len(before) and whole[: len(before)] == before
            else self._encode(label)[0]
        )


class WrittenPrompt:
    """A judge prompt for a server whose tokenizer is not known: text only, its length counted in characters."""

    def __init__(self, template: str, labels: tuple[str, str]) -> None:
        self.template = template
        self.labels = labels
        self.identity = f"{template}|{labels}"

    def sentence(self) -> str:
        """What is read, and after which words."""
        return f"reads {self.labels[0]!r}, {self.labels[1]!r} after {self.template[-TAIL_SHOWN:]!r}"

    def asked(self, question: str, response: str, limit: int) -> Asked:
        """The prompt as text, the response cut at about `limit` tokens of four characters."""
        room = limit * CHARACTERS_A_TOKEN - len(self.template) - len(question)
        if room <= 0:
            return Asked((), "", True, too_long(limit))
        template = self.template.replace(FENCE, fence_of(question, response))
        text = fill(template, apart(CONTROL, question), apart(CONTROL, response[:room]))
        return Asked((), text, len(response) > room)


def fence_of(question: str, response: str) -> str:
    """A mark that no response can contain: it depends on the whole response, so that writing it changes it. The same
    text always gets the same mark, and so the same verdict."""
    return hashlib.sha256(f"{len(question)}:{question}{response}".encode("utf-8", "surrogatepass")).hexdigest()[:12]


def apart(controls: re.Pattern[str] | None, text: str) -> str:
    """A text with a space inside every control token, for servers that read text."""
    return controls.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) if controls else text


def fill(template: str, question: str, response: str) -> str:
    """The template with both texts in it; what looks like a place in one of them stays text."""
    head, rest = template.split("{question}")
    middle, tail = rest.split("{response}")
    return head + question + middle + response + tail


def too_long(limit: int) -> str:
    """Why a question cannot be judged."""
    return f"the question alone fills the judge's {limit} tokens; raise `max_tokens`"


def control_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids of these added tokens."""
    return frozenset(i for i, token in tokenizer.added_tokens_decoder.items() if is_control(token.content))


def is_control(name: str) -> bool:
    """Runs of white space and single letters are no controls."""
    return len(name) > 1 and bool(name.strip())


def controls(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """What finds the added tokens of a tokenizer in a text."""
    names = {token.content for token in tokenizer.added_tokens_decoder.values() if is_control(token.content)}
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(re.escape(name) for name in longest_first)) if names else None
