"""DRM 14M on ARC-AGI-1: `arc1_drm_7m` with width 768, 12 heads and 6 inner steps.

    drm train experiments/arc1_drm_14m.py

Expected time and memory: 2.7 times the FLOPs of the 7M model a step, 250 MB a device for
network, moments and average, 2.2 GB for the puzzle table and twice the activations of the 7M
model over all devices together. Not yet run on an accelerator.
Expected result: the paper reports the 14M model on ARC-AGI-2 only; see `arc2_drm_14m`.
"""

import dataclasses

from arc1_drm_7m import experiment as arc1_drm_7m

from drm_jax.config import Experiment


def experiment() -> Experiment:
    base = arc1_drm_7m()
    model = dataclasses.replace(base.model, hidden=768, heads=12, inner_steps=6)
    return dataclasses.replace(base, name="arc1_drm_14m", model=model)
