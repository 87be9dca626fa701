"""Yonder's judge and verifiers as reward functions of TRL's GRPOTrainer, on a CPU in a minute or two.

    pip install trl && python examples/trl_grpo.py

A policy of random weights writes programs for word problems. Without the short SFT before (TRL's SFTTrainer would do as
well) it writes noise, which the judge refuses, and there is nothing to learn from.
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from yonder.data.datasets import load_data
from yonder.integrations.trl import judge_reward, verifiable_reward
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.recipe.data import DataSettings, TaskSettings
from yonder.recipe.models import FreshModel
from yonder.schema import Prompt

TASK = TaskSettings(format="program", docstring=False, numbers="named")


def questions(count: int) -> list[Prompt]:
    """Word problems with their programs and answers."""
    source = DataSettings(source="word-problems", options={"count": count, "seed": 2})
    return load_data("questions", {"questions": source}, TASK, seed=0)


def warm_up(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], epochs: int) -> None:
    """SFT on the problems' own programs, one padded batch after another."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    end = tokenizer.eos_token_id
    model.train()
    for start in [start for _ in range(epochs) for start in range(0, len(prompts), 32)]:
        rows = []
        for prompt in prompts[start : start + 32]:
            given = tokenizer(prompt.text + prompt.prefix, add_special_tokens=False)["input_ids"]
            solution = tokenizer(prompt.solution or "", add_special_tokens=False)["input_ids"]
            rows.append((given + solution + [end], [-100] * len(given) + solution + [end]))
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [end] * (longest - len(ids)) for ids, _ in rows])
        labels = torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows])
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


class PrintMeans(TrainerCallback):
    """The mean rewards of every step."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **others: Any) -> None:
        """One line."""
        if logs and "reward" in logs:
            judge, right = logs["rewards/judge/mean"], logs["rewards/verifiable/mean"]
            unscored = logs["rewards/judge/unscored"]
            means = f"reward {logs['reward']:.3f} judge {judge:.3f} verifiable {right:.3f} unscored {unscored:.2f}"
            print(f"step {state.global_step}: {means}", flush=True)


def main() -> None:
    """Warm up, then a few GRPO steps; prints the mean rewards of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=4, help="epochs of SFT over 512 problems")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    set_seed(0)

    tokenizer = load_tokenizer("yonder:tokenizer")
    model = load_causal_lm(FreshModel(hidden_size=128, layers=2, seed=0), tokenizer, "float32", torch.device("cpu"))
    warm_up(model, tokenizer, questions(512), arguments.warmup)

    # The policy reads `prompt`, which ends with the given beginning of the program; rewards read `prefix` + completion.
    rows = [
        {"prompt": one.text + one.prefix, "question": one.question, "prefix": one.prefix, "answer": one.answer}
        for one in questions(256)
    ]
    judge = judge_reward({"model": "yonder:judge"}, prefix="prefix", end_token_ids=[tokenizer.eos_token_id])
    right = verifiable_reward(TASK, prefix="prefix", sandbox={"workers": 1})

    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOConfig(
            output_dir=folder,
            max_steps=arguments.steps,
            per_device_train_batch_size=32,
            num_generations=8,
            max_completion_length=24,
            learning_rate=3e-4,
            reward_weights=[1.0, 0.0],  # the judge teaches, the verifier watches
            multi_objective_aggregation="normalize_then_sum",  # or None would count as 0 beside another function
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        )
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=[judge, right],
            train_dataset=Dataset.from_list(rows),
            args=settings,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(PrintMeans())
        trainer.train()


if __name__ == "__main__":
    main()
