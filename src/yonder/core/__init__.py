"""The formulas: pure functions of tensors and numbers, each with its paper and equation.

Shapes: B sequences, P prompts, G group size, T completion tokens (right-padded), K terms, V vocabulary. A mask is
1.0 on completion tokens.
"""
