"""What [ReFT]'s limits need: prompts cut for sampling, one limit on prompt and completion, Galactica's end token."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.models.tiny import policy, tokenizer
from yonder.assembly.workshop import Workshop
from yonder.errors import ModelError
from yonder.generation.sampler import PolicySampler
from yonder.models.encoding import PromptEncoder
from yonder.models.loading import load_tokenizer
from yonder.recipe import parse_recipe
from yonder.recipe.data import TaskSettings
from yonder.schema import Prompt

LONG = Prompt("long", "q", "one two three four five six seven eight nine ten", "")
SHORT = Prompt("short", "q", "one two", "")


def test_a_long_prompt_is_cut_for_sampling_and_whole_for_sft() -> None:
    whole = PromptEncoder(tokenizer(), 64).encode(LONG)
    assert len(whole) > 6
    tree = {
        "policy": {"model": {"family": "llama"}, "max_prompt_tokens": 6, "long_prompts": "cut"},
        "data": {"train": {"source": "svamp"}},
        "stages": [{"name": "warmup", "kind": "warmup", "data": "train"}],
    }
    shop = Workshop(parse_recipe(tree, "here"), {})
    try:
        assert shop.encoder(policy("llama"), TaskSettings()).encode(LONG) == whole[:6]
        assert shop.encoder(policy("llama"), TaskSettings(), sft=True).encode(LONG) == whole
    finally:
        shop.close()


def test_prompt_and_completion_share_one_limit() -> None:
    encoder = PromptEncoder(tokenizer(), 64)
    encoder.end_ids = ()  # no completion ends by itself
    total = len(encoder.encode(LONG)) + 3
    sampler = PolicySampler(policy("llama"), encoder, 8, 16, total)
    rollouts = sampler.sample([LONG, SHORT], 2, 1.0, seed=0)
    lengths = [len(r.completion.token_ids) for r in rollouts]
    short = min(8, total - len(encoder.encode(SHORT)))
    assert lengths == [3, 3, short, short]
    assert short > 3
    assert [len(r.completion.logprobs) for r in rollouts] == lengths
    assert not any(r.completion.finished for r in rollouts)


def test_an_end_token_named_only_by_the_models_configuration_is_used(tmp_path: Path) -> None:
    made = tokenizer()
    end, other = made.eos_token_id, made.convert_ids_to_tokens(5)
    bare = PreTrainedTokenizerFast(tokenizer_object=made.backend_tokenizer)
    assert bare.eos_token_id is None
    bare.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load_tokenizer(str(tmp_path))
    config = policy("opt").model.config.to_dict() | {"eos_token_id": end, "pad_token_id": 5}
    type(policy("opt").model.config).from_dict(config).save_pretrained(tmp_path)
    found = load_tokenizer(str(tmp_path))
    assert (found.eos_token_id, found.pad_token) == (end, other)
    found.save_pretrained(tmp_path / "again")  # as a checkpoint does
    assert load_tokenizer(str(tmp_path / "again")).eos_token_id == end
