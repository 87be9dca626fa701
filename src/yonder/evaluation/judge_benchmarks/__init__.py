"""Published benchmarks of judges, for a judge that scores one response at a time: `BENCHMARKS`, one file a format."""

from yonder.errors import RecipeError
from yonder.evaluation.judge_benchmarks import judgebench, processbench, rewardbench2, rmbench
from yonder.evaluation.judge_benchmarks.base import Benchmark

BENCHMARKS = {
    "rewardbench2": rewardbench2.BENCHMARK,
    "rm-bench": rmbench.BENCHMARK,
    "judgebench": judgebench.BENCHMARK,
    "processbench": processbench.BENCHMARK,
}


def benchmark_of(name: str) -> Benchmark:
    """The benchmark of this name; RecipeError with the names there are."""
    if name not in BENCHMARKS:
        raise RecipeError(f"there is no judge benchmark `{name}`; choose one of: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
