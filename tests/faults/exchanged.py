"""Stores that are replaced by those of another recipe during a run, and videos that are copied between stores."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from extraction import small

from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, extract
from ssn_feat.store import open_store, pack, verify

from .outcome import Outcome, unforeseen
from .processes import Ended, Process, Work, done

_STREAMS = ("rgb", "flow")


def rounds(generator: np.random.Generator, folder: Path) -> Iterator[Outcome]:
    """Features of one recipe never count as features of another one, and the same command again makes all right."""
    films = small.videos(folder / "videos", count=3, frames=24)
    first = small.options(films, folder / "work" / "s.zarr")
    second = small.options(films, folder / "work" / "s.zarr", stride=3)
    expected = {}
    for name, options in (("first", first), ("second", second)):
        _quietly(small.options(films, folder / f"{name}.zarr", stride=options.snippets.stride))
        expected[name] = small.arrays(folder / f"{name}.zarr")
    operations = _work(first).operations
    shutil.rmtree(folder / "work")
    while True:
        yield _stopped(first, second, folder, expected["second"], int(generator.integers(1, operations + 1)))
        for _ in range(3):
            yield _copied(folder, expected["second"], generator)


def _work(options: ExtractOptions) -> Ended:
    Path(options.store).parent.mkdir(exist_ok=True)
    return done(Work(_quietly, (options,), Path(options.store).parent))


def _quietly(options: ExtractOptions) -> int:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return extract(options).exit_code


def _stopped(
    first: ExtractOptions, second: ExtractOptions, folder: Path, expected: dict[str, bytes], at: int
) -> Outcome:
    """A run is stopped, its store replaced by one of another recipe, and the run continued."""
    out, store = Path(first.store).parent, Path(first.store)
    out.mkdir()
    what = f"extraction, stopped before operation {at} on files while another recipe takes its place"
    try:
        run = Process(Work(_quietly, (first,), out), stop_at=at)
        if run.wait_until_stopped():
            if store.exists():
                shutil.rmtree(store)
            _quietly(second)
            run.resume()
        ended = run.end()
        if ended.code not in (0, 2) or "Traceback" in ended.said:
            return Outcome(what, f"exit code {ended.code}: {ended.said[-300:]}")
        try:
            _quietly(second)
        except UserError as error:  # the run created the store after it was continued
            return Outcome(what, "" if ended.code == 0 and "another recipe" in str(error) else str(error))
        return Outcome(what, _other_than(store, expected))
    except Exception as error:
        return Outcome(what, unforeseen(error))
    finally:
        shutil.rmtree(out)


def _other_than(store: Path, expected: dict[str, bytes]) -> str:
    damage = verify(open_store(store)).damage
    if damage:
        return f"damaged: {damage}"
    return "" if small.arrays(store) == expected else "it holds features of another recipe"


def _copied(folder: Path, expected: dict[str, bytes], generator: np.random.Generator) -> Outcome:
    """The folder of a video, or of one of its arrays with the record, comes from a store of another recipe."""
    out, video = folder / "copied", f"v{int(generator.integers(3))}"
    store, ours, theirs = out / "s.zarr", out / "s.zarr" / "videos" / video, folder / "first.zarr" / "videos" / video
    what = f"the folder of {video} copied from a store of another recipe"
    try:
        shutil.copytree(folder / "second.zarr", store)
        shutil.rmtree(ours)
        shutil.copytree(theirs, ours)
        if sorted(verify(open_store(store)).arrays.get(video, ())) != sorted(_STREAMS):
            return Outcome(what, "verify does not name the streams")
        for attempt in (lambda: open_store(store).read(video), lambda: pack(open_store(store), out / "p.zarr")):
            try:
                attempt()
            except UserError as error:
                prints = [
                    open_store(folder / f"{each}.zarr").fingerprint_of("rgb")[:12] for each in ("first", "second")
                ]
                if not all(each in str(error) for each in prints):
                    return Outcome(what, f"the message does not name both fingerprints: {error}")
            else:
                return Outcome(what, "it is not refused")
        _quietly(small.options(folder / "videos", store, stride=3))
        return Outcome(what, _other_than(store, expected))
    except Exception as error:
        return Outcome(what, unforeseen(error))
    finally:
        shutil.rmtree(out)
