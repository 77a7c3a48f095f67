"""Options that hand work to several processes, here or on other computers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from napari_cellenhance.workflows.cluster import Cluster

__all__ = ["Scheduler", "Workers", "cluster_of"]

Scheduler = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Let the workers of a dask scheduler do it, e.g. tcp://host:8786.")
]
Workers = Annotated[int, typer.Option(min=0, metavar="N", help="Let N processes on this computer do it; 0: this one.")]


def cluster_of(scheduler: str, n_workers: int) -> Cluster | None:
    """Who is to do the work; None for this process.

    Raises
    ------
    ParameterError
        Both are named.
    """
    if not scheduler and not n_workers:
        return None
    from napari_cellenhance.workflows.cluster import Cluster

    return Cluster(scheduler=scheduler, n_workers=n_workers)
