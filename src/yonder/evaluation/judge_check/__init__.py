"""What a user sees of a judge before it may train anything: figures with intervals, attacks, a verdict."""
