"""The eight transforms of a square, of grids of any family.

0 identity; 1, 2, 3 counter-clockwise turns; 4 mirror left-right; 5 mirror up-down; 6 transpose;
7 transpose over the other diagonal.
"""

import numpy as np

NUM_TRANSFORMS = 8
INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)
TRANSFORM_WORDS = (
    "as it is", "turned left", "turned 180°", "turned right", "mirrored left-right",
    "mirrored up-down", "transposed", "transposed over the other diagonal",
)  # fmt: skip


def dihedral(grid_HxW: np.ndarray, transform: int) -> np.ndarray:
    """The grid under dihedral transform 0..7."""
    match transform:
        case 0 | 1 | 2 | 3:
            return np.rot90(grid_HxW, transform)
        case 4:
            return grid_HxW[:, ::-1]
        case 5:
            return grid_HxW[::-1]
        case 6:
            return grid_HxW.T
        case 7:
            return grid_HxW[::-1, ::-1].T
    raise ValueError(f"there is no dihedral transform {transform}: use 0..7")
