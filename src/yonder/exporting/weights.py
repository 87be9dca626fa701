"""A stage's model, tokenizer and generation settings in Hugging Face format."""

import shutil
from pathlib import Path
from typing import Any, cast

import torch

from yonder.errors import ModelError
from yonder.exporting.choosing import Chosen
from yonder.models.bases import base_of
from yonder.models.loading import Tokenizer, load_causal_lm, load_classifier, load_tokenizer
from yonder.storage import read_json

VALUE_HEAD = "value_head.pt"


def save_weights(chosen: Chosen, folder: Path, dtype: str | None, value_head: bool) -> dict[str, Any]:
    """Save whole weights, an adapter merged in, with the tokenizer; returns the facts for the card.

    `dtype`: type of the weights; None: as the stage left them. `value_head`: PPO's, as a file beside them. ModelError
    where there is none.
    """
    head = chosen.model / VALUE_HEAD
    if value_head and not head.is_file():
        raise ModelError(f"stage {chosen.stage.name} has no value head; leave --value-head out")
    tokenizer, stored = load_tokenizer(str(chosen.model)), _stored(chosen)
    if chosen.kind == "classifier":
        model = load_classifier(str(chosen.model), tokenizer, stored, torch.device("cpu"), fitted=True)
    else:
        model = load_causal_lm(str(chosen.model), tokenizer, stored, torch.device("cpu"))
        _set_generation(model, tokenizer, chosen)
    model = model.to(getattr(torch, dtype or stored))
    model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # the library lets their owner alone read them; a server may be another
        file.chmod((folder / "config.json").stat().st_mode)
    tokenizer.save_pretrained(folder)
    if value_head:
        shutil.copyfile(head, folder / VALUE_HEAD)
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "dtype": dtype or stored,
        "architecture": type(model).__name__,
        "chat_template": bool(tokenizer.chat_template),
        "value_head": value_head,
    }


def _stored(chosen: Chosen) -> str:
    """The type of the weights in the stage's files; of an adapter alone, that of what it stands on."""
    config = read_json(Path(base_of(chosen.model) or chosen.model) / "config.json")
    found = config.get("dtype", config.get("torch_dtype"))
    return found if found in ("float32", "bfloat16", "float16") else chosen.recipe.policy.dtype


def _set_generation(model: Any, tokenizer: Tokenizer, chosen: Chosen) -> None:
    """Greedy, as benchmarks are answered, with the recipe's limit; a judge writes one token."""
    settings = model.generation_config
    settings._from_model_config = False  # else a reader may make its own from config.json
    settings.do_sample, settings.temperature, settings.top_p, settings.top_k = False, None, None, None
    settings.max_new_tokens = chosen.recipe.policy.max_completion_tokens if chosen.kind == "policy" else 1
    settings.eos_token_id, settings.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    settings.bos_token_id = cast(int | None, tokenizer.bos_token_id)
