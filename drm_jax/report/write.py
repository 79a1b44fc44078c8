"""`drm report`: where the page goes, and what is read for it."""

from collections.abc import Sequence

from etils import epath

from drm_jax.io.files import check_writable, write_whole
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
      output: the file, or a folder for it; report.html in the work directory, or comparison.html
        in the first one.

    Raises:
      InputError: a work directory, an evaluation or a file can't be used.
    """
    name = "report.html" if len(workdirs) == 1 else "comparison.html"
    path = output or workdirs[0] / name
    path = path / name if path.is_dir() else path
    if path.parent.is_dir():
        check_writable(path.parent, "name a file elsewhere with --output")
    runs = [read_run(workdir, steps) for workdir in workdirs]
    page = single_page(runs[0]) if len(runs) == 1 else comparison_page(runs)
    write_whole(path, page)
    return path
