"""Requests to servers of models: limits, retries with backoff until a deadline, several base URLs, a count of tokens.

A fault of the server (refused, reset, timeout, 408, 429, 5xx, half an answer) is retried, on another URL if there is
one. What a retry cannot mend is told once every URL says it: a wrong key, path or model ends the run; a prompt that no
server will take stays without a verdict.
"""

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2

from yonder.errors import ModelError

T = TypeVar("T")
log = logging.getLogger("yonder")
WRONG_FOR_GOOD = (401, 403, 404, 405)  # key, rights, path or model: no request will do better
PASSING = (408, 409, 425, 429)  # besides 5xx
BAD_ANSWERS = 3  # answers that cannot be read before a request is given up; at least one of every server
LONGEST_PAUSE_S = 30.0
LONGEST_SLEEP_S = 1.0
CHANCE = random.Random()  # its own: other threads must not draw from the numbers that a reward was seeded with
GIVEN_UP_S = 5.0  # patience of a request while the servers are known to be down: the deadline is not waited for twice


class Unanswered(Exception):
    """This request has no answer; the text says why. Its rollouts stay unscored."""


class Refused(Unanswered):
    """No server takes this request; the text has a server's words."""


class _Passing(Exception):
    """A fault that another try may not meet."""


class _Wrong(Exception):
    """A key, path or model that this server does not know."""


@dataclass(frozen=True, slots=True)
class Limits:
    """See `recipe.rewards.ServerSettings`."""

    concurrency: int = 16
    requests_per_minute: float | None = None
    timeout_s: float = 60.0
    deadline_s: float = 600.0


@dataclass(slots=True)
class Usage:
    """What a server has cost so far."""

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

    def __init__(
        self, urls: tuple[str, ...], limits: Limits, key: str | None = None, name: str = "judge server"
    ) -> None:
        """`name`: what messages call the servers."""
        self.name = name
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
        self._wrong: dict[tuple[str, str], tuple[float, str]] = {}  # (url, path): rests until then, what was said
        self._faults_running = dict.fromkeys(self.urls, 0)  # faults since the last good answer
        self._next_start = 0.0
        self._last_fault = ""
        self._end = math.inf  # no request is waited for beyond it
        self._given_up = False  # a request has waited for the whole deadline and nothing was answered since

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def end_within(self, seconds: float) -> None:
        """Wait no longer than this for any request that is under way, nor for one that begins later: none is tried
        again then."""
        self._end = min(self._end, time.monotonic() + seconds)

    def post(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], T], final: Collection[int] = ()) -> T:
        """POST and read the answer; `read` raises ValueError, KeyError, IndexError or TypeError for one it cannot read.

        body None: GET. `final`: statuses from 500 on that a retry cannot mend either. Raises ModelError where every
        server says that key, path or model are wrong, Refused where none takes this body, Unanswered after the deadline
        or after unreadable answers.
        """
        patience = self.limits.deadline_s if not self._given_up else min(GIVEN_UP_S, self.limits.deadline_s)
        end = time.monotonic() + patience
        self._ask_again_where_all_were_wrong(path)
        refused: dict[str, Refused] = {}
        unreadable = Counter[str]()
        while (url := self._next(path, refused, unreadable, end)) is not None:
            self._wait_for_turn()
            try:
                answer = self._once(url, path, body, final)
                found = read(answer)
                self._count(url, answer)
                return found
            except _Passing as error:
                self._fault(url, str(error))
            except _Wrong as error:
                with self._lock:
                    self._wrong[url, path] = (time.monotonic() + LONGEST_PAUSE_S, str(error))
                if len(self.urls) > 1:
                    self._fault(url, f"a wrong key, path or model ({error})")
            except Refused as error:
                refused[url] = error
                end = min(end, time.monotonic() + GIVEN_UP_S)  # another server that is down is not waited for longer
            except (ValueError, KeyError, IndexError, TypeError) as error:
                fault = f"an answer that cannot be read ({type(error).__name__}: {str(error)[:120]})"
                self._fault(url, fault)
                self._rest(url)
                unreadable[url] += 1
                if unreadable.total() >= max(BAD_ANSWERS, len(self.urls)):
                    raise Unanswered(f"{url}{path} gave {fault}, {unreadable.total()} times") from error
            finally:
                with self._lock:
                    self._open[url] -= 1
        if refused:
            raise next(iter(refused.values()))
        self._given_up = True
        where = f"{self._where()}{path}"
        raise Unanswered(f"no answer from {where} within the deadline; the last fault: {self._last_fault}")

    def _once(self, url: str, path: str, body: dict[str, Any] | None, final: Collection[int]) -> Any:
        """One try: the parsed answer. Raises _Passing, _Wrong, Refused, or ValueError for what is no JSON."""
        try:
            response = self._client.get(url + path) if body is None else self._client.post(url + path, json=body)
        except httpx2.TimeoutException:
            self._rest(url)
            raise _Passing(f"no answer in {self.limits.timeout_s:g} s") from None
        except httpx2.TransportError as error:
            self._rest(url)
            raise _Passing(f"{type(error).__name__} ({str(error)[:120]})") from error
        status = response.status_code
        if status in WRONG_FOR_GOOD:
            mend = "check the key that `server.key_env` names" if status in (401, 403) else "check url and model"
            raise _Wrong(f"{self.name} {url}{path} answers {status}: {_said(response)}; {mend}")
        if status in PASSING or (status >= 500 and status not in final):
            asked_s = _retry_after(response)
            self._rest(url, asked_s)
            raise _Passing(f"status {status}" + (f" (Retry-After: {asked_s:g} s)" if asked_s else ""))
        if status >= 400:
            raise Refused(f"the {self.name} refuses this prompt ({status}: {_said(response)})")
        return response.json()

    def _next(self, path: str, refused: Collection[str], unreadable: Counter[str], end: float) -> str | None:
        """Wait for a server that this request may ask, and take it: of those not known to be down the one that gave it
        the fewest unreadable answers, then with the fewest open requests.

        None where the deadline comes first, or where none is left because one refused the request and the others are
        wrong or refused it, too. ModelError where all are wrong.
        """
        while True:
            with self._lock:
                now = time.monotonic()
                left = [u for u in self.urls if u not in refused]
                wrong = [self._wrong[u, path][1] for u in left if (u, path) in self._wrong]
                if wrong and len(wrong) == len(self.urls):
                    raise ModelError(wrong[-1])
                if now >= min(end, self._end) or len(wrong) == len(left):
                    return None
                back = {u: max(self._down_until[u], self._wrong.get((u, path), (0.0, ""))[0]) for u in left}
                up = [u for u in left if back[u] <= now]
                if up:
                    url = min(up, key=lambda u: (unreadable[u], self._open[u]))
                    self._open[url] += 1
                    self._wrong.pop((url, path), None)
                    return url
                wait = min(back.values()) - now
            if now + wait >= end:
                return None
            time.sleep(min(wait, LONGEST_SLEEP_S))

    def _ask_again_where_all_were_wrong(self, path: str) -> None:
        """A new request after such an end finds out for itself: a server may have been mended."""
        with self._lock:
            if all((url, path) in self._wrong for url in self.urls):
                for url in self.urls:
                    del self._wrong[url, path]

    def _rest(self, url: str, asked_s: float = 0.0) -> None:
        """Leave a faulty server alone for a while: longer with every fault in a row, or as long as it asks for."""
        with self._lock:
            self._faults_running[url] += 1
            pause = 0.25 * 2 ** min(self._faults_running[url] - 1, 10) * CHANCE.uniform(0.5, 1.0)
            rest = max(min(pause, LONGEST_PAUSE_S), min(asked_s, self.limits.deadline_s))
            self._down_until[url] = time.monotonic() + rest

    def _wait_for_turn(self) -> None:
        """Keep to the requests a minute: starts are spread evenly."""
        if self.limits.requests_per_minute is None:
            return
        with self._lock:
            start = max(time.monotonic(), self._next_start)
            self._next_start = start + 60.0 / self.limits.requests_per_minute
        time.sleep(max(0.0, start - time.monotonic()))

    def _fault(self, url: str, fault: str) -> None:
        name = fault.split(" (")[0]
        with self._lock:
            self._last_fault = fault
            self.usage.retries += 1
            self.usage.faults[name] += 1
            first = self.usage.faults[name] == 1
        if first:
            log.warning("%s %s: %s; trying again", self.name, url, fault)

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
    """Seconds that the server asks for, given as such or as a date; 0 where it says none."""
    said = response.headers.get("retry-after", "0")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 1.0
