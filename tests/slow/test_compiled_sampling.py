"""`policy.decoding: compiled`: sampling steps through torch.compile, with a real compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.generation.test_static import assert_same, drawn, own, sampler
from yonder.assembly.workshop import Workshop
from yonder.generation.drawing import Sampling
from yonder.generation.sampler import PolicySampler
from yonder.generation.static import StaticDecoder
from yonder.recipe.loading import load_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here"),
]


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_compiled_steps_write_what_a_growing_cache_does(family: str) -> None:
    model = own(family)
    compiled, growing = (sampler(model, way) for way in ("compiled", "dynamic"))
    for settings in (Sampling(None), Sampling(1.0)):
        assert_same(drawn(compiled, settings), drawn(growing, settings))
    assert isinstance(compiled.picker.picked, StaticDecoder)


def test_a_recipe_asks_for_it(tmp_path: Path) -> None:
    recipe = load_recipe("demo", ["policy.decoding=compiled", f"output_dir={tmp_path}"])
    shop = Workshop(recipe, {})
    found = shop.sampler(shop.policy(None), recipe.task)
    assert isinstance(found, PolicySampler)
    assert found.picker.asked == "compiled"


def test_the_benchmark_of_all_ways_runs_small() -> None:
    script = ROOT / "benchmarks" / "gpu" / "decoding.py"
    words = ["--tiny", "--turns", "1", "--rows", "16", "--ways", "graphs", "compiled"]
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| compiled |" in done.stdout
