"""Benchmarks for policies and the check of a judge."""
