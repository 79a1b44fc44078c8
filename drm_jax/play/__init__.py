"""A page served on this machine alone: people pose puzzles and watch them being answered."""
