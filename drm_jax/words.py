"""Counts in words."""


def counted(count: int, noun: str, many: str = "") -> str:
    """A count and its noun: "1 step", "2,000 steps".

    Args:
      many: the plural, where it is not the noun and an s.
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
