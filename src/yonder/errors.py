"""Every error that Yonder raises on purpose.

A `YonderError` is one sentence for the user: what is wrong, where (key, file or line), and how to mend it. The
command line prints it
and exits with `exit_code`; anything else that escapes is a defect of ours.
"""


class YonderError(Exception):
    """Base of all errors that a user can mend."""

    exit_code = 2
    of_all = False  # every process of the run ends because of it, and starting again does not mend it


class Interrupted(YonderError):
    """The user ended the command; what is finished is kept."""

    exit_code = 130


class Stopped(YonderError):
    """A signal asked the run to stop; the step was finished and saved."""

    exit_code = 75  # "try again later" in sysexits.h: a scheduler may start the same command again
    of_all = True


class RecipeError(YonderError):
    """A recipe key is unknown, missing, of the wrong type, or contradicts another."""


class DataError(YonderError):
    """A data set cannot be found or read, or one of its lines is unusable."""


class ModelError(YonderError):
    """A model or tokenizer cannot be found, loaded, or used for what the recipe asks."""


class SandboxError(YonderError):
    """No program can be run here at all: an infrastructure failure, never the program's fault."""


class StorageError(YonderError):
    """A run directory cannot be read or written (disk full, read-only, damaged checkpoint)."""


class TrainingError(YonderError):
    """Training had to stop: non-finite loss, no usable reward, or a tripped guard."""


class RolloutError(TrainingError):
    """The servers of the rollouts give none, or none from the policy's weights; the run is as before this iteration."""

    exit_code = 75  # as `Stopped`
    what_next = ", the same command continues"


class LogprobsApart(RolloutError):
    """The sampler's log-probs are not the trainer's, and will not be at another try."""

    exit_code = TrainingError.exit_code
    what_next = ""


class ServerError(YonderError):
    """A server left too much unanswered; what it answered is kept, and the same command goes on."""

    exit_code = 75  # as `Stopped`


class BudgetReached(YonderError):
    """What the user allowed to be spent is spent; what it bought is kept, and a larger budget goes on."""


class NotFinite(TrainingError):
    """A loss or its gradient is not finite; the step was not made, weights and optimizer are as before."""

    def __init__(self, loss: float, norm: float) -> None:
        super().__init__(f"loss {loss:g} or gradient norm {norm:g} is not finite")
        self.loss = loss
        self.norm = norm


class RunsFailed(YonderError):
    """Some runs of a sweep failed or are not done yet; the same command tries these again."""

    exit_code = 1
