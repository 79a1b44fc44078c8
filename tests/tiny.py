"""The smallest run there is."""

from drm_jax.config import Data, Evaluate, Experiment, Model, Optimizer, Train

TINY = Experiment(
    name="tiny",
    data=Data(
        train=(),
        evaluate=("arc1/training",),
        only=("25d8a9c8", "44f52bb0"),
        canvas=4,
        num_augmentations=3,
    ),
    model=Model(hidden=16, heads=2, layers=1, cycles=2, inner_steps=1, prefix=2, swiglu_multiple=8),
    optimizer=Optimizer(learning_rate=1e-2, warmup_steps=2),
    train=Train(steps=4, batch_size=4, log_every=2, checkpoint_every=2),
    evaluate=Evaluate(batch_size=4, denoise_steps=3),
)
