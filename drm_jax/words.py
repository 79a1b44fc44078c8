"""Counts, sizes and lists in words."""

import math
from collections.abc import Sequence

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def counted(count: int, noun: str, many: str = "") -> str:
    """A count and its noun: "1 step", "2,000 steps".

    Args:
      many: the plural, where it is not the noun and an s.
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def first_few(words: Sequence[str], most: int = 3) -> str:
    """The first of these, and how many more there are: "a, b, c and 2 more"."""
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")


def bytes_in_words(count: float) -> str:
    """Bytes in the unit that fits: "3.5 MB", "384 GB"."""
    unit = min(int(math.log(max(count, 1), 1000)), 5)
    number = count / 1000**unit
    return f"{number:,.{0 if number >= 100 or not unit else 1}f} {_UNITS[unit]}"
