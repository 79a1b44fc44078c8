"""The papers' runs on ARC: two sets of tasks, three methods, two sizes of network.

    drm train experiments/arc1_drm_7m.py
    drm train experiments/arc1_drm_7m.py --data.train arc1/training PATH/TO/ConceptARC
    drm train experiments/arc1_sprm_7m.py --method.latent-levels 1000

DRM and SPRM are of arXiv 2604.18839, TRM is of arXiv 2510.04871. The settings are those of the DRM
paper, also for TRM; TRM's own paper has 6 inner steps at width 512.

Tasks: training tasks whole and the demonstrations of the evaluation tasks, each under 1,000
augmentations. The papers add ConceptARC's 160 tasks: name the folder of its JSON files too, as in
the second command.
arc1: two pairs are dropped from training (`leaks="drop"`), as they answer a test of an evaluation
task: the test pair of 40853293 is that of 070dd51e, and the third demonstration of caa06a1f is, in
other colours, that of 50a16a69.
arc2: no training pair answers a test of the evaluation tasks, up to augmentation. But the training
set holds 376 of the 400 ARC-AGI-1 evaluation tasks: never quote such a model's score on those.

Methods: with TRM and SPRM an example stays in its slot of the batch for up to 16 training steps,
and rows of the stream that meet a busy slot are dropped. So a run reads as much of the stream as
with DRM, but trains on 1/16 of its examples or more, depending on how soon the model halts. SPRM
draws noise levels from 0 to 99 of 1000, as in the DRM paper's published code; the third command
draws from all 1000, as the paper's own run did.

Expected time: none was run on an accelerator yet. `drm plan experiments/arc1_drm_7m.py --topology
8xH100` has the arithmetic: memory bounds a step, and at its roofline the run takes about 1.2 days.
The input pipeline makes some 90,000 examples/s on one core of an AMD EPYC.
  arc1   518,000 steps of 768 examples: 100,000 epochs with ConceptARC, 129,000 without
  arc2   724,000 steps
  14m    2.7 times the FLOPs of 7m a step
  trm    the FLOPs of drm a step; TRM's paper took about 3 days on four H100, with 6 inner steps
  sprm   as trm; drawing the noise is small beside the network

Expected memory: 7m 110 MB and 14m 250 MB on each device for network, moments and average. Over all
devices together, in GB:
                                                     7m     14m
  puzzle table, arc1 (about 730,000 rows)            1.5    2.2
  puzzle table, arc2 (about 1,050,000 rows)          2.1    3.2
  carried y and z of trm and sprm, in checkpoints    2.9    4.3    2 x 768 x 916 tokens, float32
Activations of 7m take 1.1 GB an example in float32 (read from the program compiled for a CPU) and
about half of that in bfloat16, so some 410 GB for a batch, and twice as much with 14m. With
`remat="layer"`, as here, they take a tenth, for a fifth more time: 16 GB a device are enough.

Expected result: pass@2 in %, of the DRM paper, unless said otherwise.
              7m     14m
  arc1  drm   50.5   -      on its "easy" ARC tasks (main table; votes of several checkpoints)
        trm   45.7   -      likewise. TRM's paper has 44.6 with two tries on the ARC-AGI-1
                            evaluation tasks (its table 5; 6 inner steps, and ConceptARC)
  arc2  drm   16.7   24.9   on the ARC-AGI-2 evaluation tasks, with more training data than here
        trm   12.5   21.8   likewise. TRM's paper has 7.8 with two tries (its table 5)
None is known to us for 14m on arc1, nor for sprm: compare with trm.
"""

from drm_jax.config import Evaluate, Experiment, Train
from drm_jax.methods.drm import Drm
from drm_jax.methods.sprm import Sprm
from drm_jax.methods.trm import Trm
from drm_jax.model.recursion import Recursion
from drm_jax.model.transformer import Transformer
from drm_jax.puzzles.arc.family import Arc

TASKS = {
    "arc1": Arc(train=("arc1/training",), evaluate=("arc1/evaluation",), leaks="drop"),
    "arc2": Arc(train=("arc2/training",), evaluate=("arc2/evaluation",)),
}
STEPS = {"arc1": 518_000, "arc2": 724_000}
METHODS = {"drm": Drm, "trm": Trm, "sprm": Sprm}
NETWORKS = {
    "7m": Transformer(hidden=512, heads=8, remat="layer"),
    "14m": Transformer(hidden=768, heads=12, remat="layer"),
}
INNER_STEPS = {"7m": 4, "14m": 6}


def paper(tasks: str, method: str, size: str) -> Experiment:
    """A run of the papers; what isn't said here is as by default."""
    steps = STEPS[tasks]
    return Experiment(
        name=f"{tasks}_{method}_{size}",
        data=TASKS[tasks],
        method=METHODS[method](Recursion(inner_steps=INNER_STEPS[size])),
        model=NETWORKS[size],
        train=Train(steps=steps),
        evaluate=Evaluate(every=steps // 10),  # arc1: 10,000 epochs with ConceptARC
    )
