"""DRM 14M on ARC-AGI-2.

    drm train experiments/arc2_drm_14m.py

Settings, expected time, memory and result: see paper.py.
"""

from paper import paper

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return paper("arc2", "drm", "14m")
