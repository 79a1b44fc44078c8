"""TRM 7M on ARC-AGI-1 (arXiv 2510.04871): `arc1_drm_7m` with the objective trm.

    drm train experiments/arc1_trm_7m.py
    drm train experiments/arc1_trm_7m.py --data.train arc1/training PATH/TO/ConceptARC

Tasks and dropped leaks as `arc1_drm_7m`. An example stays in its slot of the batch for up to 16
training steps, and rows of the stream that meet a busy slot are dropped. So 518,000 steps read as
much of the stream as `arc1_drm_7m`, but train on 1/16 of its examples or more; how many more
depends on how soon the model halts.

Expected time: the FLOPs of `arc1_drm_7m` a step. Not yet run on an accelerator. The TRM paper's
run took about 3 days on four H100, with 6 inner steps instead of the 4 here.
Expected memory: as `arc1_drm_7m`, and 2.9 GB over all devices together, in checkpoints too, for
the carried y and z: 2 x 768 examples x 916 tokens x 512 numbers of float32.
Expected result: pass@2 of 45.7% on the DRM paper's "easy" ARC tasks (arXiv 2604.18839, main table;
its figure pools the votes of several checkpoints). The TRM paper has 44.6% with two tries on the
ARC-AGI-1 evaluation tasks (its table 5; 6 inner steps, and ConceptARC).
"""

import dataclasses

from arc1_drm_7m import experiment as arc1_drm_7m

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return dataclasses.replace(arc1_drm_7m(), name="arc1_trm_7m", objective="trm")
