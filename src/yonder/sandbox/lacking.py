"""Which Monty errors mean "Monty does not have this" rather than "the program is wrong".

Decided by the text of the error. A wrong guess towards lacking costs one run of CPython and changes no verdict that
CPython would not give; a wrong guess the other way scores a good program as a crash, so the rules lean to the first.
"""

import builtins
import re

# Imported by the fork server before it confines itself: nothing else can be imported later. No module here is trusted
# to keep a program in; the kernel does that.
MODULES = (
    "abc",
    "bisect",
    "calendar",
    "cmath",
    "collections",
    "collections.abc",
    "contextlib",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "json",
    "math",
    "numbers",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "sys",
    "textwrap",
    "time",
    "types",
    "typing",
)

_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_MISSING_NAME = re.compile(r"NameError: name '(\w+)' is not defined")
_PHRASES = (
    "NotImplementedError:",  # syntax that its parser refuses
    "AttributeError:",  # a method or module function that it has not got
    "ImportError: cannot import name",
    "ValueError: time data",  # its strptime knows fewer formats
    "RuntimeError: Internal error in monty",
    "SyntaxError: Source is too deeply nested",  # CPython allows more
)


def lacks_feature(message: str) -> bool:
    """True if `message` ("Type: text", from Monty) may be about Monty instead of the program."""
    if found := _MISSING_MODULE.match(message):
        return found[1] in MODULES
    if found := _MISSING_NAME.match(message):
        return hasattr(builtins, found[1])
    if message.startswith("TypeError:"):
        return "keyword argument" in message
    return message.startswith(_PHRASES)
