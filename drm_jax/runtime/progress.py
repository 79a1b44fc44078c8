"""The progress bar that all long jobs share."""

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text


class _TimeLeft(TimeRemainingColumn):
    """The time left, with the word, which tells it from the time taken."""

    def render(self, task: Task) -> Text:
        time = super().render(task)
        return time.append(" left") if time else time


class _News(ProgressColumn):
    """The newest numbers of a job: the first so many."""

    def __init__(self, most: int):
        super().__init__()
        self._most = most

    def render(self, task: Task) -> Text:
        return Text("  ".join(task.fields["news"][: self._most]))


_NAME, _BAR, _DONE = TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn()
_TAKEN, _LEFT = TimeElapsedColumn(), _TimeLeft()
_PLACES = [_NAME, _BAR, _DONE, _TAKEN, _LEFT]


class _Fitting(Progress):
    """Of whose columns a narrow terminal shows those that matter most, each one whole."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield _Rows([task for task in self.tasks if task.visible])


class _Rows:
    """A row for each task, in the width that there is."""

    def __init__(self, tasks: Sequence[Task]):
        self._tasks = tasks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most = max((len(task.fields["news"]) for task in self._tasks), default=0)
        shown, news, table = [_DONE], [], self._table([_DONE])
        for column in (_LEFT, _NAME, *map(_News, range(1, most + 1)), _TAKEN, _BAR):
            if isinstance(column, _News):
                more, said = shown, [column]
            else:
                more, said = sorted([*shown, column], key=_PLACES.index), news
            wider = self._table([*more, *said])
            if Measurement.get(console, options.update(width=10**6), wider).maximum <= (
                options.max_width
            ):
                shown, news, table = more, said, wider
        yield table

    def _table(self, columns: Sequence[ProgressColumn]) -> Table:
        table = Table.grid(*(Column(no_wrap=True) for _ in columns), padding=(0, 1))
        for task in self._tasks:
            table.add_row(*(column(task) for column in columns))
        return table


def progress_bar(console: Console) -> Progress:
    """One bar a phase, with what is done, the time taken and left, and the newest numbers."""
    return _Fitting(console=console, refresh_per_second=2)
