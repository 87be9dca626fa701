"""Prompts that show a judge two responses: they stand where a judge prompt has one."""

from typing import cast

from yonder.judges.prompt import (
    CHARACTERS_A_TOKEN,
    CONTROL,
    FENCE,
    Asked,
    JudgePrompt,
    WrittenPrompt,
    apart,
    fence_of,
    read_template,
    too_long,
)
from yonder.models.loading import Tokenizer
from yonder.rewards.preference import pair_of

PLACES = ("{question}", "{first}", "{second}")


def read_preference_prompt(name: str) -> tuple[str, str]:
    """A shipped template or a file with {question}, {first} and {second}: the template with {response} in place of what
    reaches from the first to the second response, and the text between the two. RecipeError as `read_judge_prompt`."""
    head, rest = read_template(name, PLACES).split("{first}")
    between, tail = rest.split("{second}")
    return head + "{response}" + tail, between


class PreferencePrompt(JudgePrompt):
    """A preference prompt for one tokenizer; the response is a `pair_text`."""

    def __init__(
        self, tokenizer: Tokenizer, template: str, between: str, chat: str, labels: tuple[str, str], every: bool = False
    ) -> None:
        super().__init__(tokenizer, template, chat, labels, every)
        self._between = between
        self.rendered = self.rendered.replace("{response}", "{first}" + between + "{second}")
        self.identity = f"{self.rendered}|{self.labels.yes_ids}|{self.labels.no_ids}"

    def _fitted(self, question: str, response: str, limit: int) -> tuple[str, list[int], bool]:
        """Text and tokens with as much of both responses as fits, the longer one cut first."""
        fence, pair = fence_of(question, response), pair_of(response)
        question = apart(self._controls, question)
        written = [self._encode(apart(self._controls, text)) for text in pair]

        def fill(room: int | None) -> tuple[str, list[int]]:
            shown = [self._cut(text, ids, room) for text, ids in zip(pair, written, strict=True)]
            return self._whole(question, shown[0] + self._between.replace(FENCE, fence) + shown[1], fence)

        text, ids = fill(None)
        cut = len(ids) > limit
        room = max(map(len, written))
        while len(ids) > limit:
            room = min(room, max(map(len, written))) - max(1, (len(ids) - limit) // 2)
            if room <= 0:
                return "", [], True
            text, ids = fill(room)
        return text, ids, cut

    def _cut(self, text: str, ids: list[int], room: int | None) -> str:
        if room is not None and len(ids) > room:
            text = cast(str, self.tokenizer.decode(ids[:room], clean_up_tokenization_spaces=False)).rstrip("\ufffd")
        return apart(self._controls, text)


class WrittenPreference(WrittenPrompt):
    """A preference prompt for a server whose tokenizer is not known."""

    def __init__(self, template: str, between: str, labels: tuple[str, str]) -> None:
        super().__init__(template.replace("{response}", "{first}" + between + "{second}"), labels)

    def asked(self, question: str, response: str, limit: int) -> Asked:
        """The prompt as text, both responses cut alike at about `limit` tokens of four characters."""
        pair = pair_of(response)
        room = limit * CHARACTERS_A_TOKEN - len(self.template) - len(question)
        if room <= 0:
            return Asked((), "", True, too_long(limit))
        shorter = min(map(len, pair))
        each = max(room // 2, room - shorter)  # what the shorter one leaves is the longer one's
        cut = sum(map(len, pair)) > room
        texts = (question, *(text[:each] if cut else text for text in pair))
        template = self.template.replace(FENCE, fence_of(question, response))
        return Asked((), fill_places(template, PLACES, [apart(CONTROL, text) for text in texts]), cut)


def fill_places(template: str, places: tuple[str, ...], texts: list[str]) -> str:
    """The template with a text in each place, in their order; what looks like a place in a text stays text."""
    out, rest = "", template
    for place, text in zip(places, texts, strict=True):
        before, rest = rest.split(place, 1)
        out += before + text
    return out + rest
