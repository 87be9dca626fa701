"""A small judge that every back end can load: a Llama of random weights with a GPT-2 style tokenizer, saved in fp32.

Its weights are spread so that verdicts on different pairs differ by nats, most of them within 4.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from yonder.data.sources import read_records
from yonder.recipe.data import DataSettings

VOCABULARY = 1500
CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)


@cache
def pairs(count: int = 500) -> list[tuple[str, str]]:
    """Real questions with the programs of this and of another question."""
    records = [r for r in read_records(DataSettings(source="gsm8k"), "gsm8k") if r.program][: count // 2 + 1]
    found: list[tuple[str, str]] = []
    for here, other in pairwise(records):
        found += [(here.question, str(here.program).strip()), (here.question, str(other.program).strip())]
    return found[:count]


def save_judge(folder: Path, head: float = 0.25, tens: bool = True) -> Path:
    """Write the judge's folder. `head`: standard deviation of the output matrix; the larger, the surer the model;
    `tens`: whether the tokenizer has tokens of two digits."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = ["Answer: Yes", "Answer: No", "Yes", "No"] * 200
    texts = [*(text for pair in pairs() for text in pair), *words]
    raw.train_from_iterator(texts if tens else [re.sub(r"\d\d+", lambda n: n[0][0], text) for text in texts], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = LlamaForCausalLM(config).float()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.normal_(0.0, head if "lm_head" in name else 0.12)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
