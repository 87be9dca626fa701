"""Judges: one prompt, the same number from every back end."""
