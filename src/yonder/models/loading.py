"""From a model reference to weights and tokenizer. Nothing from a hub is ever executed: `trust_remote_code` stays
off."""

import importlib.util
import logging
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
import transformers
import transformers.core_model_loading
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from yonder.errors import ModelError
from yonder.models.bases import CONFIG_FILE, base_of
from yonder.models.fresh import fresh_model
from yonder.models.lora import fold_adapter
from yonder.recipe.models import FreshModel, ModelReference

Tokenizer = PreTrainedTokenizerBase
CausalLM = PreTrainedModel

transformers.utils.logging.disable_progress_bar()  # ours show what matters
LISTED = 4  # lines of an error of which the first only announces the others
NO_KERNEL = "Failed to load CPU gemm_4bit_forward"  # bitsandbytes on import: a faster kernel that nobody asked for


LOAD_REPORT = " LOAD REPORT"  # transformers' table of weights not found; ours is an error or one line
log = logging.getLogger("yonder")


def _of_use(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not message.startswith(NO_KERNEL) and LOAD_REPORT not in message


for _logger in ("bitsandbytes.backends.cpu.ops", "transformers.modeling_utils"):
    logging.getLogger(_logger).addFilter(_of_use)


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one; any other name is taken as written. ModelError when it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"there is no device `{name}`; use auto, cpu or cuda") from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device `{name}` is not usable here: {str(error).splitlines()[0]}; use auto or cpu"
        ) from error
    return device


def pick_devices(names: str | tuple[str, ...]) -> list[torch.device | None]:
    """A device for each copy of a model; None where its layers are spread over all GPUs. ModelError as above."""
    listed = (names,) if isinstance(names, str) else names
    return [None if name == "spread" else pick_device(name) for name in listed]


def locate(reference: str) -> str:
    """The folder or hub name behind a reference; `yonder:NAME` is a folder inside the package."""
    if reference.startswith((".", "/", "~")) or reference.count("/") > 1:  # a path, never a hub name
        path = Path(reference).expanduser()
        if not path.is_dir():
            raise ModelError(f"there is no folder {path}; relative paths begin at {Path.cwd()}")
        return str(path)
    if not reference.startswith("yonder:"):
        return reference
    name = reference.removeprefix("yonder:")
    folder = Path(str(resources.files("yonder") / "assets" / name))
    if not folder.is_dir():
        have = sorted(path.name for path in folder.parent.iterdir() if (path / "tokenizer_config.json").is_file())
        raise ModelError(
            f"there are no shipped weights `{reference}`; there is: {', '.join('yonder:' + n for n in have)}"
        )
    return str(folder)


def load_tokenizer(reference: ModelReference, tokenizer: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or the one named instead. ModelError when it cannot be had, or has no end token."""
    if tokenizer is None and isinstance(reference, FreshModel):
        raise ModelError("a fresh model has no tokenizer of its own; set `tokenizer` (for example yonder:tokenizer)")
    source = locate(tokenizer if tokenizer is not None else cast(str, reference))
    try:
        loaded = cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(source, trust_remote_code=False))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(_unavailable("tokenizer", source, error)) from error
    if loaded.eos_token_id is None:  # Galactica's tokenizer names none; its model's configuration does
        _take_special_tokens(loaded, source)
    if loaded.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of `{source}` has no end-of-sequence token; set one in its tokenizer_config.json"
        )
    if loaded.pad_token_id is None:
        loaded.pad_token = loaded.eos_token  # padding is masked everywhere; its id never decides anything
    return loaded


def _take_special_tokens(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """End and padding token from the configuration of the model beside the tokenizer, where there is one."""
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in ("eos_token", "pad_token"):
        found = getattr(config, f"{name}_id", None)
        if getattr(tokenizer, f"{name}_id") is None and isinstance(found, int) and 0 <= found < len(tokenizer):
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(found))


def load_causal_lm(
    reference: ModelReference,
    tokenizer: PreTrainedTokenizerBase,
    dtype: str,
    device: torch.device | None,
    quantize: str = "none",
) -> PreTrainedModel:
    """A causal language model in evaluation mode (dropout off). ModelError when it cannot be had or does not fit the
    tokenizer.

    `device` None: layers over all GPUs. `quantize`: none, 4bit or 8bit, for weights that are not trained.
    """
    placed = device is None or quantize != "none"  # by the library, while it loads
    if isinstance(reference, FreshModel):
        if placed:
            raise ModelError("a fresh model is neither quantized nor spread over devices; save it and name its folder")
        model = fresh_model(reference, tokenizer).to(getattr(torch, dtype))
    else:
        options = _placement(device, dtype, quantize) if placed else {}
        source = locate(reference)
        if placed and (Path(source) / CONFIG_FILE).is_file():
            raise ModelError(f"{source} is an adapter, which is merged before weights are packed; name a merged folder")
        model = _with_adapter(source, dtype) if base_of(Path(source)) else _causal_lm(source, dtype, **options)
        fold_adapter(model)
    rows = cast(torch.Tensor, model.get_input_embeddings().weight).shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens but the model {rows} embeddings; they do not belong together"
        )
    return model.eval() if device is None or placed else _ready(model, device)


def load_classifier(
    reference: ModelReference,
    tokenizer: PreTrainedTokenizerBase,
    dtype: str,
    device: torch.device,
    seed: int = 0,
    fitted: bool = False,
) -> PreTrainedModel:
    """A 2-label sequence classifier in evaluation mode. A fresh model gets a new classification head on its trunk, and
    one without a head a new one drawn from `seed`; ModelError for that where it must be `fitted` already."""
    if isinstance(reference, FreshModel):
        trunk = fresh_model(reference, tokenizer)
        trunk.config.num_labels = 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(reference.seed or 0)
            try:
                model = cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(trunk.config))
            except ValueError as error:
                raise ModelError(
                    f"there is no sequence classifier of family `{reference.family}`; choose another"
                ) from error
        model = model.to(getattr(torch, dtype))
    else:
        source = locate(reference)
        if (Path(source) / CONFIG_FILE).is_file():
            raise ModelError(
                f"{source} is an adapter, and a classifier begins with whole weights; name a merged folder"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, missing = _from_pretrained(AutoModelForSequenceClassification, source, dtype, num_labels=2)
        if fitted and missing:
            raise ModelError(
                f"{source} is no classifier: its {missing[0]} would be random; name a model that was "
                "fitted as one, as a fit-judge stage with `output: classifier` does"
            )
        if inside := [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]:
            log.warning("%s: %d weights below its classification head start random: %s", source, len(inside), inside[0])
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    # the model is read at its last token that is not this one, which must therefore not be the end token
    model.config.pad_token_id = pad if pad != end else int(end == 0)
    return _ready(model, device)


def positions(model: PreTrainedModel) -> int | None:
    """Longest sequence that a model was made for, tokens; None where its configuration does not say."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        found = getattr(model.config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    return None


def require_packing(quantize: str, spread: bool = False) -> None:
    """ModelError where a package is missing that packs weights or spreads them over devices."""
    for package, needed in (("accelerate", spread or quantize != "none"), ("bitsandbytes", quantize != "none")):
        if needed and importlib.util.find_spec(package) is None:
            raise ModelError(
                f"quantized or spread models need the package {package}; pip install 'yonder-rl[quantize]'"
            )


def _placement(device: torch.device | None, dtype: str, quantize: str) -> dict[str, Any]:
    """How the library places and packs the weights. ModelError where a package is missing."""
    require_packing(quantize, device is None)
    options: dict[str, Any] = {"device_map": "auto" if device is None else {"": str(device)}}
    if quantize == "4bit":
        compute = getattr(torch, dtype)
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
        )
    if quantize == "8bit":
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    return options


def _ready(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """On its device, dropout off."""
    torch.nn.Module.to(model, device)
    return model.eval()


def _from_pretrained(kind: Any, source: str, dtype: str, **options: Any) -> tuple[PreTrainedModel, list[str]]:
    """A model of transformers, and its weights that were not found, which are random."""
    options |= {"dtype": getattr(torch, dtype), "trust_remote_code": False, "output_loading_info": True}
    try:
        model, found = kind.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(_unavailable("model", source, error)) from error
    return model, sorted(found["missing_keys"])


def _causal_lm(source: str, dtype: str, **options: Any) -> PreTrainedModel:
    """ModelError where a weight is missing: a random head writes noise, and a judge's would say it with confidence."""
    model, missing = _from_pretrained(AutoModelForCausalLM, source, dtype, **options)
    if missing:
        raise ModelError(
            f"`{source}` is no whole language model: its {missing[0]} would be random; name a model that was trained "
            "to write text"
        )
    return model


def _with_adapter(source: str, dtype: str) -> PreTrainedModel:
    """The model that an adapter stands on, with it."""
    model = _causal_lm(str(base_of(Path(source))), dtype)
    try:
        model.load_adapter(source)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ImportError) as error:
        raise ModelError(_unavailable("adapter", source, error)) from error
    return model


def _unavailable(what: str, source: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    first = " ".join(lines[:LISTED]) if lines[0].endswith(":") else lines[0]
    if Path(source).exists():
        return f"the {what} in folder `{source}` cannot be loaded ({first}); restore its files, or name another folder"
    missing = f"the {what} `{source}` is neither a folder here nor to be had from the hub ({first})"
    return f"{missing}; check the name or the connection"


def as_saved(model: transformers.PreTrainedModel, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A model's weights under the names, and in the parts, that its files in Hugging Face format have."""
    return transformers.core_model_loading.revert_weight_conversion(model, state)
