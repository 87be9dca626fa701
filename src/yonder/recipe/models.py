"""Recipe sections about models: where weights come from, and how the policy reads and samples."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from yonder.recipe.base import Section

Family = Literal["llama", "qwen3", "gemma", "opt", "codegen", "gpt2"]
Decoding = Literal["auto", "dynamic", "static", "compiled"]
Dtype = Literal["float32", "bfloat16", "float16"]


class FreshModel(Section):
    """A new model with random weights: for small students trained from nothing, and for trying a recipe without
    weights."""

    family: Family = "llama"
    """Architecture, by its transformers family."""
    hidden_size: int = Field(default=128, gt=0)
    """Width of the residual stream."""
    layers: int = Field(default=4, gt=0)
    """Number of transformer blocks."""
    heads: int = Field(default=4, gt=0)
    """Attention heads; must divide hidden_size."""
    context: int = Field(default=512, gt=0)
    """Longest sequence, tokens."""
    seed: int | None = None
    """Seed of the random weights; default: the recipe's."""


ModelReference = str | FreshModel
"""`stage:NAME` (that stage's checkpoint), `yonder:NAME` (shipped weights), a local folder, a hub name, or a fresh
model."""


class LoraSettings(Section):
    """A low-rank adapter that is trained instead of the weights, and merged into them in every checkpoint. Needs the
    extra `peft`."""

    rank: int = Field(default=16, gt=0)
    """Rank of the update."""
    alpha: float = Field(default=32.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapter, in training."""
    target_modules: Literal["auto"] | tuple[str, ...] = "auto"
    """auto: every linear layer of the trunk; or names of modules."""

    @field_validator("target_modules")
    @classmethod
    def _some(cls, value: Literal["auto"] | tuple[str, ...]) -> Literal["auto"] | tuple[str, ...]:
        if not value:
            raise ValueError("is an empty list, so nothing would be trained; name modules, or write auto")
        return value


class PolicyLoraSettings(LoraSettings):
    """A low-rank adapter that `warmup` and `distill` train instead of the policy's weights; they alone hold it in their
    checkpoints. Needs the extra `peft`."""

    save: Literal["merged", "adapter"] = "merged"
    """What a stage hands on: plain weights with the adapter merged in; or the adapter alone, in peft's format (merged
    all the same where a later stage trains on it, or where it was itself trained on an adapter)."""


class ParallelSettings(Section):
    """Several processes, started by torchrun (docs/distributed.md); nothing here changes a run of one process."""

    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    """auto: `ddp` where there are several processes; ddp: every process has the whole policy; fsdp2: weights, gradients
    and optimizer are divided over the processes."""
    offload: bool = False
    """With `fsdp2`: what is divided waits in CPU memory."""
    seeds: Literal["auto", "prompt"] = "auto"
    """prompt: each prompt has its own random numbers when it is answered, so that any number of processes gets the same
    completions; auto: that in several processes, one sequence for a batch in one."""
    timeout_s: float = Field(default=1800.0, gt=0)
    """How long a process waits for the others, seconds."""

    @model_validator(mode="after")
    def _offloads(self) -> "ParallelSettings":
        if self.offload and self.strategy != "fsdp2":
            raise ValueError("`offload` is for `strategy: fsdp2`; set it, or leave `offload` out")
        return self


class SamplingSettings(Section):
    """How completions are sampled. Nothing is inherited from a model's own generation settings."""

    temperature: float = Field(default=1.0, gt=0)
    """Softmax temperature of sampling; log-probs are taken at it too."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus mass; 1 switches it off."""
    top_k: int = Field(default=0, ge=0)
    """Number of most probable tokens kept; 0 switches it off."""


SAMPLING = {"max_completion_tokens", "generation_batch", "decoding"}  # of a policy: nothing else reads them


class PolicySettings(Section):
    """The student."""

    model: ModelReference
    """Where its weights come from."""
    tokenizer: str | None = None
    """Tokenizer to use instead of the model's own: a folder, a hub name or `yonder:tokenizer`. Needed for a fresh
    model."""
    dtype: Dtype = "float32"
    """Type of the weights in training, and of AdamW's moments; an adapter and the value head are float32 anyway."""
    autocast: Literal["off", "bfloat16", "float16"] = "off"
    """Mixed precision: type of the matrix products while weights stay in `dtype`."""
    device: str = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, `mps`."""
    lora: PolicyLoraSettings | None = None
    """Train a low-rank adapter instead of all weights, in every stage that trains the policy. The reference is then the
    policy with its adapter off, without a copy."""
    quantize: Literal["none", "4bit", "8bit"] = "none"
    """With `lora`: the frozen weights below the adapter in 4 (nf4) or 8 bits while they are trained on, through
    bitsandbytes (QLoRA); `dtype` is what they are computed in."""
    activation_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory, a third more time."""
    max_prompt_tokens: int = Field(default=300, gt=0)
    """Longest prompt, tokens; `long_prompts` says what happens to longer ones."""
    long_prompts: Literal["refuse", "cut"] = "refuse"
    """refuse: the run stops and names the prompt; cut: sampling sees its first `max_prompt_tokens` tokens, SFT all
    ([ReFT])."""
    max_completion_tokens: int = Field(default=400, gt=0)
    """Longest completion, tokens."""
    max_total_tokens: int | None = Field(default=None, gt=0)
    """Longest prompt and completion together, tokens ([ReFT]: 700)."""
    generation_batch: int = Field(default=256, gt=0)
    """Most sequences sampled at once."""
    decoding: Decoding = "auto"
    """How this process samples. dynamic: a cache that grows; completions that have begun alike are one row, and those
    that are over leave at once. static: a cache of fixed size, and the host never waits for a token; on a CUDA GPU the
    steps are replayed as CUDA graphs. compiled: static, through torch.compile first (up to minutes at the start; needs
    a C++ compiler). auto: on a CUDA GPU static, where a trial shows that the model can, unless dynamic is faster for
    the beginning of the first batch; elsewhere dynamic."""

    def decisive(self, samples: bool) -> dict[str, Any]:
        """The settings that decide what comes of a stage that samples, or does not, as plain values."""
        return self.model_dump(mode="json", exclude=None if samples else SAMPLING)

    @model_validator(mode="after")
    def _room_to_write(self) -> "PolicySettings":
        total = self.max_total_tokens
        if total is not None and total <= self.max_prompt_tokens:
            raise ValueError(
                f"`max_total_tokens` ({total}) leaves no room for a completion after a prompt of `max_prompt_tokens` "
                f"({self.max_prompt_tokens}); raise it, or lower `max_prompt_tokens`"
            )
        return self

    @model_validator(mode="after")
    def _packed_is_frozen(self) -> "PolicySettings":
        if self.quantize != "none" and self.lora is None:
            raise ValueError(
                f"`quantize: {self.quantize}` packs weights that are not trained; set `lora`, or leave it out"
            )
        return self
