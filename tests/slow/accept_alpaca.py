"""Run by the interpreter of `.servers/alpaca-eval`: hand our files to the alpaca_eval package; prints its figures.

python accept_alpaca.py FOLDER: with model_outputs.json, annotations.json, baseline.json and df_gamed.csv.
"""

import json
import math
import sys
from pathlib import Path

import alpaca_eval
import alpaca_eval.annotators.base as annotators
import alpaca_eval.metrics.glm_winrate as glm
import pandas as pd

FOLDER = Path(sys.argv[1]).resolve()
glm.hf_hub_download = lambda **asked: str(FOLDER / asked["filename"])  # the hub's file, which the package would fetch


def prefers_longer(prompts: list[str], **_: object) -> dict[str, list]:
    """Stands for a judge behind an API: log-probs of m and M, for the longer output."""
    found = []
    for prompt in prompts:
        first, second = (len(part) for part in prompt.split("<<<>>>")[1:3])
        share = 1 / (1 + math.exp((second - first) / 50))
        top = [{"token": token, "logprob": math.log(p)} for token, p in (("m", share), ("M", 1 - share))]
        found.append({"logprobs": {"content": [{"top_logprobs": top}]}, "text": "m"})
    zeros = [0.0] * len(prompts)
    return {
        "completions": [one["text"] for one in found],
        "completions_all": found,
        "price_per_example": zeros,
        "time_per_example": zeros,
    }


annotators.get_fn_completions = lambda name: prefers_longer
CONFIG = """\
longer:
  prompt_template: %s
  fn_completions: openai_completions
  completions_kwargs: {model_name: longer}
  fn_completion_parser: logprob_parser
  completion_parser_kwargs: {numerator_token: m, denominator_tokens: [m, M], is_binarize: false}
  completion_key: completions_all
  batch_size: 1
"""
(FOLDER / "longer").mkdir(exist_ok=True)
(FOLDER / "longer" / "configs.yaml").write_text(CONFIG % (FOLDER / "template.txt"))
(FOLDER / "template.txt").write_text("{instruction}<<<>>>{output_1}<<<>>>{output_2}")
board, judged = alpaca_eval.evaluate(
    model_outputs=str(FOLDER / "model_outputs.json"),
    reference_outputs=str(FOLDER / "baseline.json"),
    annotators_config=FOLDER / "longer",
    output_path=None,
    precomputed_leaderboard=None,
    is_return_instead_of_print=True,
    fn_metric="get_winrate",
    sort_by="win_rate",
    caching_path=None,
)
ours = pd.read_json(FOLDER / "annotations.json")
v1 = glm.get_length_controlled_winrate(ours, save_weights_dir=None, is_add_glm_preference_inplace=False)
minimal = glm.get_length_controlled_winrate(
    ours, glm_name="length_controlled_minimal", save_weights_dir=None, is_add_glm_preference_inplace=False
)
print(
    "FOUND",
    json.dumps({
        "accepted": len(judged),
        "name": list(board.index),
        "preferences": [row["preference"] for row in judged],
        "win_rate": float(v1["win_rate"]),
        "standard_error": float(v1["standard_error"]),
        "n": int(v1["n_total"]),
        "length_controlled": float(v1["length_controlled_winrate"]),
        "length_controlled_error": float(v1["lc_standard_error"]),
        "minimal": float(minimal["length_controlled_winrate"]),
    }),
)  # fmt: skip
