"""Corruption of target grids, numpy only: schedules, noise, masks, K-step reverse targets."""
