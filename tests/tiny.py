"""The smallest run there is."""

from drm_jax.config import Evaluate, Experiment, Optimizer, Train
from drm_jax.methods.drm import Drm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc

TINY = Experiment(
    name="tiny",
    data=Arc(
        train=(),
        evaluate=("arc1/training",),
        only=("25d8a9c8", "44f52bb0"),
        canvas=4,
        num_augmentations=3,
    ),
    method=Drm(recursion=Recursion(cycles=2, inner_steps=1)),
    model=Transformer(hidden=16, heads=2, layers=1, prefix=2, swiglu_multiple=8),
    optimizer=Optimizer(learning_rate=1e-2, warmup_steps=2),
    train=Train(steps=4, batch_size=4, log_every=2, checkpoint_every=2),
    evaluate=Evaluate(batch_size=4, denoise_steps=3),
)
