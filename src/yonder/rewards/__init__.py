"""What scores a rollout: verifiable answers, judges, classifiers, a user's own function."""
