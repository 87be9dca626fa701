"""One recipe, whole."""

from pydantic import model_validator

from yonder.recipe.checking import check_references
from yonder.recipe.sections import Sections


class Recipe(Sections):
    """One run, whole: everything that decides its numbers."""

    @model_validator(mode="after")
    def _references(self) -> "Recipe":
        check_references(self)
        return self
