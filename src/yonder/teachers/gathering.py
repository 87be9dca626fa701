"""Asks a teacher for many answers at once, within a budget; each is kept when it comes."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from yonder.errors import ServerError
from yonder.signals import StopRequest
from yonder.teachers.answers import AnswerLog, Ask, missing
from yonder.teachers.server import TeacherServer
from yonder.teachers.spending import Budget, estimate_said
from yonder.training.progress import Progress
from yonder.transport import Unanswered

FIRST = 20  # answers after which the estimate is made again
TICK_S = 0.5  # how often a request to stop is looked for
PATIENCE_S = 20.0  # of a request that is under way when the stage is to stop


@dataclass(slots=True)
class Gathering:
    """One start of a collect stage with a teacher."""

    name: str
    asks: Sequence[Ask]  # all of them, in the order in which they are made
    server: TeacherServer
    log: AnswerLog
    budget: Budget
    most_missing: int  # answers that may lack
    progress: Progress
    stop: StopRequest
    exhausted: bool = False  # the budget allows no further request
    unanswered: int = 0  # in this start
    reason: str = ""  # of the last of them
    ending: bool = False  # what is under way is not waited for any longer
    _open: dict[Future[None], Ask] = field(default_factory=dict[Future[None], Ask])

    def run(self) -> None:
        """Ask for what is missing. Raises Stopped, ModelError for a wrong key, path or model, ServerError as soon as
        too many questions are unanswered; what was answered is kept."""
        waiting = deque(missing(self.asks, self.log.answers))
        self.progress.say(self.estimate(waiting))
        self.progress.start(self.name, len(self.asks), len(self.asks) - len(waiting))
        before = len(self.log.answers)
        transport = self.server.transport
        with ThreadPoolExecutor(transport.limits.concurrency) as pool:
            try:
                while True:
                    while waiting and len(self._open) < transport.limits.concurrency and self._may_ask(waiting[0]):
                        ask = waiting.popleft()
                        self._open[pool.submit(self._work, ask)] = ask
                    if not self._open:
                        break
                    early = len(self.log.answers) - before < FIRST
                    self._settle(wait(self._open, TICK_S, FIRST_COMPLETED).done)
                    if early and len(self.log.answers) - before >= FIRST and waiting:
                        self.progress.say(self.estimate(waiting))
            except BaseException as error:
                self._end_within(0.0)
                if isinstance(error, KeyboardInterrupt):  # not even what is under way is waited for
                    transport.close()
                raise
        if waiting or self.unanswered:
            self.stop.check(f"{self.name}: {len(self.log.answers)} of {len(self.asks)} answers are kept")
        self.progress.finish()

    def estimate(self, waiting: Sequence[Ask]) -> str:
        """What is still to be asked, and what it takes."""
        read = sum(ask.prompt_tokens for ask in waiting)
        answers = list(self.log.answers.values())
        each = sum(a.completion_tokens for a in answers) / len(answers) if len(answers) >= FIRST else None
        written = len(waiting) * (self.server.manner.max_tokens if each is None else each)
        said = estimate_said(read, written, self.budget.prices, most=each is None)
        had = f" ({len(answers):,} are there)" if answers else ""
        return f"{self.name}: {len(waiting):,} answers to ask for{had}, {said}"

    def _work(self, ask: Ask) -> None:
        """One request, in a thread of its own: its answer is in the file before anything else happens."""
        try:
            self.log.add(ask.key, self.server.ask(ask.prompt, ask.key.temperature, ask.seed))
        except Unanswered as error:
            if not self.ending:  # else it was not waited for
                self.log.add_unanswered(ask.key, str(error))
            raise

    def _settle(self, done: set[Future[None]]) -> None:
        for future in done:
            del self._open[future]
            try:
                future.result()
            except Unanswered as error:
                self.unanswered += 1
                self.reason = str(error)
        self.progress.advance(len(self.log.answers), {})
        if self.stop.asked:
            self._end_within(PATIENCE_S)
        elif self.unanswered > self.most_missing:
            raise ServerError(
                f"stage {self.name}: {self.unanswered} requests have no answer ({self.reason}), more than "
                f"`teacher.max_unanswered` lets lack; {len(self.log.answers)} of {len(self.asks)} answers are kept, "
                "and the same command goes on"
            )

    def _end_within(self, seconds: float) -> None:
        self.ending = True
        self.server.transport.end_within(seconds)

    def _may_ask(self, ask: Ask) -> bool:
        """Whether nobody asked to stop, and the budget holds even if all that is open is as long as it may be."""
        read, written = self.log.used
        under_way = [*self._open.values(), ask]
        read += sum(one.prompt_tokens for one in under_way)
        written += len(under_way) * self.server.manner.max_tokens
        self.exhausted = not self.budget.allows(read, written)
        return not self.stop.asked and not self.exhausted
