"""Requests to judge servers: limits, retries with backoff until a deadline, several base URLs, a count of tokens.

A fault of the server (refused, reset, timeout, 408, 429, 5xx, half an answer) is retried, on another URL if there is
one. What a retry cannot mend is told at once: a wrong key, path or model ends the run; a prompt that the server will
not take leaves that prompt without a verdict.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2

from yonder.errors import ModelError

T = TypeVar("T")
log = logging.getLogger("yonder")
WRONG_FOR_GOOD = (401, 403, 404, 405)  # key, rights, path or model: no request will do better
PASSING = (408, 409, 425, 429)  # besides 5xx
BAD_ANSWERS = 3  # answers that cannot be read before a request is given up
LONGEST_PAUSE_S = 30.0
GIVEN_UP_S = 5.0  # patience of a request while the servers are known to be down: the deadline is not waited for twice


class Unanswered(Exception):
    """This request has no answer; the text says why. Its rollouts stay unscored."""


@dataclass(frozen=True, slots=True)
class Limits:
    """See `recipe.rewards.ServerSettings`."""

    concurrency: int = 16
    requests_per_minute: float | None = None
    timeout_s: float = 60.0
    deadline_s: float = 600.0


@dataclass(slots=True)
class Usage:
    """What a judge has cost so far."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "faults": dict(self.faults),
        }


class Transport:
    """Posts JSON to one of several servers that hold the same model; usable from many threads."""

    def __init__(self, urls: tuple[str, ...], limits: Limits, key: str | None = None) -> None:
        self.urls = tuple(url.rstrip("/") for url in urls)
        self.limits = limits
        self.usage = Usage()
        self._client = httpx2.Client(
            timeout=limits.timeout_s,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx2.Limits(max_connections=limits.concurrency + 4),
        )
        self._lock = threading.Lock()
        self._open = dict.fromkeys(self.urls, 0)
        self._down_until = dict.fromkeys(self.urls, 0.0)
        self._faults_running = dict.fromkeys(self.urls, 0)  # faults since the last good answer
        self._next_start = 0.0
        self._last_fault = ""
        self._given_up = False  # a request has waited for the whole deadline and nothing was answered since

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        """POST and read the answer; `read` raises ValueError, KeyError, IndexError or TypeError for one it cannot read.

        Raises ModelError for what no retry mends, Unanswered after the deadline, after unreadable answers, or where
        the server refuses this body.
        """
        patience = self.limits.deadline_s if not self._given_up else min(GIVEN_UP_S, self.limits.deadline_s)
        end = time.monotonic() + patience
        unreadable = 0
        while True:
            if not self._pause(end):
                self._given_up = True
                raise Unanswered(
                    f"no answer from {self._where()}{path} within the deadline; the last fault: {self._last_fault}"
                )
            url = self._pick()
            self._wait_for_turn()
            try:
                answer = self._once(url, path, body)
                if isinstance(answer, str):
                    self._fault(answer)
                else:
                    found = read(answer)
                    self._count(url, answer)
                    return found
            except (ValueError, KeyError, IndexError, TypeError) as error:
                unreadable += 1
                fault = f"an answer that cannot be read ({type(error).__name__}: {str(error)[:120]})"
                self._fault(fault)
                if unreadable >= BAD_ANSWERS:
                    raise Unanswered(f"{url}{path} gave {fault}, {unreadable} times") from error
            finally:
                with self._lock:
                    self._open[url] -= 1

    def _once(self, url: str, path: str, body: dict[str, Any]) -> Any:
        """One try: the parsed answer, or the name of a passing fault."""
        try:
            response = self._client.post(url + path, json=body)
        except httpx2.TimeoutException:
            self._rest(url)
            return f"no answer in {self.limits.timeout_s:g} s"
        except httpx2.TransportError as error:
            self._rest(url)
            return f"{type(error).__name__} ({str(error)[:120]})"
        status = response.status_code
        if status in WRONG_FOR_GOOD:
            mend = "check the key that `server.key_env` names" if status in (401, 403) else "check url and model"
            raise ModelError(f"judge server {url}{path} answers {status}: {_said(response)}; {mend}")
        if status in PASSING or status >= 500:
            self._rest(url, _retry_after(response))
            return f"status {status}"
        if status >= 400:
            raise Unanswered(f"the judge server refuses this prompt ({status}: {_said(response)})")
        return response.json()

    def _pick(self) -> str:
        """The server with the fewest open requests among those not known to be down; else the one back first."""
        with self._lock:
            now = time.monotonic()
            up = [url for url in self.urls if self._down_until[url] <= now]
            url = min(up or self.urls, key=lambda u: self._open[u] if up else self._down_until[u])
            self._open[url] += 1
            return url

    def _rest(self, url: str, asked_s: float = 0.0) -> None:
        """Leave a faulty server alone for a while: longer with every fault in a row, or as long as it asks for."""
        with self._lock:
            self._faults_running[url] += 1
            pause = 0.25 * 2 ** min(self._faults_running[url] - 1, 10) * random.uniform(0.5, 1.0)
            self._down_until[url] = time.monotonic() + min(max(pause, asked_s), LONGEST_PAUSE_S)

    def _pause(self, end: float) -> bool:
        """Wait until a server is up again; False where the deadline comes first."""
        with self._lock:
            wait = max(0.0, min(self._down_until.values()) - time.monotonic())
        if time.monotonic() + wait >= end:
            return False
        time.sleep(wait)
        return True

    def _wait_for_turn(self) -> None:
        """Keep to the requests a minute: starts are spread evenly."""
        if self.limits.requests_per_minute is None:
            return
        with self._lock:
            start = max(time.monotonic(), self._next_start)
            self._next_start = start + 60.0 / self.limits.requests_per_minute
        time.sleep(max(0.0, start - time.monotonic()))

    def _fault(self, fault: str) -> None:
        name = fault.split(" (")[0]
        with self._lock:
            self._last_fault = fault
            self.usage.retries += 1
            self.usage.faults[name] += 1
            first = self.usage.faults[name] == 1
        if first:
            log.warning("judge server %s: %s; trying again", self._where(), name)

    def _count(self, url: str, answer: Any) -> None:
        usage = answer.get("usage") if isinstance(answer, dict) else None
        with self._lock:
            self._faults_running[url] = 0
            self._given_up = False
            self.usage.requests += 1
            self.usage.prompt_tokens += int((usage or {}).get("prompt_tokens") or 0)
            self.usage.completion_tokens += int((usage or {}).get("completion_tokens") or 0)

    def _where(self) -> str:
        return self.urls[0] if len(self.urls) == 1 else f"{len(self.urls)} servers"


def _said(response: httpx2.Response) -> str:
    return " ".join(response.text.split())[:200]


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks for; 0 where it says none."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:
        return 1.0
