"""Wrong responses that are made from right ones: what a judge may be fitted on, and what only measures it."""

from typing import Literal, get_args

Negative = Literal[
    "wrong-operator",
    "wrong-number",
    "swapped",
    "dropped-step",
    "repeated-step",
    "truncated",
    "other-question",
    "bare-number",
    "empty",
    "echo",
    "hedge",
    "decoy",
    "padding",
    "disguise",
]
"""What `fit-judge` may make: one pattern of the attack suite by its name, or any pattern of a kind by the kind's."""

Withheld = Literal["master-key", "injection", "control-token", "persuasion"]
"""Kinds of attack that no judge is fitted on: they show what it makes of tricks that it never met."""

WITHHELD: tuple[str, ...] = get_args(Withheld)
