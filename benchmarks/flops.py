"""Floating-point operations as torch counts them, of a CPU's attention, too."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Shape = Any


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, out_shape: Shape = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


ON_CPU: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}


def counter() -> FlopCounterMode:
    """Counts what this thread does while it is entered."""
    return FlopCounterMode(display=False, custom_mapping=ON_CPU)


class Counted:
    """Operations of all that is done within, and of one function among them, whichever thread calls it."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name
        self.part = 0  # of the function
        self._elsewhere = 0  # of these, in other threads
        self._here = counter()

    @property
    def total(self) -> int:
        """So far."""
        return self._here.get_total_flops() + self._elsewhere

    def __enter__(self) -> "Counted":
        self._plain, thread = getattr(self.owner, self.name), threading.get_ident()

        def call(*given: Any, **named: Any) -> Any:
            with counter() as found:
                result = self._plain(*given, **named)
            self.part += found.get_total_flops()
            self._elsewhere += found.get_total_flops() if threading.get_ident() != thread else 0
            return result

        setattr(self.owner, self.name, call)
        self._here.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._here.__exit__(*error)
        setattr(self.owner, self.name, self._plain)
