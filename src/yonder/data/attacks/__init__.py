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
