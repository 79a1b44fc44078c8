"""DRM 7M on ARC-AGI-1.

    drm train experiments/arc1_drm_7m.py

Settings, expected time, memory and result: see paper.py.
"""

from paper import paper

from drm_jax.config import Experiment


def experiment() -> Experiment:
    return paper("arc1", "drm", "7m")
