"""Pixels of the snippets that a batch was drawn from: decoded by worker processes ahead of the training."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from joblib import Parallel, delayed
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ssn_feat.errors import UserError
from ssn_feat.finetuning.augmentation import AugmentationOptions, draw_variation, vary
from ssn_feat.finetuning.distributed import Processes
from ssn_feat.progress import progress_bar
from ssn_feat.signals import on_signal
from ssn_feat.video.cache import PixelCache
from ssn_feat.video.frame_index import FrameIndex, index_frames
from ssn_feat.video.opencv import import_cv2
from ssn_feat.video.random_access import IndexedVideo, SnippetRows
from ssn_feat.video.snippet_options import ResolvedSnippets


@dataclass(frozen=True)
class PixelOptions:
    """Where pixels come from, and how they are varied."""

    workers: int = 2
    """Processes that decode and compute flow ahead of the training; 0: the training does it itself."""
    cache: Path | None = None
    """Folder that keeps the pictures of snippets, resized; several trainings may share it."""
    cache_gb: float = 20.0
    """Gigabytes that the cache may hold; what was used longest ago goes first."""
    flow_device: str = "auto"
    """Where the workers compute flow that a GPU can compute, each taking a part of it: cpu, cuda, ...; auto: where the
    training runs."""
    fps: float | None = None
    """Frame rate of folders of images, which carry no times."""
    variation: Annotated[AugmentationOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=AugmentationOptions)
    """How the pictures are varied."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers must not be negative, they are {self.workers}")
        if not self.cache_gb > 0:
            raise UserError(f"cache_gb must be positive, it is {self.cache_gb}")

    def store(self) -> PixelCache | None:
        """The cache, made where there is none."""
        if self.cache is None:
            return None
        return PixelCache(self.cache, int(self.cache_gb * 1e9))


@dataclass(frozen=True)
class Request:
    """Pictures that one worker shall make: those of ``rows`` (n,) of video ``video[i]``; the ones of one ``group`` (n,)
    are varied alike. ``seed`` decides how."""

    video: NDArray[np.int64]
    rows: NDArray[np.int64]
    group: NDArray[np.int64]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class FailedRequest:
    """Why a worker could not make the pictures of a request; exceptions lose their meaning between processes."""

    reason: str


@dataclass
class PixelSource:
    """Makes the pictures of requests; copied to every worker."""

    videos: Sequence[IndexedVideo]
    reader: SnippetRows
    size: int
    variation: AugmentationOptions

    def __getitem__(self, request: Request) -> Tensor | FailedRequest:
        """uint8 (n, C, size, size) in the order of the request."""
        try:
            return torch.from_numpy(self.make(request))
        except UserError as error:
            return FailedRequest(str(error))

    def make(self, request: Request) -> NDArray[np.uint8]:
        """What indexing gives. Raises UserError naming video and time where a picture cannot be made."""
        made: dict[tuple[int, int], NDArray[np.uint8]] = {}
        for video in np.unique(request.video).tolist():
            rows = request.rows[request.video == video]
            made |= {(video, row): image for row, image in self.reader.read(self.videos[video], rows).items()}
        generator = np.random.default_rng(request.seed)
        drawn: dict[tuple[int, tuple[int, ...]], Any] = {}
        inputs = []
        for video, row, group in zip(
            request.video.tolist(), request.rows.tolist(), request.group.tolist(), strict=True
        ):
            picture = made[video, row]
            height, width = picture.shape[:2]
            key = (group, (width, height))
            if key not in drawn:
                drawn[key] = draw_variation(width, height, self.size, self.reader.stream, self.variation, generator)
            inputs.append(vary(picture, drawn[key], self.size, self.reader.stream == "flow"))
        return np.stack(inputs)


class PixelBatches:
    """Batches of pictures in the order of their requests, made ahead by workers that live as long as this."""

    def __init__(self, source: PixelSource, workers: int, device: torch.device) -> None:
        self._requests: Iterable[list[Request]] = ()
        self._device = device
        # The data set is indexed by what the sampler gives: requests.
        self._loader: DataLoader[Any] = DataLoader(
            source,  # type: ignore[arg-type]
            batch_sampler=self,
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=_alone,
        )

    def __iter__(self) -> Iterator[list[Request]]:
        return iter(self._requests)

    def of(self, requests: Iterable[list[Request]]) -> Iterator[tuple[Tensor, int]]:
        """For each list of requests uint8 (requests * n, C, size, size) on the device, and the number of requests.

        Raises UserError for a picture that cannot be made and for a worker that died.
        """
        self._requests = requests
        try:
            # Ctrl-C reaches every process of a terminal: the training ends with a checkpoint, for which it needs them.
            with on_signal(signal.SIGINT, signal.SIG_IGN):
                batches = iter(self._loader)
            for parts in batches:
                for part in parts:
                    if isinstance(part, FailedRequest):
                        raise UserError(part.reason)
                yield torch.cat([part.to(self._device, non_blocking=True) for part in parts]), len(parts)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a process that decodes videos died ({str(error).splitlines()[0]}); if memory ran out, lower --workers"
            ) from None

    def close(self) -> None:
        """End the workers."""
        self._requests = ()
        workers, self._loader._iterator = self._loader._iterator, None
        # A worker that was ended beside this process is no error now.
        with suppress(RuntimeError):
            if workers is not None and self._loader.num_workers:
                workers._shutdown_workers()  # type: ignore[attr-defined]


def _alone(_: int) -> None:
    """Workers work beside each other: one thread each."""
    torch.set_num_threads(1)
    import_cv2().setNumThreads(1)


def index_videos(
    paths: Mapping[str, Path],
    ids: Sequence[str],
    options: PixelOptions,
    processes: Processes,
    quiet: bool = False,
    check: Callable[[str, Path], str] = lambda name, path: "",
) -> list[IndexedVideo]:
    """Videos ``ids`` with everything that reading single frames of them needs; each is decoded once.

    ``paths``: file or folder of each; ``quiet``: without a progress bar; ``check`` is called with each id and path in a
    worker and says what is wrong with the file, if anything. Indices are kept in the cache. Raises UserError where a
    video is missing or cannot be read.
    """
    missing = [name for name in ids if name not in paths]
    if missing:
        raise UserError(f"no file for {len(missing)} of {len(ids)} videos, the first is {missing[0]!r}")
    own = list(ids)[processes.rank :: processes.count]
    folder = None if options.cache is None else options.cache / "indices"
    work = (delayed(_index)(name, paths[name], options.fps, folder, check) for name in own)
    found: list[tuple[str, FrameIndex | str]] = []
    with nullcontext() if quiet else progress_bar("indexing videos", len(own)) as advance:
        for made in Parallel(n_jobs=max(options.workers, 1), return_as="generator")(work):
            found.append(made)
            if advance is not None:
                advance()
    together = {name: index for part in processes.collect(found) for name, index in part}
    wrong = {name: index for name, index in together.items() if isinstance(index, str)}
    if wrong:
        name, reason = next(iter(wrong.items()))
        raise UserError(f"{len(wrong)} of {len(ids)} videos cannot be used, the first is {name!r}: {reason}")
    indices = {name: index for name, index in together.items() if isinstance(index, FrameIndex)}
    for name, index in indices.items():
        if index.damage and processes.first:
            print(f"note: video {name!r} is incomplete: {index.damage}", file=sys.stderr)
    return [IndexedVideo(name, paths[name], indices[name], options.fps) for name in ids]


def _index(
    name: str, path: Path, fps: float | None, folder: Path | None, check: Callable[[str, Path], str]
) -> tuple[str, FrameIndex | str]:
    _alone(0)
    try:
        wrong = check(name, path)
        return name, wrong or index_frames(path, fps, folder)
    except UserError as error:
        return name, str(error)


def reader_of(
    options: PixelOptions, snippets: ResolvedSnippets, stream: Literal["rgb", "flow"], processes: Processes
) -> SnippetRows:
    """What reads single snippets of ``stream`` in the workers of a process."""
    device = str(processes.device) if options.flow_device == "auto" else options.flow_device
    return SnippetRows(snippets, stream, options.store(), device)


__all__ = ["FailedRequest", "PixelBatches", "PixelOptions", "PixelSource", "Request", "index_videos", "reader_of"]
