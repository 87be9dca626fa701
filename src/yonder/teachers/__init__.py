"""Answers of a teacher on a server: text in, text out, and into the form of the policy's own responses."""
