"""What `yonder export` does, and asks before it uploads."""

from pathlib import Path
from typing import get_args

import typer

from yonder.errors import Interrupted, RecipeError
from yonder.exporting.push import check_name, push
from yonder.recipe.models import Dtype


def export_and_push(
    run: Path, to: Path, options: tuple[str | None, str | None, bool, str | None], name: str | None, public: bool,
    yes: bool,
) -> None:  # fmt: skip
    """Export; then, where a repository is named, upload once the user has confirmed it. `options`: stage, dtype, value
    head, licence. Raises what these raise, and RecipeError for a wrong dtype or name before anything is done."""
    stage, dtype, value_head, licence = options
    if dtype is not None and dtype not in get_args(Dtype):
        raise RecipeError(f"--dtype {dtype}: there is {', '.join(get_args(Dtype))}")
    if name is not None:
        check_name(name)

    from yonder.exporting.export import export

    chosen = export(run, to, stage, dtype, value_head, licence)
    typer.echo(f"{to}: the {chosen.kind} of stage {chosen.stage.name}")
    if name is None:
        return
    what = f"Upload {to} to the {'public' if public else 'private'} repository {name}?"
    if not yes and not typer.confirm(what):
        raise Interrupted(f"nothing was uploaded; {to} is complete")
    typer.echo(push(to, name, public))
