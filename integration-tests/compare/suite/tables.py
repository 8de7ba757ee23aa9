"""Markdown tables and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NONE = "–"


def number(value: float | None) -> str:
    """Three digits, never in powers of ten."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    if value >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


def spread(times: dict[str, float] | None) -> str:
    """Median and range."""
    if times is None:
        return NONE
    return f"{number(times['median'])} [{number(times['min'])}–{number(times['max'])}]"


def ratio(value: float | None) -> str:
    """How many times."""
    if value is None:
        return NONE
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def error(value: float | None) -> str:
    """An absolute error."""
    return NONE if value is None else f"{value:.1e}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """The first `words` columns are aligned to the left, the others, which hold numbers, to the right."""
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
