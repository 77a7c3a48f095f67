"""Many processes, on this computer or on others, by dask.distributed: connect, check that they fit, hand out work.

Only this process writes journals; workers write pixels, and tell what they have done.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import platform
import queue
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from napari_cellenhance.core.errors import ClusterError, MissingExtraError, ParameterError
from napari_cellenhance.workflows.progress import IsCancelled, never_cancelled

__all__ = ["Cluster", "Crew", "News", "connect", "software"]

_PACKAGES = ("napari-cellenhance", "numpy", "scipy", "scikit-image", "torch", "zarr", "tifffile")
_UNHEARD = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""Ctrl-C reaches all processes of a terminal; workers leave it to the one that started them."""
_RETRIES = 2
_LOST_S = 60.0
_SHORT_S = 0.2
_FRESH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Who does the work.

    Parameters
    ----------
    scheduler : str
        Address of a dask scheduler that runs already, such as ``tcp://host:8786``.
    n_workers : int
        Or: so many processes on this computer, for as long as the work takes.
    timeout_s : float
        How long to wait for the scheduler, in seconds.
    """

    scheduler: str = ""
    n_workers: int = 0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if bool(self.scheduler) is (self.n_workers != 0):
            raise ParameterError("name either a scheduler or a number of workers; expected one of the two")
        if self.n_workers < 0:
            raise ParameterError(f"the number of workers is {self.n_workers}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened: a task ended (``future``), or one told how far it is (``event``)."""

    key: Any
    future: Any = None
    event: dict[str, Any] | None = None


class Crew:
    """Workers that are connected.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.run_id = uuid.uuid4().hex
        self._news: queue.Queue[News] = queue.Queue()
        self._lost_since: float | None = None
        self._known: dict[str, Any] = {}
        self._known_at = -math.inf
        client.subscribe_topic(topic_of(self.run_id), self._on_event)

    @property
    def n_workers(self) -> int:
        """Processes that are there now."""
        return len(self._workers())

    @property
    def n_threads(self) -> int:
        """Tasks that can be done at the same time, now."""
        return sum(int(worker["nthreads"]) for worker in self._workers().values())

    def _workers(self) -> dict[str, Any]:
        if self._known and time.monotonic() - self._known_at < _FRESH_S:
            return self._known
        try:
            self._known_at = time.monotonic()
            self._known = dict(self.client.scheduler_info(n_workers=-1)["workers"])
        except OSError:  # the connection is broken; whether for good, time will tell
            self.check_connection()
        return self._known

    def submit(self, key: Any, work: Callable[..., Any], *given: Any) -> Any:
        """Begin a task; :meth:`next` tells of its end, with ``key``."""
        name = f"cellenhance-{uuid.uuid4().hex}"
        future = self.client.submit(work, *given, pure=False, retries=_RETRIES, key=name)
        future.add_done_callback(lambda ended: self._news.put(News(key, future=ended)))
        return future

    def next(self, timeout_s: float = _SHORT_S) -> News | None:
        """What happened next; None where nothing did for a while.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        """
        try:
            return self._news.get(timeout=timeout_s)
        except queue.Empty:
            self.check_connection()
            return None

    def result_of(self, future: Any) -> Any:
        """What a task that ended returned.

        Raises
        ------
        ClusterError
            It was lost: workers died over it again and again, or the scheduler is gone.
        Exception
            What it raised, after the retries.
        """
        import distributed

        if future.status == "finished":
            return future.result()
        if future.status != "error":
            raise ClusterError(_gone(self.client))
        error = future.exception()
        if isinstance(error, distributed.KilledWorker):
            raise ClusterError(
                "workers ended again and again over the same piece of work, most probably for want of memory; lower "
                "--memory-limit, or give each worker more, and run the same again: it goes on"
            ) from error
        raise error

    def stop(self) -> None:
        """Ask tasks to end at their next tile; they still tell of their end."""
        self.client.run(_stop_here, self.run_id)

    def check(self) -> None:
        """Compare the software of all workers with that of this process.

        Raises
        ------
        ClusterError
            One has other versions, or none of this program.
        """
        try:
            found = self.client.run(software)
        except ModuleNotFoundError as error:
            raise ClusterError(
                f"the workers lack a package ({error}); install napari-cellenhance on all of them, best in one "
                "environment that all machines share"
            ) from error
        for worker, theirs in found.items():
            refuse_other_software(software(), theirs, f"worker {worker}")

    def _on_event(self, event: tuple[Any, Any]) -> None:
        _, told = event
        self._news.put(News(told["key"], event=told))

    def check_connection(self) -> None:
        """Give up a scheduler that was not there for a minute.

        Raises
        ------
        ClusterError
        """
        if self.client.status == "running":
            self._lost_since = None
            return
        self._lost_since = self._lost_since or time.monotonic()
        if self.client.status == "closed" or time.monotonic() - self._lost_since > _LOST_S:
            raise ClusterError(_gone(self.client))


@contextmanager
def connect(
    cluster: Cluster, on_note: Callable[[str], None] = lambda note: None, is_cancelled: IsCancelled = never_cancelled
) -> Iterator[Crew]:
    """Connect with a scheduler, or start processes here; let go of them when the block ends.

    Where no worker has come yet (they wait in the queue of a cluster, say), wait for the first.

    Parameters
    ----------
    cluster : Cluster
    on_note : callable
        Gets a sentence on who works, or that nobody is there yet.
    is_cancelled : callable
        Ends the waiting.

    Raises
    ------
    MissingExtraError
        dask.distributed is not installed.
    ClusterError
        No scheduler answers, or the versions of its workers differ from those here.
    """
    distributed = _distributed()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a worker that ends is replaced: no need to tell
    with _client(distributed, cluster) as client:
        crew = Crew(client)
        if not crew.n_workers:
            on_note(f"No worker has joined {cluster.scheduler} yet; waiting for the first.")
        while not crew.n_workers and not is_cancelled():
            time.sleep(_SHORT_S)
            crew.check_connection()
        crew.check()
        n = crew.n_workers
        on_note(f"{n} worker{'' if n == 1 else 's'} at {client.scheduler.address}.")
        yield crew


@contextmanager
def _client(distributed: Any, cluster: Cluster) -> Iterator[Any]:
    import dask

    if cluster.scheduler:
        try:
            client = distributed.Client(cluster.scheduler, timeout=cluster.timeout_s, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"no scheduler answers at {cluster.scheduler} ({_first_line(error)}); expected an address such as "
                "tcp://host:8786 of a 'dask scheduler' that runs"
            ) from error
        with client:
            yield client
        return
    n_threads = max(1, (os.cpu_count() or 1) // cluster.n_workers)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), n_threads)
    with (
        # Memory is our own matter: the nanny would end a worker that comes near its limit.
        # Nor is a worker given up that needs long to start again: the default, 15 s, is short for a busy machine.
        dask.config.set(
            {"distributed.nanny.pre-spawn-environ": threads, "distributed.deploy.lost-worker-timeout": "1h"}
        ),
        distributed.LocalCluster(
            n_workers=cluster.n_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            preload=[_UNHEARD],
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


def software() -> dict[str, str]:
    """Versions of everything that decides about the pixels."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in _PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found


def refuse_other_software(ours: dict[str, str], theirs: dict[str, str], who: str) -> None:
    """Refuse workers with other versions: their pixels could differ.

    Raises
    ------
    ClusterError
    """
    differing = [
        f"{name} {theirs.get(name, 'none')}, not {ours[name]}" for name in ours if ours[name] != theirs.get(name)
    ]
    if differing:
        raise ClusterError(
            f"{who} has other versions than this process ({'; '.join(differing)}); install the same on all machines, "
            "best one environment that all of them share"
        )


# --- on a worker ------------------------------------------------------------------------------

_STOPPED: set[str] = set()
"""Runs that this worker was asked to stop."""


def topic_of(run_id: str) -> str:
    """Where the tasks of a run tell how far they are."""
    return f"cellenhance-{run_id}"


def _stop_here(run_id: str) -> None:
    _STOPPED.add(run_id)


def is_stopped(run_id: str) -> bool:
    """On a worker: whether the run was cancelled."""
    return run_id in _STOPPED


def tell(run_id: str, **event: Any) -> None:
    """On a worker: say how far a task is, in numbers, texts and lists."""
    from distributed import get_worker

    get_worker().log_event(topic_of(run_id), event)


def device_here(asked: str) -> str:
    """On a worker: its own GPU where a computer has several and nobody has shared them out.

    >>> device_here("cpu")
    'cpu'
    """
    if asked not in ("auto", "cuda"):
        return asked
    import torch

    n_gpus = torch.cuda.device_count()
    if n_gpus < 2:  # none, or one that dask-cuda or SLURM chose
        return asked
    from distributed import get_worker

    return f"cuda:{place_of(get_worker().name) % n_gpus}"


def place_of(name: Any) -> int:
    """A number for a worker, by the digits at the end of its name.

    >>> place_of(3), place_of("SLURMCluster-12"), place_of("anna")
    (3, 12, 0)
    """
    text = str(name)
    digits = text[len(text.rstrip("0123456789")) :]
    return int(digits) if digits else 0


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError(
            "several workers need dask.distributed, which is not installed; run pip install "
            '"napari-cellenhance[cluster]", or work without --workers and --scheduler'
        ) from error
    return distributed


def _gone(client: Any) -> str:
    where = getattr(client.scheduler, "address", "")
    return (
        f"the connection to the scheduler {where} was lost; see whether it runs, and run the same again: it goes on, "
        "and nothing that is finished is lost"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
