"""The sizes of a model from its configuration alone: no weight is read or made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from yonder.core.memory import Linear, Shape
from yonder.errors import ModelError
from yonder.models.bases import base_of
from yonder.models.fresh import fresh_config
from yonder.models.loading import load_tokenizer, locate
from yonder.recipe.models import FreshModel, ModelReference

EAGER_SQUARES = 1  # the softmax, of attention without a fused kernel


def model_shape(reference: ModelReference, tokenizer: str | None = None, classifier: bool = False) -> Shape:
    """Sizes of a model. `tokenizer`: of a fresh one, whose vocabulary it is. ModelError when its configuration cannot
    be had."""
    config = _config(reference, tokenizer)
    kind: Any = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    if classifier:
        config.num_labels = 2
    try:
        with torch.device("meta"):
            model = cast(PreTrainedModel, kind.from_config(config))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the configuration of `{reference}` makes no model: {str(error).splitlines()[0]}") from error
    return _shape_of(model)


def longest(reference: ModelReference, tokenizer: str | None = None) -> int | None:
    """Longest sequence a model was made for, tokens."""
    found = getattr(_config(reference, tokenizer), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _config(reference: ModelReference, tokenizer: str | None) -> PreTrainedConfig:
    if isinstance(reference, FreshModel):
        return fresh_config(reference, load_tokenizer(reference, tokenizer))
    source = locate(reference)
    while (base := base_of(Path(source))) is not None:  # of an adapter
        source = locate(base)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the configuration of `{source}` cannot be had ({first}); give a folder with its config.json"
        ) from error


def _shape_of(model: PreTrainedModel) -> Shape:
    config: Any = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    keys = int(getattr(config, "num_key_value_heads", None) or heads)
    body = cast(nn.Module, getattr(model, model.base_model_prefix))
    matrices = tuple(_matrices(body))
    names = {matrix.name for matrix in matrices}
    kinds = {type(module).__name__ for module in body.modules()}
    return Shape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linears=matrices,
        layers=int(config.num_hidden_layers),
        hidden=int(config.hidden_size),
        heads=heads,
        query=heads * width,
        key=keys * width,
        inner=_inner(config),
        vocabulary=int(config.vocab_size),
        rms=any("RMSNorm" in kind for kind in kinds),
        gated="gate_proj" in names or "gate_up_proj" in names,
        activation=_activation(config),
        normed_queries=any(name.endswith("q_norm") for name, _ in body.named_modules()),
        square=0 if getattr(config, "_attn_implementation", "sdpa") != "eager" else EAGER_SQUARES,
    )


def _matrices(body: nn.Module) -> Iterator[Linear]:
    for name, module in body.named_modules():
        if isinstance(module, nn.Linear):
            yield Linear(name.rpartition(".")[2], module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            yield Linear(name.rpartition(".")[2], int(module.weight.shape[0]), int(module.weight.shape[1]))


def _activation(config: Any) -> int:
    """Tensors that it keeps: gelu_new is written out in Python."""
    name = str(getattr(config, "hidden_act", None) or getattr(config, "activation_function", "silu"))
    return {"relu": 0, "gelu_new": 4}.get(name, 1)


def _inner(config: Any) -> int:
    """Width within the MLP, by the names that families have for it."""
    for name in ("intermediate_size", "ffn_dim", "n_inner"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return 4 * int(config.hidden_size)
