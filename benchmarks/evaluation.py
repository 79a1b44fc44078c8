"""Time and memory of the evaluation of one batch of candidates, 16 denoising steps.

    python -m benchmarks.evaluation                             the 7M DRM, batches of 2 and 4
    python -m benchmarks.evaluation --sizes w64 w128 --batch 8

Its columns are those of benchmarks.step.
"""

from benchmarks.step import main

if __name__ == "__main__":
    main("evaluate", "An evaluation of one batch, 16 steps")
