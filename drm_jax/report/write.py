"""`drm report`: where the page goes, and what is read for it."""

from collections.abc import Sequence

from etils import epath

from drm_jax.io.files import write_whole
from drm_jax.report.collect import evaluation_of_step, read_run
from drm_jax.report.page import comparison_page, single_page


def write_report(
    workdirs: Sequence[epath.Path],
    *,
    step: int | None = None,
    folder: epath.Path | None = None,
    output: epath.Path | None = None,
) -> epath.Path:
    """Writes the report of a work directory, or the comparison of several; returns its path.

    Args:
      step: of the evaluation that is shown; the newest one where None.
      folder: of the evaluation that is shown, where it isn't of a single checkpoint.
      output: the file; report.html in the work directory, or comparison.html in the first one.

    Raises:
      InputError: a work directory, an evaluation or a file can't be used.
    """
    first = workdirs[0]
    if len(workdirs) == 1:
        folder = folder or evaluation_of_step(first, step)
        page, name = single_page(read_run(first, folder)), "report.html"
    else:
        page, name = comparison_page([read_run(workdir) for workdir in workdirs]), "comparison.html"
    path = output or first / name
    write_whole(path, page)
    return path
