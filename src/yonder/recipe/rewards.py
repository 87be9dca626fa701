"""Recipe sections about rewards."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from yonder.recipe.base import Section
from yonder.recipe.models import Dtype, ModelReference
from yonder.recipe.servers import ServerAccess


class VerifiableSettings(Section):
    """Eq. 1 of [J]: 1 for the right answer, `partial` for a wrong one of the right kind, 0 for none."""

    kind: Literal["verifiable"]
    partial: float = Field(default=0.1, ge=0, le=1)
    """Reward of a program that runs, or a text with a number, whose answer is wrong."""


CONSENT = {"allow_failing", "allow_unmeasured"}  # decide whether a stage may start, and no number in it


class TrustSettings(Section):
    """What a user takes upon himself: a distill stage trains on this reward only if a check-judge stage before it did
    not fail it, or with one of these."""

    allow_failing: bool = False
    """Train on this reward although its check failed, or was never made."""
    allow_unmeasured: bool = False
    """Train on this reward although no check-judge stage measured it, for want of labels or of the stage."""


class JudgePromptSettings(Section):
    """What a judge reads and which two words it answers with: the same when it is fitted and when it judges."""

    prompt: str = "program"
    """Judge prompt: `program`, `program-fenced`, `text`, `open`, `steps` (shipped) or a text file with {question} and
    {response}."""
    yes: str = "Yes"
    """The word that means correct; its first token is read."""
    no: str = "No"
    """The word that means wrong."""
    chat: Literal["auto", "on", "off"] = "auto"
    """Use the judge's chat template: auto = if its tokenizer has one. Thinking is switched off where it exists."""
    show_reference: bool = False
    """Show the judge the data's `reference` after the question, where it has one: for questions whose answer the judge
    could not tell by itself. Labels are never shown."""
    keep_docstring: bool = False
    """program only: leave the docstring and comments in the program that the judge reads."""


BackEndName = Literal["local", "vllm", "sglang", "llama-cpp", "openai", "votes"]


class ServerSettings(ServerAccess):
    """Where a served judge listens and how much may be asked of it."""

    model: str | None = None
    """The name that the servers know the judge by; default: the judge's `model`."""
    batch: int = Field(default=32, gt=0)
    """Prompts a request, where the server takes several (vllm, sglang)."""
    top_logprobs: int = Field(default=20, gt=0)
    """Log-probs asked for; a label beyond them is bounded by the smallest, and flagged; a rating beyond them lacks in
    the mass."""
    votes: int = Field(default=8, gt=0)
    """backend votes only: sampled answers a verdict or rating."""
    cache: bool = True
    """Keep verdicts in `judge_cache.sqlite` of the run directory, so that nothing is paid for twice."""


class JudgeSettings(JudgePromptSettings, TrustSettings):
    """Eq. 2 of [J]: sigmoid((z_yes - z_no) / tau), and 0 below delta, from one forward of a judge."""

    kind: Literal["judge"] = "judge"
    model: ModelReference
    """The judge: a causal language model. For a served one its tokenizer (vllm, sglang, llama-cpp) or just its name
    (openai, votes)."""
    backend: BackEndName = "local"
    """Where it runs: in this process; on a server of that kind; behind an OpenAI-compatible chat API with log-probs;
    behind one without (sampled votes)."""
    server: ServerSettings | None = None
    """Of a served judge."""
    every_spelling: bool = False
    """Add up the probabilities of Yes, yes, YES, with and without a space, where each is one token; likewise No."""
    tau: float = Field(default=1.0, gt=0)
    """Temperature of the sigmoid."""
    delta: float = Field(default=0.5, ge=0, le=1)
    """Scores below this become 0."""
    mass_floor: float = Field(default=0.1, ge=0, le=1)
    """Below this P(yes) + P(no) a verdict is noise: the rollout is unscored."""
    dtype: Dtype = "float32"
    """Type of the judge's weights; the last product is float32 in any case."""
    quantize: Literal["none", "4bit", "8bit"] = "none"
    """backend local only: weights in 4 (nf4) or 8 bits, through bitsandbytes; `dtype` is what they are computed in."""
    device: str | tuple[str, ...] = "auto"
    """`auto`, `cpu`, `cuda:1`; a list: a copy on each, among which questions are dealt out; `spread`: layers over all
    GPUs, for a judge that fits on none alone (needs accelerate)."""
    share_prefix: bool | Literal["auto"] = "auto"
    """backend local only: what several prompts begin with, as the question of a GRPO group, is computed once. Same
    verdicts up to rounding. auto: where a trial shows that the model can."""
    max_tokens: int = Field(default=1024, gt=0)
    """Longest judge prompt, tokens; longer student texts are cut and marked truncated."""
    batch_tokens: int | None = Field(default=None, gt=0)
    """Token budget of one forward, padding included. Left out: 2,048 on a CPU, 16,384 elsewhere."""
    guards: tuple[Literal["empty", "cut", "unparsable"], ...] = ("empty", "cut")
    """Completions that score 0 without asking the judge: empty, cut at the length limit, no Python program. Counted."""
    min_code_lines: int = Field(default=0, ge=0)
    """[J] B.3's patch, one more guard: programs with fewer lines score 0; 4 in [J], off by default."""

    @model_validator(mode="after")
    def _reachable(self) -> "JudgeSettings":
        _check_served(self.backend, self.server, self.model)
        if self.backend != "local" and (self.share_prefix is True or self.quantize != "none"):
            raise ValueError("`share_prefix` and `quantize` are for `backend: local`; a server has settings of its own")
        if not isinstance(self.device, str) and not self.device:
            raise ValueError("`device` is an empty list; name a device or leave it out")
        return self


class PreferenceSettings(JudgeSettings):
    """A judge that prefers one of two responses, from the log-probs of two one-token labels, in both orders. Keys as of
    a reward of kind judge; tau, delta and guards decide nothing here."""

    prompt: str = "preference"
    """Judge prompt: `preference` (shipped) or a text file with {question}, {first} and {second}."""
    yes: str = "A"
    """The label of the response that stands first (m in weighted_alpaca_eval)."""
    no: str = "B"
    """The label of the response that stands second (M)."""


def _check_served(backend: str, server: ServerSettings | None, model: ModelReference) -> None:
    """A judge on a server has one, and a name."""
    if (server is None) != (backend == "local"):
        raise ValueError("give `server` (with `urls`) for a served `backend`, and none for `backend: local`")
    if backend != "local" and not isinstance(model, str):
        raise ValueError("a served judge is named: `model` is its tokenizer or its name, not a fresh model")


class ClassifierSettings(TrustSettings):
    """A reranker ([J], [ReFT]) or reward model ([R]): P(correct) of a 2-label sequence classifier, read at the last
    token."""

    kind: Literal["classifier"]
    model: ModelReference
    """A sequence classifier."""
    correct_label: int = Field(default=1, ge=0, le=1)
    """Index of the label that means correct."""
    delta: float = Field(default=0.0, ge=0, le=1)
    """Scores below this become 0."""
    dtype: Dtype = "float32"
    """Type of the weights."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda:1`..."""
    max_tokens: int = Field(default=700, gt=0)
    """Longest text, tokens; longer ones are unscored."""
    batch_tokens: int | None = Field(default=None, gt=0)
    """Token budget of one forward, padding included. Left out: 2,048 on a CPU, 16,384 elsewhere."""


class RatingSettings(TrustSettings):
    """A judge that rates from 1 to `scale`: the mean of the ratings, weighted by the probabilities of their tokens, as
    (mean - 1) / (scale - 1)."""

    kind: Literal["rating"]
    model: ModelReference
    """The judge: a causal language model. For a served one its tokenizer (vllm, sglang, llama-cpp) or just its name
    (openai, votes)."""
    backend: BackEndName = "local"
    """Where it runs, as of a judge; votes: the mean of sampled ratings."""
    server: ServerSettings | None = None
    """Of a served judge."""
    prompt: str = "rating"
    """Judge prompt: `rating` (shipped) or a text file with {question} and {response}, and {scale} for the best
    rating."""
    scale: int = Field(default=10, ge=2, le=10)
    """The best rating. 10 is two tokens in tokenizers that keep digits apart (Qwen): then a second forward, or
    request, finds how much of the 1 is a 10."""
    chat: Literal["auto", "on", "off"] = "auto"
    """Use the judge's chat template: auto = if its tokenizer has one. A chat API (openai, votes) always does."""
    show_reference: bool = False
    """Show the judge the data's `reference` after the question, where it has one."""
    keep_docstring: bool = False
    """programs only: leave the docstring and comments in the program that the judge reads."""
    delta: float = Field(default=0.0, ge=0, le=1)
    """Scores below this become 0."""
    mass_floor: float = Field(default=0.1, ge=0, le=1)
    """Below this sum of the ratings' probabilities, as far as they are seen, a verdict is noise: the rollout is
    unscored."""
    dtype: Dtype = "float32"
    """backend local only: type of the judge's weights."""
    quantize: Literal["none", "4bit", "8bit"] = "none"
    """backend local only: weights in 4 (nf4) or 8 bits, through bitsandbytes."""
    device: str = "auto"
    """backend local only: `auto`, `cpu`, `cuda:1`; `spread`: layers over all GPUs (needs accelerate)."""
    max_tokens: int = Field(default=1024, gt=0)
    """Longest judge prompt, tokens; longer student texts are cut and marked truncated."""
    batch_tokens: int | None = Field(default=None, gt=0)
    """backend local only: token budget of one forward, padding included."""
    guards: tuple[Literal["empty", "cut", "unparsable"], ...] = ("empty", "cut")
    """Completions that score 0 without asking the judge: empty, cut at the length limit, no Python program. Counted."""

    @model_validator(mode="after")
    def _reachable(self) -> "RatingSettings":
        _check_served(self.backend, self.server, self.model)
        idle = [] if self.backend == "local" else _changed(self, LOCAL_ALONE)
        idle += _changed(self, ("chat",)) if self.backend in ("openai", "votes") else []
        idle += [
            f"server.{key}"
            for key, kinds in OF_BACK_ENDS.items()
            if self.server is not None and self.backend not in kinds and _changed(self.server, (key,))
        ]
        if idle:
            raise ValueError(f"`{idle[0]}` does nothing with `backend: {self.backend}`; leave it out")
        return self


LOCAL_ALONE = ("dtype", "quantize", "device", "batch_tokens")
OF_BACK_ENDS = {
    "batch": ("vllm", "sglang"),
    "top_logprobs": ("vllm", "llama-cpp", "openai"),
    "votes": ("votes",),
}


def _changed(section: Section, keys: tuple[str, ...]) -> list[str]:
    """Which of these keys have another value than their default."""
    return [key for key in keys if getattr(section, key) != type(section).model_fields[key].default]


def decisive(settings: "RewardSettings") -> dict[str, Any]:
    """The settings that decide a reward's scores, as plain values."""
    found = settings.model_dump(mode="json", exclude=CONSENT)
    if isinstance(settings, RatingSettings) and settings.server is None:
        del found["backend"], found["server"]
    return found


class ShuffledSettings(Section):
    """A control: another reward's scores, permuted among the rollouts of a batch. A student must not gain from it."""

    kind: Literal["shuffled"]
    reward: str
    """Name of the reward to shuffle."""


class EnsembleSettings(TrustSettings):
    """Several rewards as one: other judges, other wordings of the prompt, a classifier."""

    kind: Literal["ensemble"]
    rewards: tuple[str, ...] = Field(min_length=2)
    """Names of the members."""
    combine: Literal["mean", "min", "mean-kstd"] = "min"
    """min: the most doubtful member decides; mean-kstd: mean - k * standard deviation, at least 0."""
    k: float = Field(default=1.0, ge=0)
    """mean-kstd only."""


class TeacherSettings(Section):
    """On-policy distillation as a term: reverse KL from the policy's next-token distribution to a teacher's, on the
    policy's own completions. It gives no score."""

    kind: Literal["teacher"]
    model: ModelReference
    """A causal language model with the policy's tokenizer, in this process."""
    top_k: int = Field(default=0, ge=0)
    """Compare the policy's k likeliest tokens, and all others as one; 0: every token."""
    dtype: Dtype = "float32"
    """Type of the teacher's weights."""
    quantize: Literal["none", "4bit", "8bit"] = "none"
    """Weights in 4 (nf4) or 8 bits, through bitsandbytes."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda:1`..."""


RewardSettings = Annotated[
    VerifiableSettings
    | JudgeSettings
    | ClassifierSettings
    | RatingSettings
    | ShuffledSettings
    | EnsembleSettings
    | TeacherSettings,
    Field(discriminator="kind"),
]
