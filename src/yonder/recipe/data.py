"""Recipe sections about questions: task formats, data sets, benchmarks."""

from typing import Any, Literal

from pydantic import Field, model_validator

from yonder.recipe.base import Section


class TaskSettings(Section):
    """How a question becomes a prompt and a completion becomes an answer."""

    format: Literal["program", "text", "choice", "open"] = "program"
    """program: the completion is the body of a Python function; text: reasoning in words; choice: a letter; open:
    free text."""
    docstring: bool = True
    """program only: repeat the question as the docstring of the function ([J], [ReFT])."""
    numbers: Literal["plain", "named"] = "plain"
    """program only. named: the question in one spelling with n0, n1, ... in place of its numbers, which the given
    part of the program
    assigns; the completion is one expression over those names. For policies too small to copy digits [ours]."""
    instruction: str = ""
    """program: appended to the docstring ([J] B.3's patch); other formats: appended to the question."""
    chat: bool = False
    """Put the prompt into the policy's own chat template."""
    system: str = ""
    """System message, with `chat` only."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion, besides the model's end tokens."""
    tolerance: float = Field(default=1e-2, ge=0)
    """Largest |answer - label| that counts as equal, absolute ([ReFT])."""


class DataSettings(Section):
    """One data set: where its questions come from. Used by name as a stream, a training set or a benchmark."""

    source: str | None = None
    """`svamp`, `gsm8k`, `word-problems` (embedded); `mathqa`, `gsm8k-aug`, `gsm-plus`, `gsm-symbolic`, `mmlu-pro`
    or `hub:OWNER/NAME` (hub);
    or a path to a .jsonl, .jsonl.gz, .json (a list of objects), .csv or .parquet file."""
    split: str = "train"
    """Split of the source."""
    options: dict[str, Any] = {}
    """What the source takes besides: `config`, `revision`, `path` (a downloaded folder or file) for hub data sets, and
    `unanswerable` (true: keep questions whose answer is "None") for gsm-plus; `count`, `seed`, `templates` for
    word-problems."""
    columns: dict[str, str] = {}
    """For files and `hub:` sources: our field (question, answer, solution, id, category, options, reference) -> their
    column. `reference` is shown to judges that ask for it, also where `labeled` is false."""
    limit: int | None = Field(default=None, gt=0)
    """Keep this many questions, drawn by the recipe's seed."""
    without: tuple[str, ...] = ()
    """Data sets whose questions are left out before `limit` is drawn: the rest of a source of which another one is the
    labeled part."""
    labeled: bool = True
    """False hides the answers from every reward: an unlabeled stream."""
    labels: str | None = Field(default=None, pattern=r"^stage:.+$")
    """`stage:NAME` of a label stage, with `labeled: false`: its labels instead of the source's. The vote is the answer,
    good teacher responses are the solutions; questions without a label are left out."""
    solutions: Literal["good", "all"] = "good"
    """With `labels`: which teacher responses SFT learns; all: right or wrong, sequence-level distillation."""
    most_solutions: int = Field(default=4, gt=0)
    """With `labels`: most solutions of a question, drawn by the recipe's seed; each is an example of SFT."""
    development: int = Field(default=0, ge=0)
    """Questions set apart by the recipe's seed; used by the name `<this data set>.development`, never trained on."""
    mixture: dict[str, float] | None = None
    """Instead of a source: other data sets and their shares in every pass; shares sum to one."""
    task: TaskSettings | None = None
    """Task format of this data set; default: the recipe's `task`."""
    augment: Literal["none", "resample-numbers"] = "none"
    """resample-numbers: SFT sees each question with new numbers in every epoch, the program changed alike."""

    shots: int = Field(default=0, ge=0)
    """Worked questions of the same category that stand before each question; 0: zero-shot."""
    shots_from: str | None = None
    """Data set with the worked questions: labeled, with solutions; each category's first ones are shown."""

    @model_validator(mode="after")
    def _one_origin(self) -> "DataSettings":
        if (self.source is None) == (self.mixture is None):
            raise ValueError("give either `source` or `mixture`")
        if self.labels is not None and (self.labeled or self.source is None):
            raise ValueError("`labels` stand for the answers of a source; give `source` and `labeled: false` beside it")
        if self.labels is None and self.solutions == "all":
            raise ValueError("`solutions: all` is for data with `labels`; name the label stage there")
        if self.mixture is not None and abs(sum(self.mixture.values()) - 1) > 1e-6:
            raise ValueError(f"shares of `mixture` sum to {sum(self.mixture.values()):g}; make them sum to 1")
        if (self.shots > 0) != (self.shots_from is not None):
            raise ValueError("`shots` and `shots_from` go together; give both or neither")
        if self.without and self.mixture is not None:
            raise ValueError("a mixture takes no `without`; set it on the mixture's parts")
        if self.shots and self.mixture is not None:
            raise ValueError("a mixture takes no `shots`; set them on the mixture's parts")
        return self


class BenchmarkSettings(Section):
    """One table column: a labeled data set and how it is answered."""

    data: str
    """Name of the data set."""
    votes: int = Field(default=0, ge=0)
    """Samples a question for the majority vote and pass@k at temperature `vote_temperature`; 0: greedy only. [J] uses
    100."""
    vote_temperature: float = Field(default=1.0, gt=0)
    """Temperature of all samples."""
    pass_at: tuple[int, ...] = ()
    """Every k of pass@k (the chance that one of k samples is right), estimated without bias from the `votes` samples;
    at most `votes` each."""
    seeds: int = Field(default=0, ge=0)
    """Sampling seeds: one sample of each question with each, and mean accuracy and spread over them; 0: none."""
    groups: Literal["auto", "category", "none"] = "auto"
    """category: the categories are repetitions of one test, so accuracy is told by its mean and spread over them; auto:
    only for gsm-symbolic, whose categories are its instances."""
    unanswerable: bool = False
    """Grade questions whose label is "None" too: right is a response that says that there is no answer. The accuracy
    without them stands beside. False: they are left out. gsm-plus has them with `options: {unanswerable: true}`."""

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the result, as plain values; those that were not always there only where given."""
        newer = ("pass_at", "seeds", "groups", "unanswerable")
        defaults = {name: type(self).model_fields[name].default for name in newer}
        idle = {name for name, value in defaults.items() if getattr(self, name) == value}
        return self.model_dump(mode="json", exclude=idle)

    @model_validator(mode="after")
    def _samples_suffice(self) -> "BenchmarkSettings":
        wrong = [k for k in self.pass_at if not 1 <= k <= self.votes]
        if wrong:
            raise ValueError(
                f"`pass_at` has {wrong[0]}, but `votes` samples {self.votes} answers a question; give k from 1 to "
                "`votes`, or raise `votes`"
            )
        if len(set(self.pass_at)) < len(self.pass_at):
            raise ValueError("`pass_at` names a k twice; name each once")
        return self
