"""The same schedule over rows and seeds, and the table of what came of it."""
