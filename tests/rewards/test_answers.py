r"""Tables of real answer forms: [ReFT]'s text data, GSM8K, GSM-Plus labels, MathQA rationales, chat models."""

import gzip
import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from yonder.rewards.answers import final_letter, final_number, read_letter, read_number
from yonder.rewards.latex import latex_number

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

NUMBERS: list[tuple[str, float | None]] = [
    ("The answer is 12 000.", 12000),  # spaces between thousands
    ("The answer is 12\u00a0000 euros", 12000),
    ("Therefore, the answer is <203>.", 203),  # [ReFT] svamp_nl
    ("Therefore, the answer is <69.32%>.", 69.32),
    ("the answer is $1,000.", 1000),
    ("The answer is 18%", 18),
    ("so the answer is 1/2.", 0.5),
    ("So the answer is **60**.", 60),
    ("So the answer is: 1,200,000 people", 1200000),
    ("The final answer is $1,250.50!", 1250.5),
    ("The answer is -3.5", -3.5),
    ("The answer is −7.", -7),  # a typographic minus
    ("the answer is - 3.0 .", -3),  # MathQA's tokens
    ("The answer is -$5", -5),
    ("The answer is $-5", -5),
    ("the answer is .5", 0.5),
    ("The answer is 2e3", 2000),
    ("The answer is 3 1/2 hours", 3.5),
    ("The answer is 3½ hours", 3.5),
    ("The answer is 5 * 4 = 20.", 20),
    ("The answer is 5 × 4", 20),
    ("The answer is:\n\n18", 18),
    ("The answer is\n$$\n18\n$$", 18),
    ("The answer is 18. She started with 20.", 18),
    ("The answer is 3. Wait: the answer is 4.", 4),
    ("The answer is not 5. It is 6", 6),
    ("The answer is Rs. 50", 50),
    ("The answer is 12 cm^2", 12),
    ("**Answer:** $18", 18),
    ("**Final Answer**: 18 dollars", 18),
    ("Answer: Janet has 16 eggs. She sells 9 for 18", 18),  # a solution behind "Answer:"
    ("ANSWER: 18", 18),
    ("<answer>18</answer> in 3 steps", 18),
    ("She makes 9 * 2 = $18.\n#### 18", 18),
    ("#### 1,080", 1080),
    ("16 - 3 - 4 = 9, and 9 * 2 = 18", 18),
    ("$\\boxed{60}$ is it, in 3 steps", 60),
    (r"\boxed{\$1,250.50}", 1250.5),
    (r"\boxed{12{,}000}", 12000),
    (r"\boxed{\frac{3}{4}}", 0.75),
    (r"\boxed{18 \text{ eggs}}", 18),
    (r"The answer is $2\sqrt{4}$", 4),
    (r"The answer is $x = \frac{3}{4}$.", 0.75),
    (r"answer: \dfrac{7}{2}", 3.5),
    (r"answer: 2\sqrt{4}", 4),
    ("answer: 12 cm^2", 12),
    (r"So we get \frac{1}{2}", 0.5),
    (r"The answer is equal to \frac{1}{2} of it", 0.5),
    (r"Half of $\frac{3}{4}$ is $\frac{3}{8}$.", 0.375),
    ("An area of 12 cm^2", 12),
    ("10 ^ 2 = 100", 100),
    ("The answer is 10^3", 1000),
    ("The answer is 3 × 10^5", 300000),
    ("between 10-12", 12),
    ("- 5 apples\n- 6 pears", 6),
    ("9^{9^{9^{9}}}", None),  # not finite
    ("1e999", None),
    ("The answer is 1/0", None),
    ("I cannot tell.", None),
    ("the answer is eleven", None),
    ("", None),
    ("nan inf", None),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_final_number(text: str, number: float | None):
    assert final_number(text) == (None if number is None else pytest.approx(number))


LABELS: list[tuple[str, float | None]] = [
    ("1 200", 1200),
    ("12\u00a0000", 12000),
    ("$1 000 000", 1000000),
    ("3 4", None),
    ("12 00", None),
    ("18", 18), ("-3.5", -3.5), ("- 5", -5), ("+3", 3), (".5", 0.5), ("1,000", 1000), ("$18", 18), ("18%", 18),
    ("18.", 18), ("203.0", 203), ("1e3", 1000), ("1/2", 0.5), ("5/8", 0.625), ("3 1/2", 3.5), ("-1/2", -0.5),
    ("<203>", 203), (r"\frac{1}{2}", 0.5), (r"$\frac{1}{2}$", 0.5),
    ("None", None), ("", None), ("nan", None), ("inf", None), ("True", None), ("1/0", None), ("12 or 13", None),
    ("5 apples", None), ("a", None), ("1e999", None), ("3:2", None),
]  # fmt: skip


@pytest.mark.parametrize(("label", "number"), LABELS)
def test_read_number(label: str, number: float | None):
    assert read_number(label) == (None if number is None else pytest.approx(number))


CITIES = ("Rome", "Oslo", "Paris", "Vitamin D")

CHOICES: list[tuple[str, str | None]] = [
    ("The answer is (C).", "C"),
    ("The answer is C", "C"),
    ("the correct answer is **(C) Paris**.", "C"),
    ("The answer is C) Paris", "C"),
    ("The answer is C: Paris", "C"),
    ("Answer: C", "C"),
    ("**Answer:** C. Paris", "C"),
    ("Answer: option C", "C"),
    ("The correct option is C.", "C"),
    ("#### C", "C"),
    (r"$\boxed{C}$", "C"),
    (r"\boxed{\text{C}}", "C"),
    ("<answer>C</answer>", "C"),
    ("The best answer choice is C", "C"),
    ("So (C) is correct.", "C"),
    ("C is the answer", "C"),
    ("The answer is A because Rome is older.", "A"),
    ("The answer is A.", "A"),
    ("The answer is C, not D.", "C"),
    ("The answer is (C) because (A) is wrong.", "C"),
    ("The answer is (D) Vitamin D.", "D"),  # a letter inside the option's own text
    ("The answer is B. Wait, the answer is C.", "C"),
    ("The answer is A. Or maybe the answer is C. No: the answer is D.", "D"),
    ("Option A is too small.\nSo the answer is C. Option B is wrong.", "C"),
    ("We choose C", "C"),
    ("(C) Paris", "C"),
    ("C. Paris", "C"),
    ("It lies in France.\nC", "C"),
    # MathQA's rationales
    ("= 75 . answer : c", "C"),
    ("10 . . answer c", "C"),
    ("then x = 66 . the answer is c .", "C"),
    ("= 300 answer : option b", "B"),
    ("correct option is a", "A"),
    ("= 18 . hence a .", "A"),
    ("so b is answer", "B"),
    ("= 18 / 25 ans : c", "C"),
    # traps
    ("The answer is a city in France.", None),
    ("The answer is A city in France.", None),
    ("The answer I found is nowhere.", None),
    ("Answer a question with a question", None),
    ("The answer is a + b", None),
    ("Answer: because of it", None),
    ("The answer is not (C).", None),
    ("The answer is A, B, C or D.", None),
    ("The answer is (A) (B) (C) (D)", None),
    ("The answer is A or B", None),
    ("The answer is A. B. C. D.", None),
    ("The answer is (A). It is (B), (C)", "A"),
    ("The answer is A/B", None),
    ("answer : a , b or c", None),
    ("The answer is A. The answer is B. The answer is C. The answer is D.", None),
    ("(A) Rome\n(B) Oslo\n(C) Paris\n(D) Vitamin D", None),
    ("A. Rome\nB. Oslo\nC. Paris", None),
    ("The answer is (F).", None),  # no such option
    ("I like a cat.", None),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "letter"), CHOICES)
def test_final_letter(text: str, letter: str | None):
    assert final_letter(text, CITIES) == letter


TRAPS: list[tuple[str, str | None]] = [  # what models write around MMLU-Pro's questions
    ("**D** is the correct answer because A, B, and C are all too weak.", "D"),
    ("Correct answer: **D) I only**\n\n**Why not the others**\n- A) Both: no\n- B) no\n- C) no", "D"),
    ("The answer is (B) Hepatitis B virus. Hepatitis A is the most common one.", "B"),
    ("The answer is B.\n\nA is the best known strain, but it is not chronic.", "B"),
    ("The answer is (C), since statement I is correct.", "C"),
    ("The correct answer is E. Answer A is wrong.", "E"),
    ("Answer A is correct.", "A"),
    ("Therefore, the answer is (C) 5 A.\n\nTo check: V = I R. Yes.", "C"),
    ("So, we have I = 5 A. That is choice C.", "C"),
    ("The answer, therefore, is (E).", "E"),
    ("The only option that works is (F).", "F"),
    ("(E) E. coli is the most likely answer.", "E"),
    ("The answer isn't (A); the answer is (C).", "C"),
    ("C is wrong. D is right.", "D"),
    ("<think>The answer is A.</think>\nE", "E"),
    ("Answer：C", "C"),
    ("The answer is A\n\nConfidence: 90 %", "A"),  # no article: its line ends
    ("Answer: A\nExplanation: it fits.", "A"),
    ("The answer is C\n\n* Oslo is wrong.", "C"),
    ("Answer C\n\nIs that plain?", "C"),
    ("The answer is a\tsecond one.", None),
    ("The answer is “D”.", "D"),
    ("The answer is ‘E’.", "E"),
    ("The answer is «F».", "F"),
    ("The answer, then, is C.", "C"),
    ("The correct letter is F", "F"),
    ("I can't decide between A and B.", None),
    ("The answer is none.", None),
    ("Hepatitis B is the best known.", None),
]


@pytest.mark.parametrize(("text", "letter"), TRAPS)
def test_letters_among_others(text: str, letter: str | None):
    options = ("Both A and B", "Hepatitis B virus", "5 A", "I only", "E. coli", "J. S. Mill")
    assert final_letter(text, options) == letter


def test_letters_within_the_text_of_the_option():
    assert final_letter("The answer is (C) Plan A.", ("Rome", "Oslo", "Plan A")) == "C"
    assert final_letter("The answer is C. Plan A", ("Rome", "Oslo", "Plan A")) == "C"
    assert final_letter("So, the answer is (C) - Plan A", ("Rome", "Oslo", "Plan A")) == "C"
    assert final_letter("The answer is (C) or A.", ("Rome", "Oslo", "Plan A")) is None


def test_letters_follow_the_number_of_options():
    assert final_letter("The answer is (I).", ("x",) * 9) == "I"
    assert final_letter("The answer is (I).", ("x",) * 4) is None
    assert final_letter("The answer is (J).") == "J"  # ten without options (MMLU-Pro)


@pytest.mark.parametrize(
    ("label", "letter"),
    [("c", "C"), ("(C)", "C"), ("C.", "C"), ("paris", "C"), (" Rome ", "A"), ("F", None), ("", None), ("12", None)],
)
def test_read_letter(label: str, letter: str | None):
    assert read_letter(label, CITIES) == letter


def test_latex_works_off_the_main_thread():
    found: list[float | None] = []
    thread = threading.Thread(target=lambda: found.append(latex_number(r"\frac{13}{16}")))
    thread.start()
    thread.join()
    assert found == [0.8125]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 40 + "1" + ")" * 40,  # 10 s in math-verify 0.9 without a time limit
        r"10^{10^{10}}",
        r"\frac{10^{10^{8}}}{10^{10^{8}}}",
        "100000000!",
        r"\sum_{i=1}^{10} i",
        r"\sqrt{-1}",
        "x + 1",
        "2^{" * 50 + "2" + "}" * 50,
    ],
)
def test_latex_refuses_what_is_long_or_no_number(text: str):
    start = time.perf_counter()
    assert latex_number(text) is None
    assert time.perf_counter() - start < 5


PIECES = [
    "the answer is ", "answer: ", "answer is 5 ", "answer is A ", r"\boxed{", "1,00", "1", "1/", "- ", "1.", "(A) ",
    "\n", "\\text{", "option ",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_time_stays_linear(piece: str):
    text = (piece * 20000)[:20000]
    start = time.perf_counter()
    final_number(text)
    final_letter(text, CITIES)
    assert time.perf_counter() - start < 4


def test_a_plain_number_behind_the_last_power_or_product_is_the_answer():
    assert final_number("3 ^ 3 is more than 15 so we stop: 5 + 1 = 6 so k = 6 and answer is d") == 6
    assert final_number("6 / 100 \\times 50 = 3 are absent, so 47 students are present") == 47
    assert final_number("Then 47 students are left.\nThey pay 2 ^ 3 dollars") == 8


def test_few_anchors_are_tried(monkeypatch: pytest.MonkeyPatch):
    tried: list[str] = []

    def never(text: str) -> None:
        tried.append(text)

    monkeypatch.setattr("yonder.rewards.answers.latex_inside", never)
    assert final_number("the answer is unknown. " * 300) is None
    assert len(tried) < 30  # one parse of hostile LaTeX may take 0.1 s


def test_what_stands_far_behind_an_anchor_is_not_its_number():
    assert final_number("The answer is " + "very " * 100 + "close to 5, 7 or 9") == 9
    assert final_number("The answer is " + "very " * 10 + "close to 5, 7 or 9") == 5


def _lines(name: str) -> list[dict[str, str]]:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.shared
def test_reft_text_solutions_are_read():
    wrong = 0
    for row in _lines("svamp_train_nl.jsonl.gz"):
        label, found = read_number(row["answer"]), final_number(row["cot_text"])
        assert label is not None
        wrong += found is None or abs(label - found) > 1e-2
    assert wrong == 2  # two solutions of the source round otherwise than their labels


@pytest.mark.shared
def test_mathqa_rationales_are_read():
    counts: Counter[str] = Counter()
    for row in _lines("mathqa_dev.jsonl.gz"):
        letter = final_letter(row["cot_text"], tuple(row["options"]))
        counts["none" if letter is None else "right" if letter.lower() == row["answer"] else "wrong"] += 1
    assert counts["right"] / (counts["right"] + counts["wrong"]) > 0.995
    assert counts["right"] / counts.total() > 0.85
