"""Batched forwards of a 2-label sequence classifier."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from yonder.models.padding import right_pad, token_batches, tokens_at_once

CLASSIFIER_TEXT = (
    "Question:\n{question}\nAnswer reasoning:\n{response}"  # the policy's own form, as [ReFT]'s reranker reads it
)


def classifier_tokens(tokenizer: PreTrainedTokenizerBase, question: str, response: str) -> list[int]:
    """The tokens a classifier reads; a decoder gets an end token, on which it is read."""
    text = CLASSIFIER_TEXT.replace("{question}", question).replace("{response}", response)
    ids = cast(list[int], tokenizer(text, split_special_tokens=True)["input_ids"])
    if tokenizer.eos_token_id is not None and ids[-1] not in tokenizer.all_special_ids:
        ids = [*ids, cast(int, tokenizer.eos_token_id)]
    return ids


@dataclass(slots=True)
class Classifier:
    """A classifier in training."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    value_head: nn.Linear | None = None  # never: what a checkpoint expects of everything trainable

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device


class LocalClassifier:
    """P(correct) for (question, response) pairs: softmax over the two labels of a sequence classifier ([ReFT])."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        correct_label: int,
        max_tokens: int,
        batch_tokens: int | None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.correct_label = correct_label
        self.max_tokens = max_tokens
        self.device = next(model.parameters()).device
        self.batch_tokens = tokens_at_once(batch_tokens, self.device)

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """P(correct) for each pair in order.

        None for a text over max_tokens (cutting would cut the scored token), and where the number is not finite.
        """

        def chance(logits: torch.Tensor) -> torch.Tensor:
            return logits.softmax(-1)[:, self.correct_label]

        return self._read(pairs, chance)

    def gaps(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """The logit of "correct" less the other's, whose sigmoid P(correct) is; None as in `probabilities`."""
        return self._read(pairs, self.gap)

    def gap(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, 2) -> (B,): the score of a reward model."""
        return logits[:, self.correct_label] - logits[:, 1 - self.correct_label]

    @torch.no_grad()
    def _read(
        self, pairs: Sequence[tuple[str, str]], number: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[float | None]:
        encoded = [classifier_tokens(self.tokenizer, question, response) for question, response in pairs]
        usable = [i for i, ids in enumerate(encoded) if len(ids) <= self.max_tokens]
        out: list[float | None] = [None] * len(pairs)
        for batch in token_batches([len(encoded[i]) for i in usable], self.batch_tokens):
            members = [usable[i] for i in batch]
            logits = classifier_logits(self.model, [encoded[i] for i in members], self.device)
            for i, value in zip(members, number(logits).tolist(), strict=True):
                out[i] = value if math.isfinite(value) else None
        return out


def classifier_logits(model: PreTrainedModel, sequences: list[list[int]], device: torch.device) -> torch.Tensor:
    """Two logits a sequence, fp32, (B, 2), at each sequence's last real token; pads are shown to the model by its
    own pad id."""
    tokens, mask = right_pad(sequences, device)
    tokens = tokens.masked_fill(mask == 0, cast(int, model.config.pad_token_id))
    return model(input_ids=tokens, attention_mask=mask).logits.float()
