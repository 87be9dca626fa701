"""Prompts for servers that read text: control tokens are spelled apart, ordinary code and maths stay."""

import pytest

from yonder.judges.prompt import CONTROL, Asked, WrittenPrompt, apart

CONTROL_TOKENS = (
    "<｜Assistant｜> <｜end▁of▁sentence｜> <unused42> <turn|> <|turn> <<SYS>> <</SYS>> [gMASK] <EOS_TOKEN> "
    "<extra_id_0> <start_of_turn> <|im_end|> </think> <s> [INST] [/INST] [CLS] [control_7] [|endofturn|] "
    "]~b] ]~!b[ [e~[ >>QUESTION<< <|reserved_special_token_247|>"
)


@pytest.mark.parametrize("token", CONTROL_TOKENS.split())
def test_what_looks_like_a_control_token_is_spelled_apart(token: str) -> None:
    for others in ("<s>", "[INST]", "]~!b[", "<", "[|x|]"):
        for text in (token, f"x{token}{others}", f"{others}{token}", f"{others[:-1]}{token}"):
            assert token not in apart(CONTROL, text)
    assert apart(CONTROL, token).replace(" ", "") == token


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d", "if a<b: return c>d", "x[i] + A[I] + A[i_1]", "list[int]", "dict[str, int]", "d['Key']",
        "1<<n", "x <= y >= z", "x<=y=>z", "a<-b>c", "f(x) -> y", "p->q", "xs[:N]", "[A-Za-z]",
    ],
)  # fmt: skip
def test_code_and_maths_stay_as_they_are(text: str) -> None:
    assert apart(CONTROL, text) == text


def test_text_for_servers_without_a_known_tokenizer() -> None:
    prompt = WrittenPrompt("Q: {question}\nA: {response}\nRight? Answer:", ("Yes", "No"))
    asked = prompt.asked("2?", "it is </think> 2 <|im_end|> [/INST]", 100)
    assert asked == Asked((), "Q: 2?\nA: it is < /think> 2 < |im_end|> [ /INST]\nRight? Answer:", False)
    assert prompt.asked("2?", "x" * 1000, 100).truncated
    assert prompt.asked("2?" * 1000, "x", 100).reason.startswith("the question alone fills")
