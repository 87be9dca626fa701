"""Published benchmarks of judges, for a judge that scores one response at a time: `BENCHMARKS`, one file a format."""

from yonder.evaluation.judge_benchmarks import judgebench, processbench, rewardbench2, rmbench

BENCHMARKS = {
    "rewardbench2": rewardbench2.BENCHMARK,
    "rm-bench": rmbench.BENCHMARK,
    "judgebench": judgebench.BENCHMARK,
    "processbench": processbench.BENCHMARK,
}
