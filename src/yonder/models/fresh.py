"""New models with random weights, by family."""

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from yonder.errors import ModelError
from yonder.recipe.models import FreshModel


def fresh_model(settings: FreshModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A causal language model of the family with random weights; its vocabulary is the tokenizer's. ModelError if
    heads do not fit."""
    config = fresh_config(settings, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed or 0)
        return AutoModelForCausalLM.from_config(config)


def fresh_config(settings: FreshModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Its configuration. ModelError if heads do not fit."""
    if settings.hidden_size % settings.heads:
        raise ModelError(
            f"hidden_size {settings.hidden_size} is not a multiple of heads {settings.heads}; change one of them"
        )
    if settings.family == "codegen" and settings.heads % 4:
        raise ModelError(f"codegen splits its heads in 4 parts; heads {settings.heads} is not a multiple of 4")
    vocabulary = len(tokenizer)
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    return AutoConfig.for_model(settings.family, vocab_size=vocabulary, **_shape(settings), **ids)


def _shape(settings: FreshModel) -> dict[str, Any]:
    """The family's own words for width, depth, heads and context; dropout off."""
    width, layers, heads, context = settings.hidden_size, settings.layers, settings.heads, settings.context
    if settings.family in ("gpt2", "codegen"):
        return {
            "n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": context, "n_ctx": context,
            "rotary_dim": width // heads, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
        }  # fmt: skip
    shape: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
    }
    if settings.family == "opt":
        return shape | {"ffn_dim": 4 * width, "word_embed_proj_dim": width, "dropout": 0.0, "attention_dropout": 0.0}
    return shape | {
        "intermediate_size": 4 * width if settings.family == "gemma" else (8 * width // 3 + 31) // 32 * 32,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
    }
