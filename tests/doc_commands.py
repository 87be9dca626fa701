"""Which commands of the documents run in a test, and which are only parsed against the real command line, and why."""

from __future__ import annotations

import re

# Run as they stand by tests/test_doc_commands.py.
FAST = (
    "yonder recipes",
    "yonder recipes demo",
    "yonder doctor",
    "yonder sweep --list",
    "yonder sweep sweep-demo --print-commands",
)

# Run by tests/slow/test_doc_commands.py in this order, in one folder, with these values added to make them small.
SMALL = (
    "threads=1",
    "data.labeled.options.count=48",
    "warmup.epochs=1",
    "check.floor=0",
    "check.attack_questions=2",
    "data.new_labeled.options.count=20",
    "rewards.judge.allow_unmeasured=true",  # one epoch gives no right responses to measure with
    "rewards.judge.allow_failing=true",
    "verifiable_only.steps=1",
    "distill.steps=1",
    "data.held_out.options.count=20",
)
ONE_SEED = ("--seeds", "0", *SMALL)
SLOW = (
    ("make demo", SMALL),  # what it runs: `yonder run demo`
    ("yonder run demo", SMALL),
    ("yonder report runs/demo", ()),
    ("yonder check-judge demo", SMALL),
    ("yonder run demo seed=1 output_dir=runs/demo-1", SMALL),
    (
        "yonder run demo distill.terms.correct.weight=0.0 distill.terms.judge.weight=1.0 output_dir=runs/judge-only",
        SMALL,
    ),
    ("yonder report runs/demo runs/demo-1 --output runs/both.html", ()),
    ("yonder judge FILE.jsonl --model yonder:judge", ()),
    ("yonder compare runs/demo:warmup runs/demo:distill", ()),
    ("yonder compare runs/A runs/B", ()),
    ("yonder compare runs/a runs/b", ()),
    ("yonder report runs/a runs/b", ()),
    ("yonder export runs/demo --to FOLDER", ()),
    ("yonder export runs/demo --to student", ()),
    ("yonder runs runs", ()),
    ("yonder watch runs/demo --terminal", ()),
    ("make sweep-demo", ONE_SEED),
    ("yonder sweep sweep-demo", ONE_SEED),
    ("yonder sweep sweep-demo --jobs 2", ONE_SEED),
    ("yonder sweep sweep-demo --table", ONE_SEED),
    ("yonder report sweeps/weights", ()),
    ("yonder sweep demo --grid distill.kl.beta=0.003,0.03 --seeds 0,1,2 --checkpoint distill", ONE_SEED),
    (
        "yonder sweep demo --seeds 0,1,2 --checkpoint distill --baseline even "
        "--row 'even: distill.terms.correct.weight=0.5 distill.terms.judge.weight=0.5' "
        "--row 'judge only: distill.terms.correct.weight=0 distill.terms.judge.weight=1'",
        ONE_SEED,
    ),
    ("make docs", ()),
)

# Parsed: command, options and arguments exist, recipe and overrides are valid, files and targets are there.
PARSED = (
    (
        r"yonder \S+ (mine|my)\.yaml\b.*",
        "the reader's own recipe: the one of the page is loaded; run by test_first_run",
    ),
    (r"yonder \S+ RECIPE\b.*", "shows what may follow"),
    (r"yonder run demo seed=\$s .*", "minutes for each seed; the same as `yonder run demo seed=1`"),
    (
        r"yonder run (demo-controls|demo-hacked|svamp-cpu|gsm8k-cpu)( .*)?|yonder distill svamp-few-labels .*",
        "minutes to an hour",
    ),
    (r"yonder run rewards-demo\b.*", "minutes; small in tests/slow/test_reward_recipes.py"),
    (r"yonder plan gsm8k-\S+ .*", "models of a hub"),
    (r"yonder judge \S+ --model Qwen\S+ .*", "a model of a hub"),
    (r"yonder judge-benchmark .*", "data of a hub"),
    (r"(srun )?python -m torch\.distributed\.run .*", "several processes; in tests/slow/test_distributed.py"),
    (r"yonder watch runs/demo( --port 7117)?", "serves until it is stopped; in tests/watching"),
    (r"yonder sweep svamp-weights .*", "hours"),
    (r"yonder export \S+ .* --push \S+", "a hub"),
    (r"ssh -L .*", "another machine"),
    (r"srun yonder run my\.yaml", "needs Slurm"),
    (r"python (benchmarks|tools|examples)/\S+\.py.*", "hours, or has a test of its own"),
    (r"make (test|test-slow|check|setup|setup-dev)", "installs, takes long, or runs these very tests"),
    (r"pip install .*", "installs"),
    (r"git clone REPOSITORY yonder|cd yonder", "the reader's place"),
    (r"([A-Z_]+=\S+ )*vllm serve .*", "a server; started in tests/slow/servers.py"),
    (r"llama-server .*|python -m sglang\.launch_server .*", "a server"),
    (r"export \w+=.*|rm -f \S+|code=.*|case .*|exit .*|tee .*|\[ .* \]|scontrol requeue .*", "shell around it"),
)


def classes(command: str) -> list[str]:
    """The classes that a command is in; it should be one."""
    found = [kind for kind, known in (("fast", FAST), ("slow", [text for text, _ in SLOW])) if command in known]
    return found + ["parsed" for pattern, _ in PARSED if re.fullmatch(pattern, command)]
