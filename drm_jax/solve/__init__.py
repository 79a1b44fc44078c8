"""Answers ARC tasks that a network has not seen, by training on their demonstrations."""
