"""The documents as tests read them: blocks, headings, links, commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("bash", "sh", "console")
# An indented block that begins so is no command: formulas, trees of folders, pieces of YAML, what a program prints.
NO_COMMAND = re.compile(
    r"(L|reward) = |src/yonder/$|runs/[\w-]+/$|step-\d+/|[a-z_]+:( |$)|yonder [a-z-]+ .*\[OPTIONS\]$", re.MULTILINE
)


class Command(NamedTuple):
    """One command of a block, and where it stands."""

    document: Path
    text: str


def name(path: Path) -> str:
    """`docs/how-to/lora.md`."""
    return path.relative_to(ROOT).as_posix()


def fenced(path: Path, language: str) -> list[str]:
    """Fenced examples of one language."""
    return [body for kind, body in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def indented(path: Path) -> list[str]:
    """Blocks that are indented by four blanks, outside of fences and lists, without the indent."""
    found: list[str] = []
    before = ""  # the last line that was not blank, at the margin
    for part in re.split(r"\n\s*\n", FENCE.sub("", path.read_text(encoding="utf-8"))):
        lines = part.strip("\n").splitlines()
        whole = bool(lines) and all(line.startswith("    ") for line in lines)
        if whole and not re.match(r"([-*]|\d+\.) ", before):
            found.append("\n".join(line[4:] for line in lines))
        elif lines:
            before = lines[0]
    return found


def command_blocks(path: Path) -> list[str]:
    """What a reader would type: shell fences, and indented blocks but those that `NO_COMMAND` knows."""
    shell = [body for kind, body in FENCE.findall(path.read_text(encoding="utf-8")) if kind in SHELL]
    return [*(block for block in indented(path) if not NO_COMMAND.match(block)), *shell]


def commands(path: Path) -> list[Command]:
    """Every single command of a document's blocks, without comments, loops and what stands behind it in prose."""
    found: list[Command] = []
    for block in command_blocks(path):
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
            plain = re.split(r"\s{2,}\S|\s#|^#", line.strip())[0].strip()
            for piece in re.split(r"\s*(?:;|&&|(?<= )\|)\s+", plain):
                text = re.sub(r"^(do|then) ", "", piece.strip()).rstrip(";")
                if text and not re.match(r"(for \w+ in |done$|fi$|esac$|if )", text):
                    found.append(Command(path, text.removeprefix(".venv/bin/")))
    return found


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as both GitHub and the site write them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\s-]", "", plain.lower()).strip().replace(" ", "-")
        count = sum(one == slug or one.startswith(f"{slug}_") for one in found)
        found.add(f"{slug}_{count}" if count else slug)
    return found


def links(path: Path) -> list[str]:
    """Every link and picture outside of code."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", path.read_text(encoding="utf-8")))
    direct = re.findall(r"\]\(([^)\s]+)\)", text)
    return [*direct, *re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE), *re.findall(r"<(https?://[^>]+)>", text)]
