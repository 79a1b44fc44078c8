"""python -m drm_jax: the `drm` command."""

import sys

from drm_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
