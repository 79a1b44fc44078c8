"""`drm report`: where the page goes, and what is read for it."""

from collections.abc import Sequence

from etils import epath

from drm_jax.io.files import write_whole
from drm_jax.report.collect import read_run
from drm_jax.report.page import comparison_page, single_page


def write_report(
    workdirs: Sequence[epath.Path],
    *,
    steps: Sequence[int] = (),
    output: epath.Path | None = None,
) -> epath.Path:
    """Writes the report of a work directory, or the comparison of several; returns its path.

    Args:
      steps: of the evaluation that is shown, several of an ensemble; none for the newest
        checkpoint's.
      output: the file; report.html in the work directory, or comparison.html in the first one.

    Raises:
      InputError: a work directory, an evaluation or a file can't be used.
    """
    first = workdirs[0]
    if len(workdirs) == 1:
        page, name = single_page(read_run(first, steps)), "report.html"
    else:
        page, name = comparison_page([read_run(workdir) for workdir in workdirs]), "comparison.html"
    path = output or first / name
    write_whole(path, page)
    return path
