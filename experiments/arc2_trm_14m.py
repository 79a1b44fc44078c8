"""TRM 14M on ARC-AGI-2: `arc2_drm_14m` with the objective trm.

    drm train experiments/arc2_trm_14m.py

Tasks, and what this model must not be scored on: see `arc2_drm_7m`. What the steps read and train
on: see `arc1_trm_7m`.

Expected time: the FLOPs of `arc2_drm_14m` a step, 724,000 steps. Not yet run on an accelerator.
Expected memory: as `arc2_drm_14m`, and the 4.3 GB of `arc1_trm_14m` for the carried y and z.
Expected result: pass@2 of 21.8% on the ARC-AGI-2 evaluation tasks (DRM paper, with more training
data than the sources named here).
"""

import dataclasses

from arc2_drm_14m import experiment as arc2_drm_14m

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return dataclasses.replace(arc2_drm_14m(), name="arc2_trm_14m", objective="trm")
