"""Neural networks: loading, sampling, log-probs, judge and classifier forwards."""
