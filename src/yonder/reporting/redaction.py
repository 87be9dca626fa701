"""Keep secrets out of whatever is written for others: keys that name one, and values that look like one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

MARK = "[redacted]"

_CERTAIN = {
    "password",
    "passwd",
    "passphrase",
    "secret",
    "secrets",
    "authorization",
    "credential",
    "credentials",
    "cookie",
}
_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("auth", "key"), ("client", "key")}
_TOKEN_OWNERS = {
    "api", "auth", "access", "hf", "hub", "huggingface", "wandb", "bearer", "refresh", "session", "github", "gitlab",
    "secret", "openai", "anthropic", "user", "personal", "login", "id", "csrf",
}  # fmt: skip
_VARIABLE = re.compile(r"^[A-Z][A-Z0-9_]*$")  # the NAME of an environment variable is no secret
_VALUES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"sk-[A-Za-z0-9_-]{6,}"
    r"|hf_[A-Za-z0-9]{6,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abprs]-[A-Za-z0-9-]{8,}|AKIA[0-9A-Z]{12,}|AIza[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"
    r")"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_USER_INFO = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_QUERY = re.compile(r"(?i)([?&](?:api[_-]?key|key|token|access_token|secret|password)=)[^&\s\"'#]+")
_YAML_KEY = re.compile(
    r"""^(?P<head>(?P<indent>\s*)(?:-\s+)*(?P<quote>['"]?)(?P<key>[\w.-]+)(?P=quote)\s*:)(?P<value>.*)$"""
)
_FLOW_KEY = re.compile(r"""(?P<head>[{,]\s*['"]?(?P<key>[\w.-]+)['"]?\s*:\s*)(?P<value>"[^"]*"|'[^']*'|[^,}\]\n]+)""")


def redact(value: Any) -> Any:
    """A copy of JSON-like data without secrets: by key name, and by the look of any text in it."""
    if isinstance(value, Mapping):
        return {key: MARK if is_secret(str(key), item) else redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """The text with everything that looks like a key, a bearer token or a URL's password marked out."""
    text = _VALUES.sub(MARK, text)
    text = _BEARER.sub(rf"\1 {MARK}", text)
    text = _USER_INFO.sub(MARK, text)
    return _QUERY.sub(rf"\g<1>{MARK}", text)


def redact_yaml(text: str) -> str:
    """The same for YAML text, line by line, so that comments and layout stay as they are."""
    lines: list[str] = []
    hidden_below: int | None = None  # a secret key with its value on the lines below it
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if hidden_below is not None and (not line.strip() or indent > hidden_below):
            continue
        hidden_below = None
        match = _YAML_KEY.match(line)
        plain = match["value"].strip().strip("'\"") if match else ""
        below = plain in ("", "|", ">", "|-", ">-", "|+", ">+")
        if match and is_secret(match["key"], "?" * 16 if below else plain):
            lines.append(f"{match['head']} {MARK}")
            hidden_below = indent if below else None
            continue
        lines.append(redact_text(_FLOW_KEY.sub(_hide_flow, line)))
    return "\n".join(lines)


def is_secret(key: str, value: Any) -> bool:
    """Whether this key names a secret. Token ids, limits in tokens and names of environment variables are none."""
    if value is None or isinstance(value, bool | int | float) or value == "":
        return False
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    words = [word for word in re.split(r"[^A-Za-z0-9]+", spaced.lower()) if word]
    if isinstance(value, str) and _is_plain(value):
        return False
    if words and words[-1] in ("env", "variable") and isinstance(value, str) and _VARIABLE.match(value):
        return False
    if _CERTAIN & set(words) or "apikey" in words or any(pair in _PAIRS for pair in pairwise(words)):
        return True
    if not words or words[-1] != "token" or not isinstance(value, str):
        return False
    if len(words) == 1:
        return len(value) >= 8  # shorter ones are words of a vocabulary: "Yes", "</s>"
    return words[-2] in _TOKEN_OWNERS


def _is_plain(value: str) -> bool:
    return value.lower() in ("null", "~", "none", "true", "false") or bool(re.fullmatch(r"-?\d{1,6}", value))


def _hide_flow(match: re.Match[str]) -> str:
    plain = match["value"].strip().strip("'\"")
    return match["head"] + MARK if is_secret(match["key"], plain) else match[0]
