"""Rebuild the shipped tokenizer: byte-level BPE over the embedded questions and programs, one token per digit.

python tools/build_tokenizer.py        # writes src/yonder/assets/tokenizer
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

ASSETS = Path(__file__).parent.parent / "src" / "yonder" / "assets"
PROMPTS = ASSETS.parent / "prompts"
VOCABULARY = 4096


def texts() -> Iterator[str]:
    """Every question and program of the embedded training sets, then the judge prompts (often enough to matter)."""
    for name in ("svamp_train_pot", "gsm8k_train_pot_calc", "gsm8k_train"):
        with gzip.open(ASSETS / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                yield row["question"]
                if row.get("cot_program"):
                    yield row["cot_program"]
    for prompt in sorted(PROMPTS.glob("*.txt")):
        for _ in range(200):
            yield prompt.read_text() + " Yes"
            yield prompt.read_text() + " No"


def main() -> None:
    """Train and write the tokenizer in Hugging Face format."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.Split(Regex(r"_"), "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    fast.save_pretrained(ASSETS / "tokenizer")
    print(f"{len(fast)} tokens written to {ASSETS / 'tokenizer'}")


if __name__ == "__main__":
    main()
