"""Two nodes train; one is cut off, dies, and comes back: the weights are those of a run that nothing happened to."""

from pathlib import Path

import pytest

from tests.slow.nodes import RECIPE, disturbed, resumed, undisturbed, why_not
from yonder.storage import read_json

pytestmark = pytest.mark.slow


def test_a_node_that_is_cut_off_and_dies_changes_no_bit(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    whole = undisturbed(recipe, tmp_path / "whole")
    result = read_json(tmp_path / "whole/stages/distill/stage.json")["result"]
    assert "alarm" not in result  # something was learned
    assert disturbed(recipe, tmp_path / "broken") == whole
    assert any(where.startswith("step") for where in resumed(tmp_path / "broken"))
