"""What the recipe says of any server of a model."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from yonder.recipe.base import Section


def check_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    """The same URLs; ValueError for one that is not of the form http://host or https://host."""
    for url in urls:
        found = urlsplit(url)
        if found.scheme not in ("http", "https") or not found.netloc:
            raise ValueError(f"`{url}` is no URL of a server; write http://{url.rpartition('://')[2] or 'host:8000'}")
    return urls


class ServerAccess(Section):
    """Where servers listen, how much may be asked of them, and what it costs."""

    urls: tuple[str, ...] = Field(min_length=1)
    """Base URLs (http://host:8000) of servers with the same model: the one with the fewest open requests is asked,
    another when it fails."""
    key_env: str | None = None
    """Environment variable that holds the API key. The key itself never stands in a recipe."""
    concurrency: int = Field(default=16, gt=0)
    """Most requests open at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Most requests a minute."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for one answer, seconds."""
    deadline_s: float = Field(default=600.0, gt=0)
    """Longest wait with all retries, seconds; then the rollouts are unscored."""
    price_per_million: float | None = Field(default=None, ge=0)
    """Price of a million tokens in your currency, for the cost in the stage's result."""

    @field_validator("urls")
    @classmethod
    def _whole(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_urls(value)
