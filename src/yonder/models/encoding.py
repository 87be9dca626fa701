"""Text to tokens and back: the only place where a policy's chat template is applied."""

import sys
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from yonder.errors import DataError
from yonder.schema import Prompt


class PromptEncoder:
    """Turns prompts into the token ids that the policy reads, and completions into text."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_prompt_tokens: int,
        chat: bool = False,
        system: str = "",
        stop: tuple[str, ...] = (),
        cut: bool = False,
        context: int = sys.maxsize,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_prompt_tokens = max_prompt_tokens
        self.chat = chat
        self.system = system
        self.stop = stop
        self.cut = cut
        self.context = context  # the model's longest sequence, tokens
        self.end_ids = end_token_ids(tokenizer)

    def render(self, prompt: Prompt) -> str:
        """The text before the completion: the prompt, or the chat template around it, then the given prefix."""
        if not self.chat:
            return prompt.text + prompt.prefix
        messages = [{"role": "user", "content": prompt.text}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return chat_text(self.tokenizer, messages) + prompt.prefix

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of the rendered prompt; a longer one than allowed is a DataError, or cut where the recipe says
        so."""
        ids = self.tokenizer(self.render(prompt), add_special_tokens=not self.chat)["input_ids"]
        ids = strip_end(cast(list[int], ids), self.end_ids)
        limit = min(self.max_prompt_tokens, self.context - 1)  # at least one token is left to write
        if len(ids) > limit:
            if self.cut:
                return tuple(ids[:limit])
            if limit < self.max_prompt_tokens:
                raise DataError(
                    f"prompt `{prompt.id}` has {len(ids)} tokens and the policy only {self.context} positions; "
                    "leave the question out, set policy.long_prompts: cut, or use a model with a longer context"
                )
            raise DataError(
                f"prompt `{prompt.id}` has {len(ids)} tokens, more than "
                f"policy.max_prompt_tokens = {self.max_prompt_tokens}; "
                "raise it, leave the question out, or set policy.long_prompts: cut"
            )
        return tuple(ids)

    def encode_example(self, prompt: Prompt) -> tuple[tuple[int, ...], int]:
        """Token ids of a prompt and its solution for SFT, and where the solution begins. DataError beyond the model's
        context, or cut there where the recipe says so."""
        context = self.encode(prompt)
        ids = (*context, *self.encode_solution(prompt.solution or ""))
        if len(ids) > self.context:
            if not self.cut:
                raise DataError(
                    f"prompt `{prompt.id}` with its solution has {len(ids)} tokens and the policy only {self.context} "
                    "positions; leave it out, set policy.long_prompts: cut, or use a model with a longer context"
                )
            ids = ids[: self.context]
        return ids, len(context)

    def encode_solution(self, solution: str) -> tuple[int, ...]:
        """Token ids of a reference completion and the end token after it."""
        ids = cast(list[int], self.tokenizer(solution, add_special_tokens=False)["input_ids"])
        return (*ids, cast(int, self.tokenizer.eos_token_id))

    def decode(self, ids: tuple[int, ...] | list[int]) -> str:
        """Text of a completion: without its end token, and without the stop string that ended it."""
        text = cast(str, self.tokenizer.decode(strip_end(list(ids), self.end_ids), skip_special_tokens=False))
        for stop in self.stop:
            text = text.split(stop, 1)[0]
        return text

    def stopped(self, ids: list[int]) -> bool:
        """Whether the tail of a completion holds a stop string."""
        if not self.stop:
            return False
        tail = self.tokenizer.decode(ids[-(8 + max(len(stop) for stop in self.stop)) :])
        return any(stop in tail for stop in self.stop)


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    """The chat template up to where the assistant speaks, thinking switched off where the template knows the switch."""
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    return cast(str, tokenizer.apply_chat_template(messages, **options))


def end_token_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends a turn: the tokenizer's own end token and the end-of-turn tokens that chat templates
    use."""
    names = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>")
    vocabulary = tokenizer.get_vocab()
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}  # named or not
    ids = {cast(int, tokenizer.eos_token_id)} | {vocabulary[name] for name in names if vocabulary.get(name) in special}
    return tuple(sorted(ids))


def strip_end(ids: list[int], end_ids: tuple[int, ...]) -> list[int]:
    """Without one end token at the end, if there is one."""
    return ids[:-1] if ids and ids[-1] in end_ids else ids
