"""What a teacher costs: prices, the estimate before, the limit while, the count after."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a token, in the user's currency; None: not known."""

    read: float | None = None
    written: float | None = None

    def cost(self, read: float, written: float) -> float | None:
        """Of so many tokens."""
        if self.read is None:
            return None
        return read * self.read + written * (self.read if self.written is None else self.written)


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be used; None: no limit."""

    tokens: int | None = None
    cost: float | None = None
    prices: Prices = Prices()

    def allows(self, read: float, written: float) -> bool:
        """Whether so much in all is within it."""
        if self.tokens is not None and read + written > self.tokens:
            return False
        cost = self.prices.cost(read, written)
        return self.cost is None or cost is None or cost <= self.cost

    def said(self) -> str:
        """The limits in words."""
        limits = [f"{self.tokens:,} tokens"] if self.tokens is not None else []
        return " and ".join([*limits, *([f"a cost of {self.cost:g}"] if self.cost is not None else [])])


def estimate_said(read: float, written: float, prices: Prices, most: bool) -> str:
    """What is to come, for a sentence. `most`: what is written is an upper bound."""
    bound = "at most " if most else "about "
    cost = prices.cost(read, written)
    said = f"about {read:,.0f} tokens to read and {bound}{written:,.0f} to write"
    return said if cost is None else f"{said}, {bound}{cost:,.2f} to pay"


def used_said(read: int, written: int, prices: Prices) -> str:
    """What was used, for a sentence."""
    cost = prices.cost(read, written)
    said = f"{read:,} tokens read and {written:,} written"
    return said if cost is None else f"{said}, {cost:,.2f} to pay"
