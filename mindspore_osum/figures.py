"""Plots as PNG files, without a display; matplotlib is imported when the first one is drawn."""

from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import replacing


def require_matplotlib(instead: str) -> None:
    """UserError if matplotlib is missing; `instead` is the option that avoids it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(f"plots need matplotlib: pip install 'mindspore-osum[plots]', or {instead}") from None


def new_figure(width: float = 6.0, height: float = 4.0, rows: int = 1):
    """(figure, axes) of a size in inches; an array of axes for several rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows)


def save_png(figure, path: Path) -> str:
    """Write the figure atomically; returns its file name."""
    try:
        with replacing(path) as file:
            figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    except OSError as error:
        raise UserError(f"{path}: cannot write the plot ({error.strerror})") from None
    return path.name
