"""Neural networks: loading, log-probs and values, how rows are read, judge and classifier forwards."""
