"""How good a model and its judges were: what evaluate and check-judge stages of the run found."""

from typing import Any

from yonder.exporting.choosing import Chosen
from yonder.exporting.lineage import rewards_used
from yonder.recipe.judge_stages import CheckJudgeStage
from yonder.reporting.tables import percent
from yonder.storage import read_json

_FIGURES = {"accuracy": "accuracy", "auroc": "AUROC", "false_positive_rate": "Yes to wrong responses"}


def benchmark_rows(chosen: Chosen) -> dict[str, dict[str, Any]]:
    """Checkpoint -> benchmark -> figures, of every finished evaluate stage."""
    found: dict[str, dict[str, Any]] = {}
    for stage in chosen.recipe.stages:
        record = read_json(chosen.run / "stages" / stage.name / "stage.json")
        if record.get("status") == "done":
            for checkpoint, row in record.get("result", {}).get("results", {}).items():
                found.setdefault(checkpoint, {}).update(row)
    return found


def table(chosen: Chosen) -> dict[str, Any]:
    """Rows of text: this model's first, then what it is compared with; no rows where it was not evaluated."""
    rows = benchmark_rows(chosen)
    if chosen.stage.name not in rows:
        return {"benchmarks": [], "rows": []}
    benchmarks = list(dict.fromkeys(name for row in rows.values() for name in row))
    order = [chosen.stage.name, *(name for name in rows if name != chosen.stage.name)]
    return {
        "benchmarks": benchmarks,
        "rows": [[f"**{n}**" if n == order[0] else n, *(_cell(rows[n].get(b)) for b in benchmarks)] for n in order],
    }


def contaminations(chosen: Chosen) -> list[str]:
    """What was found of training questions in the benchmarks of this model."""
    row = benchmark_rows(chosen).get(chosen.stage.name, {})
    found = {name: cell.get("contamination") for name, cell in row.items()}
    return [f"{name}: {known['note']}" for name, known in found.items() if known and known.get("note")]


def checks_of_judges(chosen: Chosen) -> list[dict[str, Any]]:
    """What check-judge stages found of the rewards that this model learned from, or of itself where it is one."""
    mine = {n for n, s in chosen.recipe.rewards.items() if getattr(s, "model", None) == f"stage:{chosen.stage.name}"}
    wanted, found = mine | set(rewards_used(chosen)), list[dict[str, Any]]()
    for stage in chosen.recipe.stages:
        known = read_json(chosen.run / "stages" / stage.name / "judge_check.json")
        if not isinstance(stage, CheckJudgeStage) or stage.reward not in wanted or not known:
            continue
        figures = [f"{text} {_interval(known[key])}" for key, text in _FIGURES.items() if known.get(key)]
        pairs = known.get("pairwise") or {}
        if pairs.get("value") is not None:
            figures.insert(0, f"right above wrong response {_interval(pairs)}")
        admission = known.get("admission", {})
        found.append({"reward": stage.reward, "verdict": admission.get("verdict"), "why": admission.get("why"),
                      "figures": figures, "delta": known.get("delta")})  # fmt: skip
    return found


def _cell(cell: dict[str, Any] | None) -> str:
    """`54.7 % [51.6 %, 57.8 %], n 1000`; a vote beside it."""
    if cell is None or cell.get("accuracy") is None:
        return "not measured"
    text = f"{_interval({'value': cell['accuracy'], **cell})}, n {cell['n']}"
    if cell.get("unscored"):
        text += f", {cell['unscored']} unscored"
    vote = cell.get("vote")
    if vote and vote.get("accuracy") is not None:
        text += f"; vote of {vote.get('samples')} {_interval({'value': vote['accuracy'], **vote})}"
    return text


def _interval(figure: dict[str, Any]) -> str:
    bounds = [percent(figure.get(end)) for end in ("low", "high") if figure.get(end) is not None]
    return percent(figure.get("value")) + (f" [{', '.join(bounds)}]" if len(bounds) == 2 else "")
