"""DRM 7M on ARC-AGI-2, with the settings of the paper (arXiv 2604.18839).

    drm train experiments/arc2_drm_7m.py
    drm train experiments/arc2_drm_7m.py --data.train arc2/training PATH/TO/ConceptARC

Tasks: ARC-AGI-2 training tasks whole and the demonstrations of its evaluation tasks. No training
pair answers a test of the evaluation tasks, up to augmentation. But the training set holds 376 of
the 400 ARC-AGI-1 evaluation tasks: never quote this model's score on those.

Expected time: as `arc1_drm_7m` a step; the papers train for about 724,000 steps. Not yet run on
an accelerator.
Expected memory: 110 MB a device for network, moments and average; 2.1 GB for the puzzle table of
about 1,050,000 rows over all devices together.
Expected result: pass@2 of 16.7% on the ARC-AGI-2 evaluation tasks, TRM 12.5% (paper, with more
training data than the sources named here).
"""

import dataclasses

from arc1_drm_7m import experiment as arc1_drm_7m

from drm_jax.config import Data, Experiment


def experiment() -> Experiment:
    base = arc1_drm_7m()
    return dataclasses.replace(
        base,
        name="arc2_drm_7m",
        data=Data(train=("arc2/training",), evaluate=("arc2/evaluation",)),
        train=dataclasses.replace(base.train, steps=724_000),
        evaluate=dataclasses.replace(base.evaluate, every=72_400),
    )
