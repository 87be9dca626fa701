"""The parts of a step, generation, the judge's scores, and the update, of random models on random tokens.

For benchmarks that count or time one part by itself at lengths of their choosing; `trl_step.py` times the real command.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, OPTConfig, PreTrainedModel, Qwen3Config

from yonder.generation.sampler import PolicySampler
from yonder.judges.local import LocalJudge
from yonder.judges.prompt import JudgePrompt, read_judge_prompt
from yonder.models.loading import load_tokenizer
from yonder.models.policy import Policy
from yonder.models.sharing import shares_prompts
from yonder.schema import Prompt, Rollout
from yonder.training.batch import Batch, pack
from yonder.training.rollout import Term
from yonder.training.update import LossSettings, annotate, update


@dataclass(frozen=True)
class Scale:
    """Shapes and lengths."""

    policy: dict[str, int]
    judge: dict[str, int]
    prompt: int = 150
    completion: int = 150
    judged: int = 400
    shared: int = 250  # of a judge prompt, by the responses to one question
    rows: int = 512  # completions a step


PAPER = Scale(
    {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "ffn_dim": 3072, "vocab_size": 50000},
    {
        "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
    },
)  # fmt: skip
TINY = Scale(
    {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "vocab_size": 4096},
    {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 64, "vocab_size": 4096,
    },
    12, 8, 30, 20, 16,
)  # fmt: skip
SMALL = Scale(
    {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "ffn_dim": 1024, "vocab_size": 4096},
    {
        "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
        "intermediate_size": 768, "vocab_size": 4096,
    },
    60, 32, 160, 110, 64,
)  # fmt: skip


class FixedPrompts:
    """An encoder of random tokens; no token ends a completion."""

    def __init__(self, scale: Scale, questions: int) -> None:
        draw = random.Random(0)
        self.known = {
            str(i): tuple(draw.randrange(10, scale.policy["vocab_size"]) for _ in range(scale.prompt))
            for i in range(questions)
        }
        self.end_ids: tuple[int, ...] = ()
        self.context = scale.prompt + scale.completion

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The question's tokens."""
        return self.known[prompt.id]

    def decode(self, ids: Any) -> str:
        """Nothing reads it."""
        return ""

    def stopped(self, ids: list[int]) -> bool:
        """Never."""
        return False


class Step:
    """The models and one step's three parts."""

    def __init__(
        self, scale: Scale, device: torch.device, dtype: torch.dtype = torch.bfloat16, budget: int = 65536
    ) -> None:
        """`dtype`: of the judge, the reference and the products; `budget`: tokens read at once."""
        self.scale, self.device, self.budget = scale, device, budget
        longest = scale.prompt + scale.completion
        student = OPTConfig(**scale.policy, max_position_embeddings=max(2048, longest), dropout=0.0)
        self.tokenizer = load_tokenizer("yonder:tokenizer")
        self.policy, self.reference = (
            Policy(made(student, device, dtype if frozen else torch.float32), self.tokenizer)
            for frozen in (False, True)
        )
        self.policy.autocast = dtype if dtype != torch.float32 else None
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=1e-6, fused=device.type == "cuda")
        judge = made(Qwen3Config(**scale.judge, max_position_embeddings=4096), device, dtype)
        prompt = JudgePrompt(self.tokenizer, read_judge_prompt("program"), "auto", ("Yes", "No"))
        able = LocalJudge(judge, prompt, scale.judged, budget)
        self.shares = shares_prompts(able.trunk, device), shares_prompts(self.policy.trunk, device)
        self.judges = {
            share: LocalJudge(judge, prompt, scale.judged, budget, share) for share in {False, self.shares[0]}
        }
        self.sampler: tuple[int, PolicySampler] | None = None  # of completions a question
        self.terms = [Term("judge", "questions", 1.0, None, None)]

    def rollouts(self, group: int) -> list[Rollout]:
        """Completions of the full length."""
        questions = self.scale.rows // group
        if self.sampler is None or self.sampler[0] != group:
            self.sampler = None  # before the next: its cache may be large
            encoder: Any = FixedPrompts(self.scale, questions)
            self.sampler = group, PolicySampler(self.policy, encoder, self.scale.completion, self.scale.rows)
        return self.sampler[1].sample([Prompt(str(i), "", "") for i in range(questions)], group, 1.0, seed=0)

    def judged(self, group: int) -> list[list[int]]:
        """Token ids of judge prompts."""
        draw, vocabulary = random.Random(1), self.scale.judge["vocab_size"]
        sequences: list[list[int]] = []
        for _ in range(self.scale.rows // group):
            shared = [draw.randrange(10, vocabulary) for _ in range(self.scale.shared)]
            rest = self.scale.judged - self.scale.shared
            sequences += [[*shared, *(draw.randrange(10, vocabulary) for _ in range(rest))] for _ in range(group)]
        return sequences

    def score(self, sequences: list[list[int]], share: bool) -> list[float]:
        """The judge's gaps."""
        judge, gaps = self.judges[share], [0.0] * len(sequences)
        for rows, last in judge._passes(sequences):
            for row, gap in zip(rows, judge._read(last)[0].tolist(), strict=True):
                gaps[row] = gap
        return gaps

    def batch(self, rollouts: list[Rollout]) -> Batch:
        """With scores and advantages at random."""
        found = pack(rollouts, [rollout.group for rollout in rollouts], len(self.terms), self.device)
        draw = torch.Generator().manual_seed(2)
        some = torch.randn(found.advantages.shape, generator=draw).to(self.device)
        return found.with_(scored=torch.ones_like(found.scored), advantages=some)

    def learn(self, batch: Batch) -> float:
        """The reference's log-probs and one update, as after a rollout whose log-probs serve as the old ones."""
        width, outputs = self.policy.trunk.width if self.shares[1] else 0, [0] * len(self.terms)
        settings = LossSettings(0.2, 0.01, 0.0, 0.2, 1.0, 1.0, self.budget, shared_width=width)
        batch = annotate(batch, self.policy, self.reference, settings, outputs, rollout_is_old=True)
        return update(self.policy, self.optimizer, batch, self.terms, settings, outputs)["loss"]


def made(config: Any, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A model with random weights, made where it runs."""
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def weights_of(model: PreTrainedModel) -> int:
    """Numbers that take part in products."""
    return sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name) + int(
        model.get_output_embeddings().weight.numel()
    )


def operations(step: Step, group: int) -> dict[str, float]:
    """Floating-point operations of each part's products."""
    s, policy, judge = step.scale, weights_of(step.policy.model), weights_of(step.judges[False].trunk.model)
    head = s.policy["hidden_size"] * s.policy["vocab_size"]
    prompts, written = s.rows // group * s.prompt, s.rows * s.completion
    trained = prompts + written if step.shares[1] else s.rows * (s.prompt + s.completion)
    body = (policy - head) * trained + head * written
    shared = s.rows // group * s.shared + s.rows * (s.judged - s.shared)
    return {
        "generate": 2.0 * policy * (prompts + written),
        "judge": 2.0 * judge * s.rows * s.judged,
        "judge, shared prefix": 2.0 * judge * shared,
        "update with reference": 2.0 * 4 * body,  # forward of the reference, forward and twice that backward
    }


def floors(step: Step, group: int, tflops: float, tbps: float) -> dict[str, float]:
    """Seconds that each part needs at the least: its products, and for sampling what each token must read."""
    s = step.scale
    kept = 4 * s.policy["num_hidden_layers"] * s.policy["hidden_size"]  # bytes of keys and values, a token, bfloat16
    read = s.completion * (2 * weights_of(step.policy.model) + s.rows * kept * (s.prompt + s.completion / 2))
    least = {name: flops / (1e12 * tflops) for name, flops in operations(step, group).items()}
    return least | {"generate": max(least["generate"], read / (1e12 * tbps))}
