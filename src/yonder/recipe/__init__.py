"""Recipes: one YAML file per run, checked before anything heavy is imported."""

from yonder.recipe.loading import (
    RECIPES_ONLY,
    dump_recipe,
    find_recipe,
    judge_settings,
    load_recipe,
    parse_recipe,
    parse_section,
    read_tree,
    shipped_recipes,
)
from yonder.recipe.recipe import Recipe

__all__ = [
    "RECIPES_ONLY",
    "Recipe",
    "dump_recipe",
    "find_recipe",
    "judge_settings",
    "load_recipe",
    "parse_recipe",
    "parse_section",
    "read_tree",
    "shipped_recipes",
]
