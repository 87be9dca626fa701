"""All stages of a recipe: what must exist before the first, which are due, who does them, what each run records."""
