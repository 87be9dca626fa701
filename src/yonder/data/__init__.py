"""Questions: sources, task formats, resumable streams."""

from yonder.data.datasets import load_data, resampled, with_solutions
from yonder.data.records import Record
from yonder.data.sources import fingerprint, read_records
from yonder.data.streams import MixtureStream, PromptStream, build_stream
from yonder.data.tasks import build_prompt

__all__ = [
    "MixtureStream",
    "PromptStream",
    "Record",
    "build_prompt",
    "build_stream",
    "fingerprint",
    "load_data",
    "read_records",
    "resampled",
    "with_solutions",
]
