"""Peak memory of PPO's update with the value head on the policy's trunk and with a critic of its own, on one batch.

python benchmarks/ppo_memory.py        # both ways, each in a process of its own

A llama of 512 x 8, float32, AdamW, a frozen reference. The separate critic is the same trunk once more with a value
head, its own gradients and its own AdamW; it is updated after the policy, so that their activations are never alive
together. Tensors are counted from the allocator's own events; the process is its peak of resident memory less what it
had after imports.
"""

import gc
import json
import subprocess
import sys

import torch
from memory import Case, Steps, batch_of, peaks_of, resident
from turns import keep

from yonder.core.losses import clipped_value_loss
from yonder.training.optimizer import build_optimizer

SHARED, SEPARATE = "shared head", "critic of its own"


class Separate(Steps):
    """The policy without a value head, then a critic that is as large."""

    def __init__(self) -> None:
        super().__init__(Case("policy", layers=8, algorithm="grpo"), "cpu")
        self.critic = self.shop.policy(None, 1, train=True)
        self.critics = build_optimizer(self.critic, 1e-5, None, 0.0)

    def update(self) -> None:
        """The policy's two updates, then the critic's."""
        super().update()
        batch = batch_of(self.prompt, self.critic.device)
        for _ in range(2):
            for start in range(0, len(batch.lengths), 2):
                part = batch.rows(list(range(start, start + 2)))
                found = self.critic(
                    part.input_ids, part.attention_mask, part.completion_starts, part.completion_mask, 1.0
                )
                assert found.values is not None
                values, wanted = found.values[..., 0], part.returns[..., 0]
                loss = clipped_value_loss(values, part.old_values[..., 0], wanted, 0.2) * part.completion_mask
                loss.mean().backward()
            self.critics.step()
            self.critics.zero_grad(set_to_none=True)


def made(way: str) -> Steps:
    """What is measured."""
    return Separate() if way == SEPARATE else Steps(Case("shared", layers=8), "cpu")


def measure(way: str) -> dict[str, float]:
    """In this process."""
    torch.set_num_threads(1)
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = resident("VmRSS")
    steps = made(way)
    steps.update()
    process = resident("VmHWM") - before
    trained = sum(p.numel() for p in steps.policy.model.parameters())
    del steps
    gc.collect()
    _, peaks = peaks_of(lambda: made(way), ("update",))
    return {"tensors": peaks["update"], "process": process, "parameters": trained}


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    found: dict[str, dict[str, float]] = {}
    for way in (SHARED, SEPARATE):
        done = subprocess.run([sys.executable, __file__, way], capture_output=True, text=True, check=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
    print(f"policy of {found[SHARED]['parameters'] / 1e6:.1f}M parameters\n")
    print("| | tensors, MB | process, MB |\n|---|---|---|")
    for way, row in found.items():
        print(f"| {way} | {row['tensors'] / 1e6:.0f} | {row['process'] / 1e6:.0f} |")
    ratios = {key: found[SEPARATE][key] / found[SHARED][key] for key in ("tensors", "process")}
    print(f"\nseparate / shared: tensors {ratios['tensors']:.2f}, process {ratios['process']:.2f}")
    keep("ppo_memory", {"bytes": found, "ratios": ratios})


if __name__ == "__main__":
    main()
