"""The settings of an adaptation. Without jax: the command line shows them."""

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from drm_jax.fields import Batch, Count, CountOrZero, Decay, Rate, check_fields

_Share = Annotated[float, Meta(ge=0, le=1)]


@dataclasses.dataclass(frozen=True)
class Adapt:
    """How a network is adapted to the demonstrations of tasks."""

    num_augmentations: CountOrZero | Literal["auto"] = "auto"
    """Augmentations of each task beside the identity; each has a puzzle row, and votes. auto: 200
    on an accelerator, where 128 to 300 are about as good as 1,000; 15 on a CPU, which hasn't the
    time to train so many rows. A task that the weights know keeps its own."""
    rows_first: _Share | Literal["auto"] = "auto"
    """The share of training, at its beginning, that trains the puzzle rows alone; all weights are
    trained after that. auto: 0.3 on an accelerator, as others found best for hours of adaptation;
    0 on a CPU, where time is short and rows alone solve little. Not used from nothing."""
    learning_rate: Rate | None = None
    """Of the network; as the weights were trained with by default."""
    puzzle_learning_rate: Rate | None = None
    """Of the puzzle rows; as the weights were trained with by default."""
    warmup_steps: CountOrZero = 50
    """Linear warm-up: of the rows' rate at the beginning, of the network's when its training
    begins."""
    ema: Decay = 0.99
    """Decay of the averaged weights that answer; the average begins with the weights."""
    batch_size: Batch = 64
    """Examples a step, and candidates answered at a time, over all devices."""
    denoise_steps: Count | None = None
    """Passes of an answer; as the weights were scored with by default."""
    seed: CountOrZero = 0

    def __post_init__(self):
        check_fields(self)

    def on(self, platform: str) -> "Adapt":
        """With what `auto` means on a platform."""
        if platform == "cpu":
            auto = {"num_augmentations": 15, "rows_first": 0.0}
        else:
            auto = {"num_augmentations": 200, "rows_first": 0.3}
        meant = {name: value for name, value in auto.items() if getattr(self, name) == "auto"}
        return dataclasses.replace(self, **meant)
