"""SPRM 7M on ARC-AGI-1: `arc1_trm_7m` with noise on the carried y and z (objective sprm).

    drm train experiments/arc1_sprm_7m.py
    drm train experiments/arc1_sprm_7m.py --noise.latent-levels 1000

Noise levels are drawn from 0 to 99 of 1000, as in the published code of the DRM paper
(arXiv 2604.18839); the second command draws from all 1000, as the paper's own run did.
The settings are those of `arc1_drm_7m`.

Expected time and memory: as `arc1_trm_7m`; drawing the noise is small beside the network. Not yet
run on an accelerator.
Expected result: none known to us; compare with `arc1_trm_7m`.
"""

import dataclasses

from arc1_drm_7m import experiment as arc1_drm_7m

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return dataclasses.replace(arc1_drm_7m(), name="arc1_sprm_7m", objective="sprm")
