"""From a recipe to models, data and rewards."""
