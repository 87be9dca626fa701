"""The page as text: nothing gets out of its place, nothing secret gets in, and it stays small."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.fixture import HOSTILE, HUB_SECRET, SECRET, build_run, write, write_json, write_lines
from yonder.errors import StorageError
from yonder.reporting.curves import stage_curves, time_split
from yonder.reporting.page import embed, write_report
from yonder.reporting.records import StageRecord
from yonder.reporting.rollout_sample import Sighting, choose

MEGABYTE = 1_000_000


class Page(HTMLParser):
    """Tags with their attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([build_run(tmp_path_factory.mktemp("runs") / "one", steps=120, title=HOSTILE)])


def test_page_and_twin_stand_in_the_run_directory(written: Path) -> None:
    twin = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))
    assert written.name == "report.html" and twin["format"] == 1
    assert twin["results"][2]["cells"]["gsm8k"]["vote"]["k"] == 8
    assert twin["verdicts"][0]["stage"] == "distill-judge"
    assert sorted(path.name for path in written.parent.glob("report*")) == ["report.html", "report.json"]


def test_trips_of_the_monitor_are_on_the_page_with_their_rollouts(written: Path) -> None:
    twin = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))
    (event,) = twin["events"]
    assert (event["stage"], event["step"], event["rule"]) == ("distill-judge", 110, "false-yes-growth")
    assert event["done"] == "warned"
    assert event["figures"]["now"] == "0.61" and "bad" not in event["figures"]
    assert len(event["rollouts"]) == 2 and event["rollouts"][1]["scores"] == ["judge unscored ()"]
    assert SECRET not in event["message"]
    text = written.read_text(encoding="utf-8")
    assert "What the monitor said" in text and "distill-judge, step 110: false-yes-growth" in text
    assert "verified-wrong rollouts &lt;/script&gt;" in text


def test_hostile_text_stays_text(written: Path) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    assert [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "link", "base", "form")] == []
    assert [name for _, attributes in page.tags for name in attributes if name.startswith("on")] == []
    assert [attributes for _, attributes in page.tags if {"src", "srcset"} & set(attributes)] == []
    assert len(page.scripts) == 3
    assert [a["href"] for tag, a in page.tags if tag == "a" and not (a["href"] or "").startswith("#")] == []


def test_embedded_data_comes_back_as_it_was(written: Path) -> None:
    data = Page(written.read_text(encoding="utf-8")).scripts[0]
    assert not re.search("[<>&\u2028\u2029]", data)
    rows = json.loads(data)["rollouts"]["rows"]
    assert any(row["question"].startswith(HOSTILE) and HOSTILE in row["response"] for row in rows)


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "a & b", "\u2028\u2029", '"\\', "\x00\x1f", "数学 😀"])
def test_embed_is_json_without_markup(text: str) -> None:
    found = embed({text: [text, None]})
    assert json.loads(found) == {text: [text, None]}
    assert not set("<>&\u2028\u2029\x00") & set(found)


def test_no_secret_in_page_or_twin(written: Path) -> None:
    for path in (written, written.with_suffix(".json")):
        text = path.read_text(encoding="utf-8")
        for secret in (SECRET, HUB_SECRET, "hunter22", "abcdefghijk.lmnop", "line of the key"):
            assert secret not in text
        assert "[redacted]" in text and "OPENAI_API_KEY" in text


def test_scripts_are_allowed_by_their_hash_only(written: Path) -> None:
    page = Page(written.read_text(encoding="utf-8"))
    policy = next(a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    script_rule = next(rule for rule in policy.split("; ") if rule.startswith("script-src"))
    assert policy.startswith("default-src 'none'")
    assert script_rule.count("'sha256-") == 2 and "unsafe" not in script_rule


def rollout(step: int, stream: str, said: float, correct: bool | None, text: str) -> dict[str, Any]:
    scores: dict[str, Any] = {"judge": {"value": said, "reason": "", "details": {}}}
    if correct is not None:
        scores["correct"] = {"value": float(correct), "reason": "", "details": {"correct": correct}}
    return {"step": step, "stream": stream, "prompt_id": f"{step}", "question": "q", "response": text, "scores": scores}


@pytest.mark.parametrize(("length", "least", "most"), [(200, 1500, 1500), (4000, 300, 600)])
def test_a_long_log_is_sampled_over_all_steps_and_stays_small(
    tmp_path: Path, length: int, least: int, most: int
) -> None:
    """Short texts: 1,500 rollouts. Long ones: as many as 2.1 MB hold, about 4 kB each. The 15 disagreements always."""
    rows = [rollout(s, "unlabeled", 0.5, None, "x" * length) for s in range(3000)]
    rows += [rollout(s, "labeled", 0.9 + s / 1e5 if s % 100 == 0 else 0.1, False, "y" * length) for s in range(1500)]
    write_lines(tmp_path / "stages/rl/rollouts-00000000.jsonl", rows)
    path = write_report([tmp_path], tmp_path / "out/page.html")
    twin = json.loads((tmp_path / "out/page.json").read_text(encoding="utf-8"))["rollouts"]
    assert path.stat().st_size < 4 * MEGABYTE
    assert twin["total"] == 4500 and least <= twin["shown"] == len(twin["rows"]) <= most
    assert twin["tally"]["liked wrongly"] == 15 == sum(row["opinion"] == "liked wrongly" for row in twin["rows"])
    assert twin["rows"][twin["liked_wrongly"][0]]["liking"] == round(0.9 + 1400 / 1e5, 4)
    streams = {s: sorted(row["step"] for row in twin["rows"] if row["stream"] == s) for s in ("labeled", "unlabeled")}
    assert streams["labeled"][0] < 20 and streams["labeled"][-1] > 1480
    assert streams["unlabeled"][0] == 0 and streams["unlabeled"][-1] == 2999
    assert f"{twin['shown']:,} of 4,500 logged rollouts" in path.read_text(encoding="utf-8")


def test_the_best_liked_are_always_in_the_sample() -> None:
    """100 disagreements for 20 places; the three forced ones are no multiples of any even spacing."""
    seen = [
        Sighting(0, 0, Path("log"), line, line, "labeled", str(line), "wrong", "liked wrongly", False, line / 100)
        for line in range(100)
    ]
    forced = [seen[31], seen[47], seen[83]]
    chosen = choose(seen, forced, 20)
    assert len(chosen) == 20 and set(forced) <= set(chosen)
    assert [found.line for found in chosen] == sorted(found.line for found in chosen)


def test_one_endless_text_is_cut(tmp_path: Path) -> None:
    write_lines(tmp_path / "stages/rl/rollouts-00000000.jsonl", [rollout(1, "u", 0.5, None, "z" * MEGABYTE)])
    (row,) = json.loads(write_report([tmp_path]).with_suffix(".json").read_text(encoding="utf-8"))["rollouts"]["rows"]
    assert len(row["response"]) < 6100 and row["response"].endswith("… 994,000 more characters are in the log")


@pytest.mark.parametrize(
    ("scores", "verdict", "opinion", "unscored"),
    [
        (
            {"correct": {"value": 0.1, "details": {"correct": False}}, "judge": {"value": 0.9}},
            "wrong",
            "liked wrongly",
            False,
        ),
        ({"correct": {"value": 0.1, "details": {"correct": False}}, "judge": {"value": 0.6}}, "wrong", "", False),
        (
            {"correct": {"value": 1.0, "details": {"correct": True}}, "judge": {"value": 0.6}},
            "right",
            "disliked wrongly",
            False,
        ),
        ({"correct": {"value": None, "details": {}}, "judge": {"value": 0.9}}, "unknown", "", True),
        ({"judge": {"value": None, "reason": "no answer"}}, "unknown", "", True),
        ({"mine": {"value": 1.0, "details": {"correct": True}}}, "right", "", False),
        ({"correct": 1.0, "judge": 0.9}, "right", "", False),
        ({}, "unknown", "", True),
    ],
)
def test_how_scores_stand_to_each_other(
    tmp_path: Path, scores: Any, verdict: str, opinion: str, unscored: bool
) -> None:
    """The judge's delta is 0.7 in this card, so 0.6 is no liking."""
    write_json(tmp_path / "card.json", {"rewards": {"judge": {"delta": 0.7}}})
    row = {**rollout(1, "labeled", 0.0, None, "r"), "scores": scores}
    write_lines(tmp_path / "stages/rl/rollouts-00000000.jsonl", [row])
    (found,) = json.loads(write_report([tmp_path]).with_suffix(".json").read_text(encoding="utf-8"))["rollouts"]["rows"]
    assert (found["verdict"], found["opinion"], found["unscored"]) == (verdict, opinion, unscored)


def test_curves_keep_gaps_and_average_long_stages() -> None:
    rows: list[dict[str, Any]] = [{"step": s, "loss": float(s), "text": "no number"} for s in range(1, 7)]
    rows[2]["loss"] = None
    rows[3]["development/accuracy"] = 0.5
    stage = StageRecord("rl", "distill", "done", 1.0, {}, tuple(rows))
    whole = stage_curves(stage, 10)
    assert whole["axes"] == {"step": [1, 2, 3, 4, 5, 6], "row": [1, 2, 3, 4, 5, 6]}
    assert whole["series"] == {
        "loss": {"y": [1.0, 2.0, None, 4.0, 5.0, 6.0]},
        "development/accuracy": {"y": [0.5], "at": [3]},
    }
    short = stage_curves(stage, 3)  # two rows a point: (1+2)/2, 4 alone because 3 is missing, (5+6)/2
    assert short["every"] == 2 and short["axes"]["step"] == [2, 4, 6]
    assert short["series"]["loss"] == {"y": [1.5, 4.0, 5.5]}


def test_time_split_sums_the_parts() -> None:
    rows = ({"time/score_s": 2, "time/update_s": 1}, {"time/score_s": 3, "time/update_s": None, "time/odd": 9})
    assert time_split(StageRecord("rl", "distill", "done", 1.0, {}, rows)) == {"score": 5, "update": 1}


def test_several_runs_in_one_page(tmp_path: Path) -> None:
    runs = [build_run(tmp_path / name, seed, steps=12) for seed, name in enumerate(("a", "b"))]
    path = write_report(runs)
    twin = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert path == tmp_path / "report.html"
    assert [row["run"] for row in twin["results"]] == ["a"] * 3 + ["b"] * 3
    assert "distill-judge (b) is best on gsm8k" in twin["verdicts"][0]["sentence"]
    assert {(curve["run"], curve["stage"]) for curve in twin["curves"]} == {(r, s) for r in (0, 1) for s in (0, 3, 4)}


@pytest.mark.parametrize("leave", ["card.json", "recipe.yaml", "nothing"])
def test_a_run_that_has_hardly_begun_has_a_page(tmp_path: Path, leave: str) -> None:
    (tmp_path / "stages").mkdir()
    if leave != "nothing":
        write(tmp_path / leave, "{}")
    text = write_report([tmp_path]).read_text(encoding="utf-8")
    for said in ("No benchmark results yet", "No stage has written metrics", "No rollouts were logged"):
        assert said in text


def test_errors_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    blocked = tmp_path / "file"
    blocked.write_text("x")
    for runs, output in (([], None), ([tmp_path], blocked / "report.html"), ([tmp_path], tmp_path / "report.json")):
        with pytest.raises(StorageError) as caught:
            write_report(runs, output)
        assert "\n" not in str(caught.value)
