"""DRM 14M on ARC-AGI-2: `arc2_drm_7m` with width 768, 12 heads and 6 inner steps.

    drm train experiments/arc2_drm_14m.py

Expected time and memory: 2.7 times the FLOPs of the 7M model a step, 250 MB a device for
network, moments and average, 3.2 GB for the puzzle table over all devices together. Not yet run
on an accelerator.
Expected result: pass@2 of 24.9% on the ARC-AGI-2 evaluation tasks, TRM 21.8% (paper, with more
training data than the sources named here).
"""

import dataclasses

from arc1_drm_14m import experiment as arc1_drm_14m
from arc2_drm_7m import experiment as arc2_drm_7m

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return dataclasses.replace(arc2_drm_7m(), name="arc2_drm_14m", model=arc1_drm_14m().model)
