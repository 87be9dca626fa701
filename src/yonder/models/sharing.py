"""Whether a model reads rows that begin alike as one as it reads each by itself."""

import torch
from torch import Tensor

from yonder.models.packing import Layout, apart, merged
from yonder.models.padding import right_pad
from yonder.models.trunk import Trunk

WINDOWS = ("keep_window_size", "window_size", "attention_window")  # besides `sliding_window`
APART = 0.02  # of the largest hidden state: two ways of reading a row that differ by less are the same


@torch.no_grad()
def shares_prompts(trunk: Trunk, device: torch.device) -> bool:
    """Tried on some rows; `device`: where it computes.

    Windows of attention are longer than what is tried, so the configuration is asked about them. Kernels that keep all
    scores would need more memory for longer rows, others take no such mask.
    """
    if trunk.attention != "sdpa" or not trunk.takes_positions or windowed(trunk):
        return False
    rows = [[*range(1, 6), *range(7, 7 + own)] for own in (3, 1, 4)]
    ids, mask = right_pad(rows, device)

    def states(layout: Layout) -> Tensor:
        return trunk.read(layout, layout.places[mask.bool()]).float()

    try:
        ours = states(merged(ids, mask, [len(rows)]))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError):  # it takes no such mask
        return False
    theirs = states(apart(ids, mask))
    return bool((ours - theirs).abs().max() <= APART * theirs.abs().max())


def windowed(trunk: Trunk) -> bool:
    """Whether some layer reads less than all tokens before it, as its configuration says."""
    config = trunk.model.config.get_text_config()
    if any(getattr(config, name, None) for name in WINDOWS):
        return True
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)
