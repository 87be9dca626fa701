"""Completions by this process, with the weights that are trained."""
