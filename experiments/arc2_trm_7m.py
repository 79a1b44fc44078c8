"""TRM 7M on ARC-AGI-2 (arXiv 2510.04871): `arc2_drm_7m` with the objective trm.

    drm train experiments/arc2_trm_7m.py
    drm train experiments/arc2_trm_7m.py --data.train arc2/training PATH/TO/ConceptARC

Tasks, and what this model must not be scored on: see `arc2_drm_7m`. What the steps read and train
on: see `arc1_trm_7m`.

Expected time: the FLOPs of `arc1_drm_7m` a step, 724,000 steps. Not yet run on an accelerator.
Expected memory: as `arc2_drm_7m`, and the 2.9 GB of `arc1_trm_7m` for the carried y and z.
Expected result: pass@2 of 12.5% on the ARC-AGI-2 evaluation tasks (DRM paper, arXiv 2604.18839,
with more training data than the sources named here). The TRM paper has 7.8% with two tries (its
table 5; 6 inner steps, and ConceptARC).
"""

import dataclasses

from arc2_drm_7m import experiment as arc2_drm_7m

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return dataclasses.replace(arc2_drm_7m(), name="arc2_trm_7m", objective="trm")
