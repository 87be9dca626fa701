"""Yonder teaches a small language model with the Yes/No of a large one.

    from yonder import load_recipe, run, load_judge, Sandbox

    summary = run(load_recipe("demo", ["seed=1"]))
    with Sandbox() as sandbox:
        results = sandbox.run(["def solution():\\n    return 6 * 7"])
    scores = load_judge({"model": "Qwen/Qwen3-8B"}).score([("What is 2 + 3?", "def solution():\\n    return 2 + 3")])

The names are loaded when first used, so `import yonder` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yonder.assembly.judges import load_judge
    from yonder.pipeline.running import run
    from yonder.recipe import load_recipe
    from yonder.sandbox import Sandbox

__all__ = ["Sandbox", "load_judge", "load_recipe", "run"]
__version__ = "0.1.0"

_HOMES = {
    "Sandbox": "yonder.sandbox",
    "load_judge": "yonder.assembly.judges",
    "load_recipe": "yonder.recipe",
    "run": "yonder.pipeline.running",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'yonder' has no attribute '{name}'")
