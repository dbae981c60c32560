"""Arithmetic: the smallest job there is."""


def add(x: int | float, y: int | float) -> int | float:
    """Return the sum of two numbers."""
    return x + y
