"""Statistics of completions from one forward, against the whole model's logits; and the parts around it."""

import math

import pytest
import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from torch import nn

import yonder.models.policy as policy_module
from tests.models.tiny import CPU, FAMILIES, causal_lm, fresh, policy, tokenizer
from yonder.errors import ModelError
from yonder.models.encoding import PromptEncoder, end_token_ids, strip_end
from yonder.models.loading import load_causal_lm, load_tokenizer, pick_device
from yonder.models.padding import right_pad, token_batches
from yonder.models.policy import Policy
from yonder.models.trunk import Trunk
from yonder.schema import Prompt

# two rows: prompts of 3 and 1 tokens, completions of 2 and 4
SEQUENCES = [[5, 6, 7, 8, 9], [11, 12, 13, 14, 15]]
STARTS = torch.tensor([3, 1])
MASK = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])


@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_equal_the_whole_models_logits(family: str) -> None:
    tokens, attention = right_pad(SEQUENCES, CPU)
    with torch.no_grad():
        found = policy(family)(tokens, attention, STARTS, MASK, 0.7)
        for row, (start, count) in enumerate([(3, 2), (1, 4)]):
            logits = causal_lm(family)(tokens[row : row + 1]).logits[0] / 0.7
            logp = logits.log_softmax(-1)
            for t in range(count):
                expected = logp[start + t - 1]  # the position before a token says what it was sampled from
                token = SEQUENCES[row][start + t]
                assert found.logprobs[row, t].item() == pytest.approx(expected[token].item(), abs=1e-4)
                entropy = -(expected.exp() * expected).sum().item()
                assert found.entropy[row, t].item() == pytest.approx(entropy, abs=1e-3)
    assert found.values is None
    assert found.logprobs[0, 2:].tolist() == [0.0, 0.0]
    assert found.entropy[0, 2:].tolist() == [0.0, 0.0]


def test_chunks_of_logits_change_neither_numbers_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, attention = right_pad(SEQUENCES, CPU)
    model = Policy(load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU), tokenizer())
    gradients = []
    for limit in (policy_module.LOGITS_AT_ONCE, 2 * len(tokenizer())):  # whole, and two tokens at a time
        monkeypatch.setattr(policy_module, "LOGITS_AT_ONCE", limit)
        model.zero_grad()
        found = model(tokens, attention, STARTS, MASK, 1.0)
        (found.logprobs.sum() + found.entropy.sum()).backward()
        gradients.append([found.logprobs.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_values_are_one_linear_layer_on_the_state_before_each_token() -> None:
    model = Policy(causal_lm("llama"), tokenizer(), value_outputs=2)
    assert model.value_head is not None
    with torch.no_grad():
        model.value_head.weight.copy_(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))
        model.value_head.bias.copy_(torch.tensor([0.5, -0.5]))
        tokens, attention = right_pad(SEQUENCES, CPU)
        values = model(tokens, attention, STARTS, MASK, 1.0).values
        hidden = causal_lm("llama").model(tokens)[0]
        expected = hidden[1, 0:4] @ model.value_head.weight.T + model.value_head.bias  # row 1 starts at 1
    assert values.shape == (2, 4, 2)
    assert torch.allclose(values[1], expected, atol=1e-5)
    assert values[0, 2:].abs().max() == 0


def test_a_new_value_head_says_zero() -> None:
    model = Policy(causal_lm("llama"), tokenizer(), value_outputs=1)
    tokens, attention = right_pad(SEQUENCES, CPU)
    assert model(tokens, attention, STARTS, MASK, 1.0).values.abs().max() == 0


def test_a_model_that_changes_its_logits_after_the_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_causal_lm(fresh("llama"), tokenizer(), "float32", CPU)
    plain = model.forward

    def scaled(*args: object, **options: object) -> object:
        found = plain(*args, **options)
        found.logits = found.logits / 16
        return found

    monkeypatch.setattr(model, "forward", scaled)
    with pytest.raises(ModelError, match="changes its logits"):
        Trunk(model)


def test_token_batches_stay_within_the_budget() -> None:
    # by length: 1 (index 3), 2 (1), 5 (0), 6 (2), 40 (4). 2 sequences of 2 = 4 <= 12; a third of 5 would make 15
    assert token_batches([5, 2, 6, 1, 40], 12) == [[3, 1], [0, 2], [4]]  # 2 * 6 = 12 fits; 40 alone, over the budget
    assert token_batches([], 12) == []


# ----- loading and encoding


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"family": "llama", "heads": 3}, "hidden_size 32 is not a multiple of heads 3"),
        ({"family": "codegen", "heads": 2}, "heads 2 is not a multiple of 4"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(shape: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_causal_lm(fresh(**shape), tokenizer(), "float32", CPU)


@pytest.mark.parametrize("name", ["./student", "~/student", "models/mine/student"])
def test_a_path_without_a_folder_is_told_before_the_hub_is_asked(name: str) -> None:
    with pytest.raises(ModelError, match=r"there is no folder .*student"):
        load_tokenizer(name)


def test_fresh_weights_depend_on_the_seed_alone_and_leave_the_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, again, other = (load_causal_lm(fresh("opt", seed=s), tokenizer(), "float32", CPU) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
    assert not first.training
    assert not any(isinstance(m, nn.Dropout) and m.p for m in first.modules())


def test_wrong_names_are_one_sentence() -> None:
    with pytest.raises(ModelError, match="no shipped weights `yonder:nothing`"):
        load_tokenizer("yonder:nothing")
    with pytest.raises(ModelError, match="fresh model has no tokenizer"):
        load_tokenizer(fresh("llama"))
    with pytest.raises(ModelError, match="neither a folder here nor to be had from the hub"):
        load_causal_lm("no-such-owner/no-such-model", tokenizer(), "float32", CPU)
    with pytest.raises(ModelError, match="not usable here"):
        pick_device("cuda:77")


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path) -> None:
    causal_lm("llama").save_pretrained(tmp_path)
    larger = load_tokenizer("yonder:tokenizer")
    larger.add_tokens(["one more"])
    with pytest.raises(ModelError, match=f"has {len(larger)} tokens but the model {len(tokenizer())} embeddings"):
        load_causal_lm(str(tmp_path), larger, "float32", CPU)


def test_end_tokens_of_chat_models_count_only_where_they_are_special() -> None:
    made = load_tokenizer("yonder:tokenizer")
    assert end_token_ids(made) == (made.eos_token_id,)
    made.add_tokens([AddedToken("<end_of_turn>", special=True)], special_tokens=True)
    made.add_tokens([AddedToken("<|im_end|>", special=False)])
    assert end_token_ids(made) == (made.eos_token_id, made.convert_tokens_to_ids("<end_of_turn>"))


def test_encode_render_and_decode() -> None:
    encoder = PromptEncoder(tokenizer(), 64, stop=("\n\n",))
    prompt = Prompt(id="a", question="q", text="Question:\nq\n", prefix="def solution():\n")
    assert encoder.render(prompt) == "Question:\nq\ndef solution():\n"
    assert tokenizer().decode(encoder.encode(prompt)) == encoder.render(prompt)
    end = tokenizer().eos_token_id
    solution = encoder.encode_solution("return 1")
    assert solution[-1] == end
    assert encoder.decode(solution) == "return 1"
    assert encoder.decode(encoder.encode_solution("return 1\n\nmore")) == "return 1"
    assert strip_end([1, 2, end, end], (end,)) == [1, 2, end]  # one only
    assert strip_end([], (end,)) == []


def test_chat_prompts_pass_through_the_template_once() -> None:
    made = load_tokenizer("yonder:tokenizer")
    made.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    encoder = PromptEncoder(made, 64, chat=True, system="Be brief.")
    prompt = Prompt(id="a", question="q", text="What?", prefix="It is")
    assert encoder.render(prompt) == "[system] Be brief. [user] What? [assistant] It is"
    assert math.isclose(len(encoder.encode(prompt)), len(made(encoder.render(prompt))["input_ids"]))


def test_a_begin_token_comes_from_the_tokenizer_or_from_the_template_never_from_both() -> None:
    made = load_tokenizer("yonder:tokenizer")
    begin = made.eos_token_id  # this tokenizer has no begin token of its own
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", begin)])
    made.chat_template = "<eos>{{ messages[0].content }}"
    prompt = Prompt(id="a", question="q", text="What?")
    for chat in (False, True):
        ids = PromptEncoder(made, 64, chat=chat).encode(prompt)
        assert ids[0] == begin
        assert begin not in ids[1:]
    assert begin not in PromptEncoder(made, 64).encode_solution("4")[:-1]
