"""The process's own random numbers, for a user's functions that draw from them."""

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Within it `random`, `numpy.random` and `torch` (CPU) draw from `seed`; afterwards they go on as if nothing was.

    Nothing of ours draws from them. A reward of the user's own may, and a resumed run must then see the same numbers.
    """
    ours, theirs = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(ours)
            np.random.set_state(theirs)
