"""TRL's GRPOTrainer runs on our reward functions, in the environment that `tools/install_peers.py trl` makes."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".servers" / "trl"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ENVIRONMENT / ".complete").exists(), reason="TRL is not installed: python tools/install_peers.py trl"
    ),
]

NONE = """
import tempfile, torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from yonder.models.loading import load_causal_lm, load_tokenizer
from yonder.recipe.models import FreshModel

tokenizer = load_tokenizer("yonder:tokenizer")

def run(rewards, **more):
    model = load_causal_lm(FreshModel(hidden_size=16, layers=1, heads=2), tokenizer, "float32", torch.device("cpu"))
    functions = [lambda completions, given=given, **columns: given for given in rewards]
    config = GRPOConfig(
        tempfile.mkdtemp(), max_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=3,
        report_to="none", save_strategy="no", use_cpu=True, bf16=False, **more,
    )
    data = Dataset.from_list([{"prompt": "How many?"}] * 4)
    trainer = GRPOTrainer(model, functions, config, data, processing_class=tokenizer)
    trainer.train()
    print("ADVANTAGES", *(f"{advantage:.2f}" for advantage in trainer._logs["advantages"]))

run([[1.0, 0.0, None, None]])
run([[None, None, None, None]])
run([[1.0, 0.0, None, None], [1.0, 1.0, 1.0, 1.0]])
run([[1.0, 0.0, None, None], [1.0, 1.0, 1.0, 1.0]], multi_objective_aggregation="normalize_then_sum")
"""


def run(*arguments: str) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    python = str(ENVIRONMENT / "bin" / "python")
    done = subprocess.run([python, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_trains_on_the_judges_yes() -> None:
    lines = [line for line in run("examples/trl_grpo.py", "--steps", "3").splitlines() if line.startswith("step ")]
    assert len(lines) == 3
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"step (\d+): reward \S+ judge (\S+) verifiable (\S+) unscored (\S+)", line)
        assert found is not None, line
        assert int(found[1]) == number
        assert 0 < float(found[2]) < 1, "the judge says Yes to some and No to others"
        assert 0 < float(found[3]) < 1
        assert float(found[4]) == 0


def test_what_docs_integrations_says_of_none_is_what_trl_does() -> None:
    alone, nothing, summed, normalised = (
        line.split()[1:] for line in run("-c", NONE).splitlines() if line.startswith("ADVANTAGES")
    )
    assert alone == ["0.71", "-0.71", "0.00", "0.00"]  # out of mean and spread, no advantage
    assert nothing == ["0.00"] * 4
    assert float(summed[2]) == float(summed[1]) < 0  # beside another function None counts as 0
    assert float(normalised[2]) == 0 and float(normalised[1]) < 0
