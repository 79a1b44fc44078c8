"""One pure training step, and the objective, optimiser and state that it is made of."""
