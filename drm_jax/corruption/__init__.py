"""Corruption of target grids, numpy only: schedules, noise, masks, reverse targets."""
