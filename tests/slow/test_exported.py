"""An exported policy in vLLM: the same greedy tokens as in transformers."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.slow import servers
from tests.test_errors import tree
from yonder.exporting.export import export
from yonder.pipeline.running import run
from yonder.recipe import load_recipe

pytestmark = pytest.mark.slow
PROMPT = "Question:\ntom has n0 apples . he buys n1 apples .\nAnswer reasoning:\ndef solution():\n"


def test_vllm_serves_what_was_exported(tmp_path: Path) -> None:
    recipe = tree(tmp_path)
    recipe["policy"]["model"] = {"family": "llama", "hidden_size": 64, "layers": 2, "heads": 2, "context": 1024}
    recipe["stages"] = [recipe["stages"][0] | {"epochs": 30, "optimizer": {"lr": 0.003}}]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    run(load_recipe(str(tmp_path / "small.yaml")))
    folder = tmp_path / "export"
    export(tmp_path / "run", folder)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        ours = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16)[0, ids.shape[1] :].tolist()
    server = servers.vllm(folder, tmp_path / "vllm.log")
    try:
        server.start()
        body = {"model": "judge", "prompt": ids[0].tolist(), "max_tokens": 16, "temperature": 0, "logprobs": 0,
                "return_token_ids": True}  # fmt: skip
        request = urllib.request.Request(
            server.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            theirs = json.load(response)["choices"][0]["token_ids"]
    finally:
        server.kill()
    assert theirs == ours and len(ours) > 4
