"""What a judge reads: the template, the chat turn around it, the student's text as plain text, the two label tokens."""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

from yonder.errors import ModelError, RecipeError
from yonder.models.encoding import chat_text
from yonder.models.loading import Tokenizer

SENTINELS = ("\u0001question\u0001", "\u0001response\u0001")


def read_judge_prompt(name: str) -> str:
    """The template of a shipped judge prompt or of a file; RecipeError when it lacks {question} or {response}."""
    shipped = Path(str(resources.files("yonder") / "prompts" / f"{name}.txt"))
    path = shipped if shipped.is_file() else Path(name)
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.txt")))
        raise RecipeError(f"there is no judge prompt `{name}`; give a path, or one of: {have}")
    template = path.read_text(encoding="utf-8")
    for place in ("{question}", "{response}"):
        if template.count(place) != 1:
            raise RecipeError(f"judge prompt {path} must contain {place} exactly once")
    if template.index("{question}") > template.index("{response}"):
        raise RecipeError(f"judge prompt {path} must show {{question}} before {{response}}")
    return template


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """The two tokens that are read, as resolved through the real tokenizer and prompt."""

    yes_id: int
    no_id: int
    yes_text: str
    no_text: str


class JudgePrompt:
    """A judge prompt for one tokenizer: fixed pieces of text around the question and the response.

    The student's text is encoded on its own, with control tokens as plain text, so it cannot end its turn or speak
    for the judge.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, chat: str, labels: tuple[str, str]) -> None:
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
        self.head = self._encode(head, special=not self.chat)
        self.middle = self._encode(middle)
        self.tail = self._encode(tail)
        self.labels = self._labels(tail, labels)

    def tokens(self, question: str, response: str, limit: int) -> tuple[list[int], bool]:
        """The prompt's tokens, and whether the response was cut so that they fit `limit`.

        No tokens where the question alone leaves no room: a judge that reads no response cannot judge it.
        """
        fixed = self.head + self._plain(question) + self.middle
        response_ids = self._plain(response)
        room = limit - len(fixed) - len(self.tail)
        if room <= 0:
            return [], True
        return fixed + response_ids[:room] + self.tail, len(response_ids) > room

    def solved(self, question: str, response: str) -> list[int]:
        """Question and response alone, for a judge that also learns to solve."""
        return self.head + self._plain(question) + self.middle + self._plain(response)

    def _encode(self, text: str, special: bool = False) -> list[int]:
        ids = cast(list[int], self.tokenizer(text, add_special_tokens=special)["input_ids"])
        return ids[:-1] if special and ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def _plain(self, text: str) -> list[int]:
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

    def _labels(self, tail: str, labels: tuple[str, str]) -> LabelTokens:
        """The first token of each label as it follows the tail (with a space in plain prompts, without in a chat
        turn)."""
        found: list[int] = []
        for label in labels:
            spelled = label if self.chat or tail[-1:].isspace() else " " + label
            found.append(self._encode(spelled)[0])
        if found[0] == found[1]:
            raise ModelError(
                f"the judge's tokenizer begins `{labels[0]}` and `{labels[1]}` with one token; choose other labels"
            )
        yes_text, no_text = (cast(str, self.tokenizer.decode([i])) for i in found)
        return LabelTokens(found[0], found[1], yes_text, no_text)


def controls(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """What finds the added tokens of a tokenizer in a text; runs of white space and single letters are no controls."""
    names = {token.content for token in tokenizer.added_tokens_decoder.values()}
    names = {name for name in names if len(name) > 1 and name.strip()}
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(re.escape(name) for name in longest_first)) if names else None
