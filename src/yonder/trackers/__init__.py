"""Metrics of a run for TensorBoard, Weights & Biases, MLflow and trackio.

A process of its own reads what the run writes into its folder and sends it on, so nothing that a tracker does can stop
or slow training. `starting` begins and ends that process, `__main__` is it, `following` reads and remembers what was
sent, and each tracker is one file.
"""
