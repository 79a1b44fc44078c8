"""DRM 7M on ARC-AGI-1, with the settings of the paper (arXiv 2604.18839).

    drm train experiments/arc1_drm_7m.py
    drm train experiments/arc1_drm_7m.py --data.train arc1/training PATH/TO/ConceptARC

Tasks: ARC-AGI-1 training tasks whole and the demonstrations of its evaluation tasks, each under
1,000 augmentations. The papers add ConceptARC's 160 tasks: name the folder of its JSON files too.
Two pairs are dropped from training (`leaks="drop"`), as they answer a test of an evaluation task:
the test pair of 40853293 is that of 070dd51e, and the third demonstration of caa06a1f is, in other
colours, that of 50a16a69.

Expected time: 518,000 steps of 768 examples: 100,000 epochs with ConceptARC, 129,000 without. Not
yet run on an accelerator.
`drm plan experiments/arc1_drm_7m.py --topology 8xH100` has the arithmetic: memory bounds a step,
and at its roofline the run takes about 1.2 days. The input pipeline makes some 90,000 examples/s on
one core of an AMD EPYC.
Expected memory: the 7M network with moments and average is 110 MB on each device; the puzzle
table of about 730,000 rows is 1.5 GB over all devices together. Activations take 1.1 GB an
example in float32 (read from the program compiled for a CPU) and about half of that in bfloat16:
some 410 GB for the global batch, over all devices together: eight H100 hold it, one does not.
Expected result: pass@2 of 50.5% on the paper's "easy" ARC tasks, where TRM of the same size has
45.7% (paper, main table; its figure pools the votes of several checkpoints).
"""

from drm_jax.config import Data, Evaluate, Experiment, Model


def experiment() -> Experiment:
    return Experiment(
        name="arc1_drm_7m",
        data=Data(train=("arc1/training",), evaluate=("arc1/evaluation",), leaks="drop"),
        # A fifth more time than `none`, for a tenth of the activations: 16 GB a device are enough.
        model=Model(remat="layer"),
        # 10,000 epochs with ConceptARC.
        evaluate=Evaluate(every=51_800),
    )
