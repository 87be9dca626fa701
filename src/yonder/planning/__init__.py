"""What a recipe needs in memory and time."""
