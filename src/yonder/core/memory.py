"""Memory of a transformer in training and sampling, in bytes, as sums of tensors.

Tensors that a layer keeps for its backward pass are counted one by one, as Korthikanti et al. 2022 (arXiv 2205.05198,
section 4.1) do; AdamW's state as Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054, section 3.1), in the weights' own
type. Full sharding divides weights, gradients and optimizer by the devices (ZeRO stage 3).
"""

from dataclasses import dataclass
from typing import NamedTuple

FLOAT = 4  # bytes
ADAM_STATES = 2
CROSS_ENTROPY = 3  # copies of the logits: log-softmax; gradients of it and of the logits
STATISTICS = 6  # log-softmax and softmax for log-probs and entropy; the gradients of each and of the logits, their sum
PACKED = {"4bit": 0.5 + FLOAT / 64, "8bit": 1.0}  # bytes a weight; nf4: a scale for 64 (Dettmers et al. 2023, QLoRA)


class Linear(NamedTuple):
    """A matrix of the trunk."""

    name: str  # of the module, without its path
    inputs: int
    outputs: int

    @property
    def size(self) -> int:
        """Its elements."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides its memory and its time; sizes in elements."""

    parameters: int  # all, tied ones once
    linears: tuple[Linear, ...]  # of the trunk
    layers: int
    hidden: int
    heads: int
    query: int  # width of all heads' queries
    key: int  # width of all heads' keys, and of their values
    inner: int  # width within the MLP
    vocabulary: int
    rms: bool = True  # RMSNorm, which computes in float32; else LayerNorm
    gated: bool = True  # the MLP multiplies two projections; else one activation between two matrices
    activation: int = 1  # tensors of `inner` that the MLP's activation keeps beside its output; 0: ReLU
    normed_queries: bool = False  # queries and keys pass through norms of their own
    square: int = 0  # float32 (S, S) matrices a head that attention keeps; 0: a fused kernel

    @property
    def widest_layer(self) -> int:
        """Elements of one layer's matrices."""
        return sum(linear.size for linear in self.linears) // max(1, self.layers)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Bytes of the number types."""

    weights: int
    products: int  # what matrix products are computed in: autocast's type, or the weights'
    packed: str = "none"

    @property
    def mixed(self) -> bool:
        """Whether weights and inputs are cast for each product."""
        return self.products < self.weights


class Training(NamedTuple):
    """What training one model holds all the time."""

    weights: float
    gradients: float
    optimizer: float


def weight_bytes(shape: Shape, numbers: Numbers) -> float:
    """The weights as they are held: the trunk's matrices may be packed."""
    matrices = sum(linear.size for linear in shape.linears)
    if numbers.packed == "none":
        return float(shape.parameters * numbers.weights)
    return (shape.parameters - matrices) * numbers.weights + matrices * PACKED[numbers.packed]


def adapter_size(shape: Shape, rank: int, modules: tuple[str, ...] | None = None) -> int:
    """Elements of an adapter: r (inputs + outputs) a matrix (Hu et al. 2021, LoRA)."""
    chosen = [linear for linear in shape.linears if modules is None or linear.name in modules]
    return sum(rank * (linear.inputs + linear.outputs) for linear in chosen)


def training_bytes(shape: Shape, numbers: Numbers, adapter: int = 0, devices: int = 1) -> Training:
    """Weights, gradients and AdamW's two moments; with an adapter (float32) the two last are the adapter's alone."""
    held = weight_bytes(shape, numbers) + adapter * FLOAT
    trained = adapter * FLOAT if adapter else held
    return Training(held / devices, trained / devices, ADAM_STATES * trained / devices)


def kept_by_a_layer(shape: Shape, numbers: Numbers, tokens: int, length: int, rank: int = 0) -> float:
    """What one layer keeps for its backward pass; no dropout, a fused attention kernel unless `square`.

    Two norms with their inputs, and for RMSNorm the normalised values, while the norm's own weight is trained; the
    inputs of the matrices; queries, keys, values and output of attention with one float32 a head and token; what the
    MLP's activation needs. `rank`: of an adapter, whose matrices read float32 inputs, each a copy of its own.
    """
    h, q, k, f = shape.hidden, shape.query, shape.key, shape.inner
    norm = FLOAT if shape.rms else numbers.weights
    norms = 2 * h * norm + (2 * h * numbers.weights if shape.rms and not rank else 0)
    if shape.normed_queries:
        norms += (q + k) * (norm + (0 if rank else numbers.weights))
    normed = h * (5 if shape.gated else 4) if numbers.mixed else 2 * h  # one copy for each matrix, or one for all
    read = (normed + f) * numbers.products  # the output of attention is read as it is kept
    if rank and not numbers.mixed:
        copies = h * (5 if shape.gated else 4) + q + f if numbers.products < FLOAT else 2 * h + f
        read = copies * FLOAT
    read += rank * len(shape.linears) / max(1, shape.layers) * FLOAT
    attention = (2 * q + 2 * k) * numbers.products + shape.heads * FLOAT
    attention += shape.square * shape.heads * length * FLOAT
    kept = shape.activation + (2 if shape.gated else 0)
    kept += 1 if rank and numbers.products < FLOAT and not kept else 0  # ReLU's output, and the adapter's copy of it
    return tokens * (norms + read + attention + kept * f * numbers.products)


def activation_bytes(
    shape: Shape, numbers: Numbers, tokens: int, length: int, rank: int = 0, recompute: bool = False
) -> float:
    """Activations at the end of a forward pass over `tokens`, in sequences of `length`. `recompute`: each layer's
    input, and one layer in full (Chen et al. 2016, arXiv 1604.06174)."""
    layer = kept_by_a_layer(shape, numbers, tokens, length, rank)
    casts = sum(linear.size for linear in shape.linears) * numbers.products if numbers.mixed else 0.0
    if not recompute:
        return shape.layers * layer + casts
    return shape.layers * tokens * shape.hidden * numbers.weights + layer + casts


def logits_bytes(rows: int, vocabulary: int, copies: int) -> float:
    """Peak of what is made of (rows, vocabulary) logits and back, in float32 copies of them."""
    return float(rows * vocabulary * copies * FLOAT)


def cache_bytes(shape: Shape, rows: int, length: int, number: int) -> float:
    """Keys and values of every layer (Pope et al. 2022, arXiv 2211.05102, section 2), and one layer's once more while
    it grows."""
    return 2.0 * (shape.layers + 1) * shape.key * rows * length * number


def drawing_bytes(rows: int, vocabulary: int) -> float:
    """Drawing one token a row: logits, softmax and log-softmax in float32, probabilities and their sums in float64."""
    return float(rows * vocabulary * (4 * FLOAT + 2 * 8))


def reading_bytes(shape: Shape, number: int, tokens: int) -> float:
    """A forward pass without gradients: the residual stream, a norm, and the wider of attention and MLP."""
    widest = max(2 * shape.query + 2 * shape.key, (3 if shape.gated else 2) * shape.inner)
    return float(tokens * (3 * shape.hidden + widest) * number)


def forward_flops(shape: Shape, tokens: int, length: int) -> float:
    """2 for each weight of a matrix and token, and 4 S q / 2 a layer for causal attention (Kaplan et al. 2020, arXiv
    2001.08361, table 1)."""
    matrices = sum(linear.size for linear in shape.linears)
    return tokens * (2.0 * matrices + 2.0 * shape.layers * length * shape.query)


def head_flops(shape: Shape, rows: int) -> float:
    """The output head on `rows` states."""
    return 2.0 * rows * shape.hidden * shape.vocabulary


def training_factor(adapter: bool, recompute: bool) -> float:
    """Forward and backward in units of one forward: 1 + 2, without the weights' gradients 1 + 1; layers computed again
    add 1."""
    return (2.0 if adapter else 3.0) + (1.0 if recompute else 0.0)
