"""Fitting a judge or a classifier: examples from labeled responses, the loss, accuracy on held-out questions."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from yonder.core.calibration import brier, ece, false_positive_rate
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt
from yonder.models.classifier import Classifier, LocalClassifier, classifier_tokens
from yonder.models.policy import Policy
from yonder.rewards.judge import JudgeRules, shown_pair
from yonder.schema import Response
from yonder.training.parts import Trainable
from yonder.training.rollout import derived_seed
from yonder.training.sft_losses import ClassifierLoss, LanguageLoss
from yonder.training.supervised import BatchLoss, Example

ACCURACY, LIKELIHOOD = "held_out/accuracy", "held_out/log_likelihood"
HELD_OUT = "held_out/"
SOURCE, LENGTH = f"{HELD_OUT}source/", f"{HELD_OUT}length/"
LENGTHS = ("short", "middle", "long")
LIKED = 0.5  # from this probability of Yes on a response counts as liked


class Quality(Protocol):
    """Held-out responses -> a measurement, repeated after every epoch; `sliced`: by source and by length too."""

    def __call__(self, responses: Sequence[Response], sliced: bool = False) -> Callable[[], dict[str, float]]:
        """A function that measures the weights as they then are."""
        ...


@dataclass(frozen=True, slots=True)
class Trainee:
    """A judge or classifier to be fitted."""

    model: Trainable
    loss: BatchLoss
    examples: Callable[[Sequence[Response]], list[Example]]
    quality: Quality
    pairs: Callable[[Sequence[Response]], Callable[[int], list[Example]]] | None = None  # where it learns from pairs:
    # responses -> epoch -> examples


def judge_trainee(policy: Policy, judge: LocalJudge, rules: JudgeRules, solve_loss: float) -> Trainee:
    """A causal LM that learns to answer Yes or No. `rules`: what of a question and a response it is shown."""
    return Trainee(
        policy,
        LanguageLoss(policy, solve_loss),
        lambda responses: judge_examples(responses, judge.prompt, judge.max_tokens, rules),
        lambda responses, sliced=False: judge_quality(judge, responses, rules, sliced),
    )


def classifier_trainee(classifier: Classifier, scorer: LocalClassifier) -> Trainee:
    """A 2-class sequence classifier."""
    return Trainee(
        classifier,
        ClassifierLoss(classifier),
        lambda responses: classifier_examples(responses, scorer),
        lambda responses, sliced=False: classifier_quality(scorer, responses, sliced),
    )


def split_by_question(
    responses: Sequence[Response], held_out: float, seed: int
) -> tuple[list[Response], list[Response]]:
    """Training and held-out responses; all responses of a question fall on one side, decided by (seed, question)."""
    sides: tuple[list[Response], list[Response]] = ([], [])
    for response in responses:
        share = derived_seed(seed, "held-out", response.question) / 2**56
        sides[share < held_out].append(response)
    return sides


def judge_examples(
    responses: Sequence[Response], prompt: JudgePrompt, max_tokens: int, rules: JudgeRules
) -> list[Example]:
    """The judge prompt as context and the label's token as target; the context of right responses teaches to solve."""
    examples: list[Example] = []
    for response in responses:
        question, shown = shown_pair(response, rules)
        ids, truncated = prompt.tokens(question, shown, max_tokens)
        if not truncated:  # a cut response is not what its label speaks of
            label = prompt.labels.yes_ids[0] if response.correct else prompt.labels.no_ids[0]
            right = bool(response.correct)
            examples.append(Example((*ids, label), target=len(ids), label=int(right), context=right))
    return examples


def classifier_examples(responses: Sequence[Response], classifier: LocalClassifier) -> list[Example]:
    """The classifier's text and its label."""
    right = classifier.correct_label
    encoded = [(classifier_tokens(classifier.tokenizer, r.question, r.response), bool(r.correct)) for r in responses]
    return [
        Example(tuple(ids), target=len(ids) - 1, label=right if correct else 1 - right)
        for ids, correct in encoded
        if len(ids) <= classifier.max_tokens
    ]


def judge_quality(
    judge: LocalJudge, responses: Sequence[Response], rules: JudgeRules, sliced: bool = False
) -> Callable[[], dict[str, float]]:
    """Figures of a judge on held-out responses; those that it cannot read are left out."""
    pairs = [shown_pair(response, rules) for response in responses]

    def measure() -> dict[str, float]:
        verdicts = judge.verdicts(pairs)
        read = [(v, r) for v, r in zip(verdicts, responses, strict=True) if math.isfinite(v.logit_gap)]
        signed = [v.logit_gap if r.correct else -v.logit_gap for v, r in read]
        likelihood = [math.log(max(v.mass, 1e-9)) - softplus(-gap) for (v, _), gap in zip(read, signed, strict=True)]
        found = {ACCURACY: mean([float(gap > 0) for gap in signed]), LIKELIHOOD: mean(likelihood)}
        probabilities, labels = [math.exp(-softplus(-v.logit_gap)) for v, _ in read], [bool(r.correct) for _, r in read]
        found |= calibration(probabilities, labels)
        return found | (slices([gap > 0 for gap in signed], probabilities, [r for _, r in read]) if sliced else {})

    return measure


def classifier_quality(
    classifier: LocalClassifier, responses: Sequence[Response], sliced: bool = False
) -> Callable[[], dict[str, float]]:
    """Figures of a classifier on held-out responses; those that it cannot read are left out."""

    def measure() -> dict[str, float]:
        probabilities = classifier.probabilities([(r.question, r.response) for r in responses])
        read = [(p, r) for p, r in zip(probabilities, responses, strict=True) if p is not None]
        return probability_figures([p for p, _ in read], [r for _, r in read], sliced)

    return measure


def probability_figures(
    probabilities: Sequence[float], responses: Sequence[Response], sliced: bool
) -> dict[str, float]:
    """Accuracy, likelihood and calibration of P(right) for labeled responses."""
    likelihood = [p if r.correct else 1 - p for p, r in zip(probabilities, responses, strict=True)]
    found = {
        ACCURACY: mean([float(p > 0.5) for p in likelihood]),
        LIKELIHOOD: mean([math.log(max(p, 1e-9)) for p in likelihood]),
    }
    found |= calibration(probabilities, [bool(r.correct) for r in responses])
    return found | (slices([p > 0.5 for p in likelihood], probabilities, responses) if sliced else {})


def slices(hits: Sequence[bool], probabilities: Sequence[float], responses: Sequence[Response]) -> dict[str, float]:
    """Brier's score; and accuracy and number of responses by who wrote them, and in thirds by length (characters)."""
    labels = [bool(response.correct) for response in responses]
    score = brier(probabilities, labels)
    found = {} if score is None else {f"{HELD_OUT}brier": score}
    order = sorted(range(len(responses)), key=lambda i: (len(responses[i].response), i))
    third = {index: LENGTHS[3 * rank // len(order)] for rank, index in enumerate(order)}
    for kind, names in ((SOURCE, [r.source for r in responses]), (LENGTH, [third[i] for i in range(len(responses))])):
        for name in LENGTHS if kind == LENGTH else sorted(set(names)):
            those = [hit for hit, other in zip(hits, names, strict=True) if other == name]
            if those:
                found[f"{kind}{name}/accuracy"], found[f"{kind}{name}/n"] = sum(those) / len(those), float(len(those))
    return found


def calibration(probabilities: Sequence[float], labels: Sequence[bool]) -> dict[str, float]:
    """Calibration error of P(right) and the share of wrong responses at one half or above; what has no case is left
    out."""
    figures = {
        f"{HELD_OUT}ece": ece(probabilities, labels),
        f"{HELD_OUT}false_positive_rate": false_positive_rate(probabilities, labels, LIKED),
    }
    return {name: value for name, value in figures.items() if value is not None}


def balanced(examples: Sequence[Example], seed: int, epoch: int) -> list[Example]:
    """All examples of the rarer label and as many of the other, drawn by (seed, epoch), in their order."""
    sides = [[i for i, example in enumerate(examples) if example.label == label] for label in (0, 1)]
    count, draw = min(len(side) for side in sides), random.Random(f"{seed}/{epoch}")
    return [examples[i] for i in sorted(i for side in sides for i in draw.sample(side, count))]


def softplus(x: float) -> float:
    """log(1 + e^x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mean(values: Sequence[float]) -> float:
    """Mean; 0 for none."""
    return sum(values) / len(values) if values else 0.0
