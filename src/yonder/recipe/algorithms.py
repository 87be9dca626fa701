"""Recipe sections about the RL algorithm: what each name stands for, and the knobs that may differ from it."""

from typing import Any, Literal

from pydantic import Field, model_validator

from yonder.recipe.base import Section

Algorithm = Literal[
    "ppo", "grpo", "dr-grpo", "dapo", "gspo", "cispo", "rloo", "reinforce++", "reinforce++-baseline"
]  # fmt: skip
BASELINES = {"ppo": "value", "rloo": "leave-one-out", "reinforce++": "none"}  # all others: "group"
SURROGATES = {"gspo": "sequence", "cispo": "cispo"}  # all others: "token"
_GROUPS: dict[str, Any] = {"normalise": "group", "kl": {"place": "loss"}}
PRESETS: dict[str, dict[str, Any]] = {  # beside PPO's values, which are the defaults of the fields
    "ppo": {},
    "grpo": _GROUPS,
    "dr-grpo": {"normalise": "none", "average": "fixed-length", "kl": {"place": "loss", "beta": 0.0}},
    "dapo": _GROUPS
    | {"average": "token-mean", "clip_high": 0.28, "dynamic": {"refills": 3}, "kl": {"place": "loss", "beta": 0.0}},
    "gspo": _GROUPS | {"clip": 3e-4, "clip_high": 4e-4},
    "cispo": _GROUPS | {"average": "token-mean", "clip": 1.0, "clip_high": 4.0},
    "rloo": {"normalise": "none", "average": "fixed-length"},
    "reinforce++": {"normalise": "batch"},
    "reinforce++-baseline": {"normalise": "batch", "kl": {"place": "loss", "estimator": "k2"}},
}


class KLSettings(Section):
    """How far the policy may move from the reference."""

    beta: float = Field(default=0.01, ge=0)
    """Coefficient; 0.01 for programs [J], 0.05 for text [ReFT]."""
    place: Literal["reward", "loss"] = "reward"
    """reward: per-token penalty; loss: a summand of it. Default: the algorithm's (PPO reward, GRPO loss)."""
    estimator: Literal["k1", "k2", "k3"] = "k1"
    """In the reward k1; in the loss k3 is the default."""
    target: float | None = Field(default=None, gt=0)
    """Nats a token that the coefficient is steered to (Ziegler et al. 2019); None: it is fixed."""
    gain: float = Field(default=0.1, gt=0)
    """With `target`: how fast."""

    @model_validator(mode="before")
    @classmethod
    def _estimator_of_place(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("place") == "loss":
            return {"estimator": "k3"} | data
        return data

    @model_validator(mode="after")
    def _possible(self) -> "KLSettings":
        if self.place == "reward" and self.estimator != "k1":
            raise ValueError(f"`estimator: {self.estimator}` is for `place: loss`; in the reward the KL is k1")
        if self.target is not None and not self.beta:
            raise ValueError("`target` steers `beta`, which is 0; give it a value to start from")
        if self.target is None and self.gain != KLSettings.model_fields["gain"].default:
            raise ValueError("`gain` does nothing without `target`; set it, or leave `gain` out")
        return self


class PPOSettings(Section):
    """PPO with a value head on the policy's trunk, as [J] and [ReFT]."""

    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Lambda of GAE."""
    value_clip: float = Field(default=0.2, gt=0)
    """Clip range of the value."""
    value_coef: float = Field(default=5.0, ge=0)
    """Weight of the value loss: 5 Galactica-125M, 0.1 CodeGen-350M [J]."""
    value_per_term: bool = True
    """One output of the value head for each term; false: one for all, as in [J]."""
    value_lr: float | None = Field(default=None, gt=0)
    """Learning rate of the value head, on the policy's schedule; None: the policy's."""
    head_warmup: int = Field(default=0, ge=0)
    """Updates in which the value head alone learns, before the policy's first; they count as steps."""
    stop_gradient: bool = False
    """Keep the value loss out of the trunk: only the head learns from it."""


class DynamicSettings(Section):
    """Draw groups anew whose completions all score the same (Yu et al. 2025, DAPO)."""

    refills: int = Field(default=0, ge=0)
    """Most times that missing groups are drawn in an iteration; what is still missing then is filled with groups
    without signal. 0: every group is taken."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Scores of a group that differ by no more than this are the same."""


class OverlongSettings(Section):
    """A penalty on completions near the length limit (Yu et al. 2025, DAPO, eq. 13)."""

    margin: int = Field(gt=0)
    """Tokens before `policy.max_completion_tokens` over which the penalty grows from 0 to `weight`."""
    weight: float = Field(default=1.0, gt=0)
    """Subtracted from the score at the limit."""


class AlgorithmSettings(Section):
    """The algorithm by name; each knob not given is as that algorithm has it. See docs/algorithms.md."""

    algorithm: Algorithm = "ppo"
    """[J] trains with PPO and compares with GRPO."""
    group_size: int = Field(default=1, gt=0)
    """Completions a prompt; all but ppo and reinforce++ need at least 2, [J] uses 8."""
    normalise: Literal["none", "group", "batch"] = "batch"
    """Each term's advantages, alone: as they are; divided by the group's standard deviation; or whitened over the
    batch."""
    average: Literal["sequence-mean", "token-mean", "fixed-length"] = "sequence-mean"
    """Of the tokens' losses: a mean of each sequence's mean; over all tokens of the term; or each sequence's sum
    divided by `policy.max_completion_tokens`."""
    clip: float = Field(default=0.2, gt=0)
    """Clip range of the probability ratio; with `clip_high` its lower half."""
    clip_high: float | None = Field(default=None, gt=0)
    """Upper half of the clip range, where it differs (DAPO: 0.28)."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Largest ratio that counts where the advantage is negative (Ye et al. 2020: 3); None: unbounded."""
    importance_cap: float | None = Field(default=None, gt=0)
    """Weigh each token with exp(old_logprob - rollout_logprob), at most this (Yao et al. 2025: 2), for samplers whose
    numbers differ from the trainer's; None: no weights."""
    truncated: Literal["as-ended", "bootstrap", "mask"] = "as-ended"
    """Completions cut at the length limit: like any other; ppo: the value of the state after the last token stands for
    the score; or no loss on them."""
    dynamic: DynamicSettings = DynamicSettings()
    overlong: OverlongSettings | None = None
    """Punish length near the limit; None: no."""
    kl: KLSettings = KLSettings()
    ppo: PPOSettings = PPOSettings()

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, data: Any) -> Any:
        """What the algorithm's name stands for, below what is given."""
        preset = PRESETS.get(data.get("algorithm", "ppo"), {}) if isinstance(data, dict) else {}
        filled = dict(data) if preset else data
        for key, value in preset.items():
            given = filled.get(key)
            if isinstance(value, dict) and isinstance(given, dict):
                filled[key] = value | given
            elif key not in filled:
                filled[key] = value
        return filled

    @model_validator(mode="after")
    def _possible(self) -> "AlgorithmSettings":
        name = self.algorithm
        if name not in ("ppo", "reinforce++") and self.group_size < 2:
            raise ValueError(f"`algorithm: {name}` compares completions of one prompt; set `group_size` to 2 or more")
        if self.normalise == "group" and self.baseline != "group":
            raise ValueError(f"`normalise: group` is for algorithms like grpo; with `{name}` use none or batch")
        if self.truncated == "bootstrap" and name != "ppo":
            raise ValueError(f"`truncated: bootstrap` needs the value head of ppo; with `{name}` use mask or as-ended")
        if self.dual_clip is not None and name == "cispo":
            raise ValueError("`dual_clip` does nothing in cispo, whose weights are cut at `clip_high`; leave it out")
        no_kl = PRESETS[name].get("kl", {}).get("beta") == 0 and not self.kl.beta
        if no_kl and (self.kl.place, self.kl.estimator) != ("loss", "k3"):
            raise ValueError(
                f"`kl.place` and `kl.estimator` do nothing in {name}, which has no KL; set `kl.beta`, or leave them out"
            )
        idle = DynamicSettings(refills=self.dynamic.refills)
        if not idle.refills and self.dynamic != idle:
            raise ValueError("`dynamic.tolerance` does nothing without `refills`; set it, or leave `tolerance` out")
        if self.dynamic.refills and self.group_size < 2:
            raise ValueError("`dynamic` looks for differences within a group; set `group_size` to 2 or more")
        return self

    @property
    def baseline(self) -> str:
        """What a score is compared with."""
        return BASELINES.get(self.algorithm, "group")

    @property
    def surrogate(self) -> str:
        """The policy loss of a token."""
        return SURROGATES.get(self.algorithm, "token")
