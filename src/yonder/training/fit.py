"""Examples for fitting a judge or a classifier, and its accuracy on held-out questions."""

from collections.abc import Callable, Sequence

from yonder.models.classifier import LocalClassifier, classifier_tokens
from yonder.models.judge import JudgePrompt, LocalJudge
from yonder.rewards.judge import strip_commentary
from yonder.schema import Response
from yonder.training.rollout import derived_seed
from yonder.training.supervised import Example


def split_by_question(responses: Sequence[Response], held_out: float, seed: int) -> tuple[list[Response], list[Response]]:
    """Training and held-out responses; all responses of a question fall on one side, decided by (seed, question)."""
    sides: tuple[list[Response], list[Response]] = ([], [])
    for response in responses:
        share = derived_seed(seed, "held-out", response.question) / 2**56
        sides[share < held_out].append(response)
    return sides


def judge_examples(
    responses: Sequence[Response], prompt: JudgePrompt, max_tokens: int, program: bool
) -> list[Example]:
    """The judge prompt as context and the label's token as target; the context of right responses teaches to solve."""
    examples: list[Example] = []
    for response in responses:
        shown = strip_commentary(response.response) if program else response.response
        ids, truncated = prompt.tokens(response.question, shown, max_tokens)
        if not truncated:
            label = prompt.labels.yes_id if response.correct else prompt.labels.no_id
            examples.append(Example((*ids, label), target=len(ids), context=bool(response.correct)))
    return examples


def classifier_examples(responses: Sequence[Response], classifier: LocalClassifier) -> list[Example]:
    """The classifier's text, and 1 for right responses."""
    encoded = [(classifier_tokens(classifier.tokenizer, r.question, r.response), bool(r.correct)) for r in responses]
    return [
        Example(tuple(ids), target=len(ids) - 1, label=int(correct))
        for ids, correct in encoded
        if len(ids) <= classifier.max_tokens
    ]


def judge_accuracy(judge: LocalJudge, responses: Sequence[Response], program: bool) -> Callable[[], float]:
    """Share of held-out responses whose verdict (Yes or No, whichever is likelier) fits the label."""

    def measure() -> float:
        pairs = [(r.question, strip_commentary(r.response) if program else r.response) for r in responses]
        verdicts = judge.verdicts(pairs)
        return share([(v.logit_gap > 0) == r.correct for v, r in zip(verdicts, responses, strict=True)])

    return measure


def classifier_accuracy(classifier: LocalClassifier, responses: Sequence[Response]) -> Callable[[], float]:
    """Share of held-out responses on the right side of one half."""

    def measure() -> float:
        found = classifier.probabilities([(r.question, r.response) for r in responses])
        return share([p is not None and (p > 0.5) == r.correct for p, r in zip(found, responses, strict=True)])

    return measure


def share(hits: Sequence[bool]) -> float:
    """Mean of booleans; 0 for none."""
    return sum(hits) / len(hits) if hits else 0.0
