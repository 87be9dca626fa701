"""Write docs/commands.md: every command, its arguments and options, from the functions behind them.

python tools/command_reference.py
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, CommandInfo, OptionInfo

from yonder.commands.cli import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
HEAD = """\
# Commands

Every command of `yonder`. This page is written by `tools/command_reference.py` from the functions in
`src/yonder/commands/cli.py`: edit those, run the script, commit both. `yonder COMMAND --help` says the same in a
terminal. Exit codes: [resuming](resuming.md#signals-and-exit-codes).
"""
WORDS = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH"}


def render() -> str:
    """The whole page."""
    commands = {name_of(command): command for command in app.registered_commands}
    rows = [f"| [`yonder {name}`](#yonder-{name}) | {cell(says(command))} |" for name, command in commands.items()]
    index = "\n".join(["| command | |", "|---|---|", *rows]) + "\n"
    return "\n".join([HEAD, index, *(section(name, command) for name, command in commands.items())])


def name_of(command: CommandInfo) -> str:
    """As it is typed."""
    return command.name or behind(command).__name__.replace("_", "-")


def behind(command: CommandInfo) -> Callable[..., Any]:
    """The function of a command."""
    assert command.callback is not None
    return command.callback


def says(command: CommandInfo) -> str:
    """What a command does."""
    return " ".join((behind(command).__doc__ or "").split())


def section(name: str, command: CommandInfo) -> str:
    """One command: usage, what it does, a table of what may follow."""
    hints = get_type_hints(behind(command), include_extras=True)
    usage, rows = [f"yonder {name}"], ["| | default | meaning |", "|---|---|---|"]
    for parameter in inspect.signature(behind(command)).parameters.values():
        kind, info = get_args(hints[parameter.name])[:2]
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            metavar = info.metavar or parameter.name.upper()
            usage.append(metavar if required or metavar.startswith("[") else f"[{metavar}]")
            named = f"`{metavar}`"
        else:
            named = option(parameter.name, kind, info)
        shown = "required" if required else "" if parameter.default in (None, False) else f"`{parameter.default}`"
        rows.append(f"| {named.replace('|', ' or ')} | {shown} | {cell(info.help or '')} |")
    usage += ["[OPTIONS]"] if any(row.startswith("| `-") for row in rows) else []
    return f"## `yonder {name}`\n\n    {' '.join(usage)}\n\n{says(command)}\n" + (
        "\n" + "\n".join(rows) + "\n" if len(rows) > 2 else ""
    )


def option(name: str, kind: Any, info: OptionInfo) -> str:
    """An option with its value, as it is typed."""
    plain = next(one for one in get_args(kind) if one is not type(None)) if is_union(kind) else kind
    repeats = get_origin(plain) is list
    inner = get_args(plain)[0] if repeats else plain
    given = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]  # within Annotated
    flags = given or [f"--{name.replace('_', '-')}"]
    value = "" if inner is bool else f" {info.metavar or WORDS[inner]}"
    return ", ".join(f"`{flag}{value}`" for flag in flags) + (" (may repeat)" if repeats else "")


def is_union(kind: Any) -> bool:
    """`X | None`."""
    return get_origin(kind) is Union or type(kind).__name__ == "UnionType"


def cell(text: str) -> str:
    """Text inside a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(TARGET)
