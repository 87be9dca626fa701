"""Rollouts by programs other than this one, which are sent the policy's weights."""
