"""Images of the snippets of a batch, decoded in advance by worker processes."""

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

from ssn_feat.annotations.similar import similar_name
from ssn_feat.errors import UserError
from ssn_feat.finetuning.augmentation import AugmentationOptions, draw_variation, vary
from ssn_feat.finetuning.distributed import Processes
from ssn_feat.progress import progress_bar
from ssn_feat.signals import on_signal
from ssn_feat.video.cache import PixelCache
from ssn_feat.video.frame_index import FrameIndex, index_frames
from ssn_feat.video.image_folders import ImageNames
from ssn_feat.video.opencv import import_cv2
from ssn_feat.video.random_access import IndexedVideo, SnippetRows
from ssn_feat.video.snippet_options import ResolvedSnippets


@dataclass(frozen=True)
class PixelOptions:
    """Decoding of videos and data augmentation."""

    workers: int = 2
    """Number of processes that decode and compute flow in advance; 0: decode in the process that trains."""
    cache: Path | None = None
    """Folder for a cache of the resized images of snippets; several trainings may share it."""
    cache_gb: float = 20.0
    """Maximum size of the cache in gigabytes; the least recently used images are removed first."""
    flow_device: str = "auto"
    """Device on which workers compute flow, if the method supports GPUs: cpu, cuda, ...; auto: the device of the
    training. Every worker uses memory of the GPU."""
    fps: float | None = None
    """Frame rate of folders of images, which have no time stamps."""
    frames: str = ImageNames.frames
    """Names of the frames in folders of images, as for extract/run.py."""
    flow_frames: str = ImageNames.flow
    """Names of the flow images in folders of images, as for extract/run.py."""
    variation: Annotated[AugmentationOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=AugmentationOptions)
    """Data augmentation."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers must not be negative, they are {self.workers}")
        if not self.cache_gb > 0:
            raise UserError(f"cache_gb must be positive, it is {self.cache_gb}")
        _ = self.names

    @property
    def names(self) -> ImageNames:
        """Names of the images in folders."""
        return ImageNames(self.frames, self.flow_frames)

    def open_cache(self) -> PixelCache | None:
        """The cache, created if it does not exist; None without a cache."""
        if self.cache is None:
            return None
        return PixelCache(self.cache, int(self.cache_gb * 1e9))


@dataclass(frozen=True)
class Request:
    """The images that one worker prepares together.

    Image i shows row ``rows[i]`` of the video with index ``video[i]``. Images with the same ``group[i]`` are augmented
    in the same way, decided by ``seed``. All arrays are int64 (n,).
    """

    video: NDArray[np.int64]
    rows: NDArray[np.int64]
    group: NDArray[np.int64]
    seed: tuple[int, ...]


@dataclass(frozen=True)
class FailedRequest:
    """The reason why a worker could not prepare a request: exceptions lose their type between processes."""

    reason: str


@dataclass
class PixelSource:
    """Prepares the images of requests; every worker has a copy."""

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
        """The images of a request, uint8 (n, C, size, size).

        Raises UserError, naming the video and the time, where an image cannot be prepared.
        """
        images: dict[tuple[int, int], NDArray[np.uint8]] = {}
        for video in np.unique(request.video).tolist():
            rows = request.rows[request.video == video]
            images |= {(video, row): image for row, image in self.reader.read(self.videos[video], rows).items()}
        generator = np.random.default_rng(request.seed)
        drawn: dict[tuple[int, tuple[int, ...]], Any] = {}
        inputs = []
        for video, row, group in zip(
            request.video.tolist(), request.rows.tolist(), request.group.tolist(), strict=True
        ):
            image = images[video, row]
            height, width = image.shape[:2]
            key = (group, (width, height))
            if key not in drawn:
                drawn[key] = draw_variation(width, height, self.size, self.reader.stream, self.variation, generator)
            inputs.append(vary(image, drawn[key], self.size, self.reader.stream == "flow"))
        return np.stack(inputs)


class PixelBatches:
    """Batches of images in the order of their requests, prepared in advance by workers that persist until closed."""

    def __init__(self, source: PixelSource, workers: int, device: torch.device) -> None:
        self._requests: Iterable[list[Request]] = ()
        self._device = device
        # The sampler yields requests, with which the data set is indexed.
        self._loader: DataLoader[Any] = DataLoader(
            source,  # type: ignore[arg-type]
            batch_sampler=self,
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=_use_one_thread,
        )

    def __iter__(self) -> Iterator[list[Request]]:
        return iter(self._requests)

    def of(self, requests: Iterable[list[Request]]) -> Iterator[tuple[Tensor, int]]:
        """For each list of requests, uint8 (requests * n, C, size, size) on the device, and the number of requests.

        Raises UserError if an image cannot be prepared or if a worker died.
        """
        self._requests = requests
        try:
            # Ctrl-C reaches all processes of a terminal, but the training needs the workers until its checkpoint.
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
        """Stop the workers."""
        self._requests = ()
        workers, self._loader._iterator = self._loader._iterator, None
        # Workers may have been terminated together with this process, which is not an error here.
        with suppress(RuntimeError):
            if workers is not None and self._loader.num_workers:
                workers._shutdown_workers()  # type: ignore[attr-defined]


def _use_one_thread(_: int) -> None:
    """Use one thread, since several workers run at the same time."""
    torch.set_num_threads(1)
    import_cv2().setNumThreads(1)


def index_videos(
    paths: Mapping[str, Path],
    ids: Sequence[str],
    options: PixelOptions,
    snippets: ResolvedSnippets,
    processes: Processes,
    quiet: bool = False,
    check: Callable[[str, Path], str] = lambda name, path: "",
) -> list[IndexedVideo]:
    """Index the frames of the videos ``ids``, for reading single frames; each video is decoded once.

    ``paths``: file or folder of each video; ``snippets``: how snippets will be cut out; ``quiet``: without a progress
    bar; ``check``: called in a worker with each id and path, returns what is wrong with the file or an empty string.
    Indices are kept in the cache. Raises UserError if a video is missing or cannot be read.
    """
    missing = [name for name in ids if name not in paths]
    if missing:
        hint = similar_name(missing, paths, "the folder")
        raise UserError(f"no file for {len(missing)} of {len(ids)} videos, the first is {missing[0]!r}{hint}")
    share = list(ids)[processes.rank :: processes.count]
    work = (delayed(_index)(name, paths[name], options, snippets, check) for name in share)
    indexed: list[tuple[str, FrameIndex | str]] = []
    with nullcontext() if quiet else progress_bar("indexing videos", len(share)) as advance:
        for entry in Parallel(n_jobs=max(options.workers, 1), return_as="generator")(work):
            indexed.append(entry)
            if advance is not None:
                advance()
    together = {name: index for part in processes.collect(indexed) for name, index in part}
    wrong = {name: index for name, index in together.items() if isinstance(index, str)}
    if wrong:
        name, reason = next(iter(wrong.items()))
        raise UserError(f"{len(wrong)} of {len(ids)} videos cannot be used, the first is {name!r}: {reason}")
    indices = {name: index for name, index in together.items() if isinstance(index, FrameIndex)}
    for name, index in indices.items():
        if index.damage and processes.first:
            print(f"note: video {name!r} is incomplete: {index.damage}", file=sys.stderr)
    return [IndexedVideo(name, paths[name], indices[name], options.fps, options.names) for name in ids]


def _index(
    name: str, path: Path, options: PixelOptions, snippets: ResolvedSnippets, check: Callable[[str, Path], str]
) -> tuple[str, FrameIndex | str]:
    _use_one_thread(0)
    try:
        if wrong := check(name, path):
            return name, wrong
        return name, index_frames(
            path,
            options.fps,
            None if options.cache is None else options.cache / "indices",
            options.names,
            stream=snippets.video_stream,
            deinterlace=snippets.deinterlace == "auto",
            untimed_fps=snippets.nominal_fps,
        )
    except UserError as error:
        return name, str(error)


def reader_of(
    options: PixelOptions, snippets: ResolvedSnippets, stream: Literal["rgb", "flow"], processes: Processes
) -> SnippetRows:
    """The reader of single snippets of ``stream`` for the workers of a process."""
    device = str(processes.device) if options.flow_device == "auto" else options.flow_device
    return SnippetRows(snippets, stream, options.open_cache(), device)


__all__ = ["FailedRequest", "PixelBatches", "PixelOptions", "PixelSource", "Request", "index_videos", "reader_of"]
