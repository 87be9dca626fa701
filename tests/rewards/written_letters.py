"""Answers to multiple-choice questions as models write them: endings and reasoning with known letters."""

import random
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"

# {L}: the letter that is chosen, {T}: its option's text, {O} and {P}: other letters, {U}: the text of {O}
ENDINGS = (
    "The answer is ({L}).",
    "the answer is ({L}): {T}.",
    "Therefore, the answer is: {L}",
    "So the answer is {L}.",
    "Thus, the correct answer is option {L}.",
    "The correct answer is **{L}) {T}**.",
    "The correct answer is:\n\n**{L}. {T}**",
    "**The correct answer is: {L}) {T}.**",
    "**Answer: {L}**",
    "**Answer:** ({L}) {T}",
    "Answer: {L}. {T}",
    "Answer: ({L})\n\nExplanation: Option {O} is wrong because it ignores the premise, and {P} is incorrect too.",
    "The correct answer is {L}. Answer {O} is wrong because the effect is reversed. Answer {P} is unrelated.",
    "The answer is ({L}), not ({O}).",
    "The answer is {L} rather than {O}.",
    "The answer is ({L}). ({O}) {U} does not follow.",
    "### Final Answer\n{L}",
    "## Answer\n\n**{L}**",
    "Final Answer: {L}",
    "**Final answer: ({L})**",
    "Final Answer: The final answer is $\\boxed{{L}}$. I hope it is correct.",
    "\\boxed{{L}}",
    "$\\boxed{\\text{{L}}}$",
    "\\[\n\\boxed{\\textbf{({L})}}\n\\]",
    "The final answer is $\\boxed{\\text{({L}) } {T}}$.",
    "\\boxed{\\mathrm{{L}}}",
    "\\boxed{{L}: {T}}",
    "The answer is $\\text{{L}}$.",
    "The answer is \\({L}\\).",
    'The answer is "{L}".',
    '{"reasoning": "{O} is too small", "answer": "{L}"}',
    "<answer>{L}</answer>",
    "<answer>\n({L}) {T}\n</answer>",
    "#### {L}",
    "Option {L} is correct.",
    "({L}) is the correct answer.",
    "Therefore, {L} is the correct choice.",
    "Therefore, ({L}) {T} is the correct answer.",
    "Option {L}, {T}, is the best answer.",
    "The answer to this question is ({L}).",
    "The correct answer among the given options is {L}.",
    "the answer is clearly ({L}) {T}.",
    "The answer must be {L}, since {O} and {P} fail.",
    "My answer is {L}",
    "I would choose {L}.",
    "I'll go with ({L}).",
    "This matches option {L}.",
    "Thus, ({L}).",
    "The answer is ({L}) because statement I is correct and statement II is false.",
    "The right answer is option ({L}), {T}.",
    "Correct option: {L}",
    "The answer is [{L}].",
    "The answer is **{L}** ({T}).",
    "{L}",
)
REASONING = (
    "",
    "Let's think step by step. Option {O} can be ruled out, because {U} contradicts the text.\n\n",
    "We check each option.\n({O}) {U}: this is incorrect.\n({P}) is also wrong.\n\n",
    "At first the answer seems to be ({O}). But the answer is not {O}: {U} fails the second condition.\n",
    "<think>\nMaybe the answer is {O}? Hmm, no. Is {P} correct? A closer look says no.\n</think>\n\n",
    "**{O}.** {U} - This is a common distractor.\n**{P}.** Not supported.\n\n",
    "A student could take {O} for granted. I disagree: vitamin C is the best known example, and a + b = c.\n\n",
)


def written(letter: str, options: Sequence[str], ending: str, reasoning: str, rng: random.Random) -> str:
    """One written-out answer that chooses `letter`; other letters and texts are drawn by `rng`."""
    others = [other for other in LETTERS[: len(options)] if other != letter]
    first, second = rng.sample(others, 2)
    words = {
        "{L}": letter,
        "{T}": options[LETTERS.index(letter)].rstrip("."),
        "{O}": first,
        "{P}": second,
        "{U}": options[LETTERS.index(first)].rstrip("."),
    }
    text = reasoning + ending
    for place, word in words.items():
        if place in ("{L}", "{O}", "{P}"):
            text = text.replace(place, word)
    return text.replace("{T}", words["{T}"]).replace("{U}", words["{U}"])
