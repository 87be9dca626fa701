"""Draw the figures of docs/concepts as SVG that follows the reader's light or dark setting and loads nothing.

python tools/draw_figures.py
"""

import math
from pathlib import Path

from yonder.core.judging import judge_value

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "assets"
STYLE = """\
  text { font: 14px system-ui, sans-serif; fill: #1f2430; }
  .small { font-size: 12px; fill: #4a5266; }
  .middle { text-anchor: middle; }
  .end { text-anchor: end; }
  .box { fill: #eef1f8; stroke: #7c88a8; }
  .data { fill: #e3f1ea; stroke: #4f8f70; }
  .model { fill: #fdf0dd; stroke: #b98335; }
  .line { stroke: #5b6580; fill: none; stroke-width: 1.5; }
  .thin { stroke: #b4bccf; fill: none; }
  .tip { fill: #5b6580; }
  .a { stroke: #2f62c4; } .b { stroke: #c2562b; } .c { stroke: #2c8a63; }
  .curve { fill: none; stroke-width: 2.5; }
  .dot-a { fill: #2f62c4; } .dot-b { fill: #c2562b; } .dot-c { fill: #2c8a63; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8eaf2; }
    .small { fill: #b5bccd; }
    .box { fill: #2a3145; stroke: #8b97b8; }
    .data { fill: #203a30; stroke: #6fb392; }
    .model { fill: #43341d; stroke: #d2a25a; }
    .line { stroke: #a7b0c8; }
    .thin { stroke: #545d75; }
    .tip { fill: #a7b0c8; }
    .a { stroke: #7fa6f5; } .b { stroke: #ee8f66; } .c { stroke: #68c79d; }
    .dot-a { fill: #7fa6f5; } .dot-b { fill: #ee8f66; } .dot-c { fill: #68c79d; }
  }
"""
HACKED = (  # docs/experiments.md, A hacked judge: warm-up, end rolled back, end without rollback; seeds 0 to 4
    (58.0, 61.0, 25.7),
    (49.7, 56.3, 26.7),
    (60.0, 61.3, 41.7),
    (57.7, 70.3, 26.3),
    (65.3, 64.3, 26.7),
)


def figures() -> dict[str, str]:
    """Every figure by its file name."""
    return {
        "terms.svg": terms(),
        "judge.svg": judge(),
        "hacking.svg": hacking(),
        "reward-distillation.svg": reward_distillation(),
    }


def svg(width: int, height: int, about: str, *parts: str) -> str:
    """A whole file; `about` is read by screen readers."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{about}">'
    return "\n".join([head, f"<title>{about}</title>", f"<style>\n{STYLE}</style>", *parts, "</svg>\n"])


def box(x: int, y: int, width: int, lines: str, kind: str = "box") -> str:
    """A rounded box of 48 or more with centred lines, separated by `|`; the second and later ones are small."""
    texts = lines.split("|")
    height = 30 + 18 * len(texts)
    drawn = f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
    for i, line in enumerate(texts):
        drawn += text(
            x + width // 2, y + 29 + 18 * i - (0 if len(texts) > 1 else 1), line, "middle small" if i else "middle"
        )
    return drawn


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """One line of text."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{words}</text>'


def arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    """A straight arrow."""
    angle = math.atan2(y2 - y1, x2 - x1)
    sides = [(x2 - 9 * math.cos(angle + turn), y2 - 9 * math.sin(angle + turn)) for turn in (0.45, -0.45)]
    tip = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x2, y2), *sides])
    return f'<path class="line" d="M{x1} {y1}L{x2} {y2}"/><polygon class="tip" points="{tip}"/>'


def terms() -> str:
    """Streams to rollouts to rewards to one loss."""
    about = (
        "Two streams give rollouts; each term scores them with its own reward; the weighted losses share one backward"
    )
    rows = [(20, "verifier|right or wrong", "lambda = 0.5"), (110, "judge|P(Yes)", "mu = 0.25")]
    rows.append((200, "reranker|P(correct)", "rho = 0.25"))
    parts = [
        box(10, 20, 130, "labeled|questions, answers", "data"),
        box(10, 155, 130, "unlabeled|questions", "data"),
        box(190, 20, 110, "rollouts|by the policy"),
        box(190, 155, 110, "rollouts|by the policy"),
        arrow(140, 53, 188, 53),
        arrow(140, 188, 188, 188),
        arrow(300, 53, 348, 53),
        arrow(300, 180, 348, 145),
        arrow(300, 196, 348, 231),
    ]
    for y, reward, weight in rows:
        parts += [box(350, y, 130, reward, "model"), arrow(480, y + 33, 528, y + 33)]
        parts += [box(530, y, 130, f"its own loss|{weight}"), arrow(660, y + 33, 708, 143 + (y - 110) // 5)]
    parts += [box(710, 110, 130, "sum of losses|one backward")]
    return svg(850, 286, about, *parts)


def judge() -> str:
    """One position, two tokens, and the reward that comes of their gap."""
    about = "The judge reads question and response; the logits of Yes and No at one position give the reward"
    bars = [("Yes", 92, "dot-a"), ("No", 31, "dot-b"), ("The", 12, "tip"), ("I", 8, "tip"), ("...", 5, "tip")]
    parts = [box(10, 20, 180, "question + response|is it right? Answer:", "data"), arrow(190, 53, 228, 53)]
    parts += [box(230, 20, 110, "judge|one forward", "model"), arrow(285, 86, 285, 118)]
    parts += [text(150, 132, "next token", "small")]
    for i, (word, size, kind) in enumerate(bars):
        y = 142 + 22 * i
        parts += [
            text(218, y + 13, word, "end small"),
            f'<rect class="{kind}" x="226" y="{y}" width="{size}" height="14"/>',
        ]
    parts += [text(150, 270, "mass = P(Yes) + P(No): too little is no score", "small")]
    left, top, width, height = 470, 30, 330, 200
    for share in (0.0, 0.5, 1.0):
        y = top + height * (1 - share)
        parts += [
            f'<path class="thin" d="M{left} {y:g}H{left + width}"/>',
            text(left - 8, y + 4, f"{share:g}", "end small"),
        ]
    for gap in (-4, -2, 0, 2, 4):
        parts.append(text(left + width * (gap + 4) / 8, top + height + 18, f"{gap}", "middle small"))
    for tau, delta, kind in ((1.0, 0.0, "a"), (2.0, 0.0, "c"), (1.0, 0.7, "b")):
        points = [(gap / 20, judge_value(gap / 20, tau, delta)) for gap in range(-80, 81)]
        path = " ".join(f"{left + width * (x + 4) / 8:.1f},{top + height * (1 - y):.1f}" for x, y in points)
        parts.append(f'<polyline class="curve {kind}" points="{path}"/>')
    parts += [
        text(left + width / 2, top + height + 38, "z_yes - z_no", "middle small"),
        text(left, 20, "reward", "small"),
    ]
    for i, (words, kind) in enumerate((("tau 1", "dot-a"), ("tau 2", "dot-c"), ("tau 1, delta 0.7", "dot-b"))):
        y = 56 + 20 * i
        parts += [f'<rect class="{kind}" x="490" y="{y - 9}" width="12" height="4"/>', text(508, y - 3, words, "small")]
    return svg(830, 286, about, *parts)


def hacking() -> str:
    """Five seeds of `demo-hacked`: where each began and where it ended."""
    about = "Accuracy of five seeds: after the warm-up, at the end with rollback, and at the end without"
    left, top, width, height = 60, 30, 560, 220
    parts = [text(left, 18, "accuracy on 300 development questions, per cent", "small")]
    for share in (0, 20, 40, 60, 80):
        y = top + height * (1 - share / 80)
        parts += [
            f'<path class="thin" d="M{left} {y:g}H{left + width}"/>',
            text(left - 8, y + 4, str(share), "end small"),
        ]
    for seed, row in enumerate(HACKED):
        centre = left + width * (seed + 0.5) / len(HACKED)
        for i, (value, kind) in enumerate(zip(row, ("tip", "dot-c", "dot-b"), strict=True)):
            size = height * value / 80
            x, y = centre - 42 + 29 * i, top + height - size
            parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:.1f}" width="26" height="{size:.1f}"/>')
            parts.append(text(x + 13, y - 4, f"{value:.0f}", "middle small"))
        parts.append(text(centre, top + height + 18, f"seed {seed}", "middle small"))
    for i, (words, kind) in enumerate(
        (("warm-up", "tip"), ("end, rolled back", "dot-c"), ("end, no rollback", "dot-b"))
    ):
        y = 60 + 24 * i
        parts += [
            f'<rect class="{kind}" x="650" y="{y - 11}" width="14" height="14"/>',
            text(672, y + 1, words, "small"),
        ]
    return svg(800, 286, about, *parts)


def reward_distillation() -> str:
    """From a teacher's texts to a student that is trained by a reward model."""
    about = "A teacher answers each question several times; votes label all answers; a reward model learns from them"
    parts = [
        box(10, 90, 120, "questions|no answers", "data"),
        box(180, 20, 140, "teacher|several answers each", "model"),
        box(180, 160, 140, "student|several answers each", "model"),
        arrow(130, 115, 178, 60),
        arrow(130, 131, 178, 186),
        box(370, 20, 130, "vote|of equal answers"),
        arrow(320, 53, 368, 53),
        box(370, 160, 130, "labels|good or not", "data"),
        arrow(320, 193, 368, 193),
        arrow(435, 86, 435, 158),
        box(550, 20, 130, "warm-up|on good answers"),
        arrow(500, 160, 560, 88),
        box(550, 160, 130, "reward model|fitted, checked", "model"),
        arrow(500, 193, 548, 193),
        box(730, 90, 110, "RL|of the student"),
        arrow(680, 60, 728, 110),
        arrow(680, 186, 728, 136),
    ]
    return svg(850, 246, about, *parts)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, drawn in figures().items():
        (FOLDER / name).write_text(drawn, encoding="utf-8")
        print(FOLDER / name)
