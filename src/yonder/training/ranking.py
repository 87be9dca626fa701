"""Fitting a classifier on pairs of responses to one question: examples, loss and figures ([R]'s Bradley-Terry)."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from yonder.core.ranking import bradley_terry_loss, centring_penalty, pair_figures, ranked_pairs
from yonder.models.classifier import Classifier, LocalClassifier, classifier_logits, classifier_tokens
from yonder.schema import Response
from yonder.training.fit import HELD_OUT, LIKELIHOOD, Trainee, probability_figures, softplus
from yonder.training.supervised import Example

PAIR_ACCURACY = f"{HELD_OUT}pair_accuracy"


@dataclass(frozen=True, slots=True)
class Pairs:
    """What of a question's responses is compared."""

    margin: float  # least difference of two grades
    most: int  # pairs of a question in an epoch
    seed: int


def ranking_trainee(classifier: Classifier, scorer: LocalClassifier, pairs: Pairs, centre: float) -> Trainee:
    """A classifier whose logit difference ranks responses; it is used as any other classifier."""
    return Trainee(
        classifier,
        RankingLoss(classifier, scorer, centre),
        lambda responses: pair_examples(responses, scorer, pairs)(0),
        lambda responses, sliced=False: ranking_quality(scorer, responses, pairs, sliced),
        lambda responses: pair_examples(responses, scorer, pairs),
    )


class RankingLoss:
    """The mean Bradley-Terry loss of the batch's pairs and `centre` times their distance from 0; s is the logit of
    "correct" less the other's."""

    def __init__(self, classifier: Classifier, scorer: LocalClassifier, centre: float) -> None:
        self.classifier = classifier
        self.scorer = scorer
        self.centre = centre

    def __call__(self, part: list[Example], batch: list[Example]) -> Tensor:
        """The micro-batch's share of the batch's loss. An example is both texts, the better up to `target`."""
        texts = [list(e.ids[: e.target]) for e in part] + [list(e.ids[e.target :]) for e in part]
        logits = classifier_logits(self.classifier.model, texts, self.classifier.device)
        better, worse = self.scorer.gap(logits).chunk(2)
        losses = bradley_terry_loss(better, worse) + self.centre * centring_penalty(better, worse)
        return losses.sum() / len(batch)


def pair_examples(
    responses: Sequence[Response], scorer: LocalClassifier, pairs: Pairs
) -> Callable[[int], list[Example]]:
    """Epoch -> its pairs: at most `most` of a question, drawn anew in each epoch where there are more."""
    readable = [(r, tuple(classifier_tokens(scorer.tokenizer, r.question, r.response))) for r in responses]
    readable = [(response, ids) for response, ids in readable if len(ids) <= scorer.max_tokens]
    groups = [
        (question, [(readable[i][1], readable[j][1]) for i, j in found])
        for question, found in grouped([response for response, _ in readable], pairs.margin).items()
    ]

    def epoch(number: int) -> list[Example]:
        examples: list[Example] = []
        for question, those in groups:
            draw = random.Random(f"{pairs.seed}/{number}/{question}")
            chosen = those if len(those) <= pairs.most else draw.sample(those, pairs.most)
            examples += [Example((*better, *worse), target=len(better)) for better, worse in chosen]
        return examples

    return epoch


def grouped(responses: Sequence[Response], margin: float) -> dict[str, list[tuple[int, int]]]:
    """Question -> its (better, worse) pairs, indices into `responses`; questions without a pair are left out."""
    members: dict[str, list[int]] = {}
    for i, response in enumerate(responses):
        members.setdefault(response.question, []).append(i)
    found: dict[str, list[tuple[int, int]]] = {}
    for question, those in members.items():
        of = [responses[i] for i in those]
        ranked = ranked_pairs([r.grade for r in of], [r.correct for r in of], margin)
        if ranked:
            found[question] = [(those[i], those[j]) for i, j in ranked]
    return found


def ranking_quality(
    scorer: LocalClassifier, responses: Sequence[Response], pairs: Pairs, sliced: bool
) -> Callable[[], dict[str, float]]:
    """Figures as of any classifier; besides, how many held-out pairs are in order. Their likelihood is the one that
    chooses the checkpoint, where there is a pair."""
    ranked = [pair for found in grouped(responses, pairs.margin).values() for pair in found]

    def measure() -> dict[str, float]:
        gaps = scorer.gaps([(r.question, r.response) for r in responses])
        read = [(gap, response) for gap, response in zip(gaps, responses, strict=True) if gap is not None]
        found = probability_figures([sigmoid(gap) for gap, _ in read], [response for _, response in read], sliced)
        both = [(a, b) for i, j in ranked if (a := gaps[i]) is not None and (b := gaps[j]) is not None]
        if both:
            found[PAIR_ACCURACY], found[LIKELIHOOD] = pair_figures(both)
        return found

    return measure


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return math.exp(-softplus(-x))
