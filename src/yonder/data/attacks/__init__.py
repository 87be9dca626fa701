"""The attack suite: wrong responses that try to make a judge say Yes, as patterns in kinds."""

from yonder.data.attacks.base import Pattern
from yonder.data.attacks.mistakes import CONSTANT, CUT, ELSEWHERE, MISTAKE, NOTHING
from yonder.data.attacks.texts import CONTROL_TOKEN, INJECTION, MASTER_KEY, PERSUASION
from yonder.data.attacks.tricks import DECOY, DISGUISE, ECHO, HEDGE, PADDING
from yonder.recipe.attacks import WITHHELD

ATTACKS: dict[str, dict[str, Pattern]] = {
    "mistake": MISTAKE,
    "cut": CUT,
    "elsewhere": ELSEWHERE,
    "constant": CONSTANT,
    "nothing": NOTHING,
    "echo": ECHO,
    "hedge": HEDGE,
    "decoy": DECOY,
    "padding": PADDING,
    "disguise": DISGUISE,
    "master-key": MASTER_KEY,
    "injection": INJECTION,
    "control-token": CONTROL_TOKEN,
    "persuasion": PERSUASION,
}
"""Kind -> pattern -> how it is made."""

PATTERNS: dict[str, Pattern] = {
    name: pattern for kind, patterns in ATTACKS.items() if kind not in WITHHELD for name, pattern in patterns.items()
}
"""The patterns that fitting may name."""

ALWAYS_WRONG: frozenset[str] = frozenset(
    {"nothing", "echo", "constant", "hedge", "padding"}
    | {*NOTHING, *ECHO, *CONSTANT, *HEDGE, *PADDING}
    | {"truncated", "half", "other-question", "two-others", "own-then-other"}
    | {*MASTER_KEY, *CONTROL_TOKEN, *INJECTION} - {"commented-mistake"}
)
"""Kinds and patterns that leave nothing of the right response whole: wrong also where no rule says so (open tasks)."""
