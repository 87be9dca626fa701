"""The losses of supervised training on a micro-batch, divided by the counts of the whole batch."""

import torch
from torch import Tensor, nn

from yonder.models.classifier import Classifier, classifier_logits
from yonder.models.padding import right_pad
from yonder.models.policy import Policy
from yonder.training.supervised import Example


class LanguageLoss:
    """-log p of target tokens, mean over them ([J] section 2.1, SFT), plus `context_weight` times that of the tokens
    before."""

    def __init__(self, policy: Policy, context_weight: float) -> None:
        self.policy = policy
        self.context_weight = context_weight

    def __call__(self, part: list[Example], batch: list[Example]) -> Tensor:
        """The micro-batch's share of the batch's loss."""
        targets = max(1, sum(len(example.ids) - example.target for example in batch))
        context = max(1, sum(example.target - 1 for example in batch if example.context))
        device = self.policy.device
        tokens, attention = right_pad([example.ids for example in part], device)
        weights = torch.zeros(tokens.shape, dtype=torch.float32)
        for i, example in enumerate(part):
            if self.context_weight and example.context:
                weights[i, 1 : example.target] = self.context_weight / context
            weights[i, example.target : len(example.ids)] = 1 / targets
        weights = weights[:, 1:].to(device)
        read = weights > 0
        logits = self.policy.logits(tokens, attention, read)
        nll = nn.functional.cross_entropy(logits.float(), tokens[:, 1:][read], reduction="none")
        return (nll * weights[read]).sum()


class ClassifierLoss:
    """2-class cross-entropy at the last token, mean over sequences ([ReFT]'s reranker)."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def __call__(self, part: list[Example], batch: list[Example]) -> Tensor:
        """The micro-batch's share of the batch's loss."""
        device = self.classifier.device
        logits = classifier_logits(self.classifier.model, [list(example.ids) for example in part], device)
        labels = torch.tensor([example.label for example in part], device=device)
        return nn.functional.cross_entropy(logits, labels, reduction="sum") / len(batch)
