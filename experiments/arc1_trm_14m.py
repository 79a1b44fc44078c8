"""TRM 14M on ARC-AGI-1: `arc1_drm_14m` with the objective trm.

    drm train experiments/arc1_trm_14m.py

What the steps read and train on: see `arc1_trm_7m`.

Expected time: the FLOPs of `arc1_drm_14m` a step. Not yet run on an accelerator.
Expected memory: as `arc1_drm_14m`, and 4.3 GB over all devices together, in checkpoints too, for
the carried y and z: 2 x 768 examples x 916 tokens x 768 numbers of float32.
Expected result: none known to us; the DRM paper has TRM 14M on ARC-AGI-2 only, see `arc2_trm_14m`.
"""

import dataclasses

from arc1_drm_14m import experiment as arc1_drm_14m

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return dataclasses.replace(arc1_drm_14m(), name="arc1_trm_14m", objective="trm")
