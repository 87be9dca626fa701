"""Fitting a judge or a classifier: examples from labeled responses, the loss, accuracy on held-out questions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt
from yonder.models.classifier import Classifier, LocalClassifier, classifier_tokens
from yonder.models.policy import Policy
from yonder.rewards.judge import strip_commentary
from yonder.schema import Response
from yonder.training.checkpoint import Trainable
from yonder.training.rollout import derived_seed
from yonder.training.sft_losses import ClassifierLoss, LanguageLoss
from yonder.training.supervised import BatchLoss, Example

ACCURACY, LIKELIHOOD = "held_out/accuracy", "held_out/log_likelihood"


@dataclass(frozen=True, slots=True)
class Trainee:
    """A judge or classifier to be fitted."""

    model: Trainable
    loss: BatchLoss
    examples: Callable[[Sequence[Response]], list[Example]]
    quality: Callable[[Sequence[Response]], Callable[[], dict[str, float]]]  # held-out responses -> a measurement


def judge_trainee(policy: Policy, judge: LocalJudge, bare: bool, solve_loss: float) -> Trainee:
    """A causal LM that learns to answer Yes or No. `bare`: it reads programs without comments and docstrings."""
    return Trainee(
        policy,
        LanguageLoss(policy, solve_loss),
        lambda responses: judge_examples(responses, judge.prompt, judge.max_tokens, bare),
        lambda responses: judge_quality(judge, responses, bare),
    )


def classifier_trainee(classifier: Classifier, scorer: LocalClassifier) -> Trainee:
    """A 2-class sequence classifier."""
    return Trainee(
        classifier,
        ClassifierLoss(classifier),
        lambda responses: classifier_examples(responses, scorer),
        lambda responses: classifier_quality(scorer, responses),
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


def judge_examples(responses: Sequence[Response], prompt: JudgePrompt, max_tokens: int, bare: bool) -> list[Example]:
    """The judge prompt as context and the label's token as target; the context of right responses teaches to solve."""
    examples: list[Example] = []
    for response in responses:
        shown = strip_commentary(response.response) if bare else response.response
        ids, truncated = prompt.tokens(response.question, shown, max_tokens)
        if not truncated:  # a cut response is not what its label speaks of
            label = prompt.labels.yes_ids[0] if response.correct else prompt.labels.no_ids[0]
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


def judge_quality(judge: LocalJudge, responses: Sequence[Response], bare: bool) -> Callable[[], dict[str, float]]:
    """On held-out responses: share whose likelier verdict fits the label, and mean log-probability of the right
    verdict."""
    pairs = [(r.question, strip_commentary(r.response) if bare else r.response) for r in responses]

    def measure() -> dict[str, float]:
        verdicts = judge.verdicts(pairs)
        signed = [v.logit_gap if r.correct else -v.logit_gap for v, r in zip(verdicts, responses, strict=True)]
        likelihood = [math.log(max(v.mass, 1e-9)) - softplus(-gap) for v, gap in zip(verdicts, signed, strict=True)]
        return {ACCURACY: mean([float(gap > 0) for gap in signed]), LIKELIHOOD: mean(likelihood)}

    return measure


def classifier_quality(classifier: LocalClassifier, responses: Sequence[Response]) -> Callable[[], dict[str, float]]:
    """On held-out responses: share on the right side of one half, and mean log-probability of the right label."""

    def measure() -> dict[str, float]:
        found = classifier.probabilities([(r.question, r.response) for r in responses])
        right = [p if r.correct else 1 - p for p, r in zip(found, responses, strict=True) if p is not None]
        return {
            ACCURACY: mean([float(p > 0.5) for p in right]),
            LIKELIHOOD: mean([math.log(max(p, 1e-9)) for p in right]),
        }

    return measure


def softplus(x: float) -> float:
    """log(1 + e^x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mean(values: Sequence[float]) -> float:
    """Mean; 0 for none."""
    return sum(values) / len(values) if values else 0.0
