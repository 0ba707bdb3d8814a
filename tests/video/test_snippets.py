from dataclasses import replace

import numpy as np
import pytest
import torch
from films import pictures, write, write_at

from ssn_feat.errors import UserError
from ssn_feat.video import ResolvedSnippets, SnippetOptions, flow, frames, quantise_flow, snippets, to_gray
from ssn_feat.video import snippets as produce
from ssn_feat.video.grid import FLOW_LENGTH
from ssn_feat.video.network_inputs import crop_boxes, crop_flow, crop_images, resize, scaled_size

SMALL = {"short_side": 40, "crop": 32}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write(tmp_path_factory.mktemp("film") / "a.avi", pictures(53, shift=1))


def collect(path, options, batch_size=16):
    """All rows of a video, per stream, and the exhausted producer."""
    run = snippets(path, options, batch_size)
    batches = list(run)
    assert [batch.row for batch in batches] == np.cumsum([0] + [len(b) for b in batches])[:-1].tolist()
    assert all(len(batch) == batch_size for batch in batches[:-1])
    return {stream: torch.cat([batch.streams[stream] for batch in batches]) for stream in options.streams}, run


def plainly(path, options):
    """The same rows the slow way: every frame and every pair in memory, one snippet after the other."""
    images = [image for _, image in frames(path)]
    size = scaled_size(images[0].shape[1], images[0].shape[0], options.short_side)
    size = (options.stretch, options.short_side) if options.stretch else size
    images = [resize(image, size, options.resize) for image in images]
    planes = [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]
    boxes = crop_boxes(*size, options.crop, options.crops)
    last = len(images) - 1
    rows = {stream: [] for stream in options.streams}
    for first in range(0, max(len(images) - FLOW_LENGTH, 1), options.stride):
        middle = FLOW_LENGTH // 2 if options.rgb_frame == "middle" else 0
        read = {"rgb": [middle], "rgbdiff": range(FLOW_LENGTH + 1), "clip": range(FLOW_LENGTH + 1)}
        for stream in set(rows) & set(read):
            pixels = torch.cat([planes[min(first + offset, last)] for offset in read[stream]])
            rows[stream].append(crop_images(pixels[None], boxes, options.crop))
        if "flow" in rows:
            stack = []
            for k in range(first, first + FLOW_LENGTH):
                k = max(min(k, last - 1), 0)
                pair = [to_gray(images[i])[None] for i in (k, min(k + 1, last))]
                field = quantise_flow(flow(*pair, options.flow_method), options.flow_bound)[0]
                stack += list(field)
            rows["flow"].append(crop_flow(torch.stack(stack)[None], boxes, options.crop))
    found = {stream: torch.cat(parts) for stream, parts in rows.items()}
    return {stream: part[:, 0] if options.crops == "center" else part for stream, part in found.items()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"stride": 1}, {"stride": 3}, {"stride": 16}, {"streams": ("rgb",), "rgb_frame": "first"},
     {"streams": ("flow",), "flow_method": "farneback"}, {"crops": "ten", "stride": 9}, {"short_side": 0},
     {"short_side": 70, "crop": 64, "stride": 20}, {"crops": "three", "stride": 16}, {"resize": "smooth", "stride": 16},
     {"stretch": 60, "stride": 16}, {"streams": ("rgbdiff",), "stride": 4},
     {"streams": ("clip", "rgb"), "stride": 8},
     {"streams": ("flow",), "flow_method": "tvl1", "stride": 50}],
)  # fmt: skip
def test_streaming_equals_the_plain_way(film, changes):
    options = SnippetOptions(**(SMALL | changes)).resolved()
    found, run = collect(film, options, batch_size=4)
    expected = plainly(film, options)
    for stream in options.streams:
        assert found[stream].dtype == torch.uint8
        torch.testing.assert_close(found[stream], expected[stream], rtol=0, atol=0)
        assert found[stream].shape[-3:] == (options.channels(stream), options.crop, options.crop)
        assert len(found[stream]) == len(run.grid.first)


def test_flow_that_is_not_quantised_is_as_fine_as_it_was_computed(film):
    options = SnippetOptions(streams=("flow",), crops="ten", stride=9, **SMALL)
    eighth, _ = collect(film, options)
    fine, _ = collect(film, replace(options, flow_quantised=False))
    assert fine["flow"].dtype == torch.float32
    # Within the bound what 8 bits rounded, in mirrored crops, too; 127.5 is no motion.
    assert (fine["flow"].clamp(0, 255) - eighth["flow"].float()).abs().max() <= 0.5 + 1e-4
    assert (fine["flow"] != fine["flow"].round()).float().mean() > 0.9
    small, _ = collect(film, replace(options, flow_quantised=False, flow_bound=0.5))
    assert small["flow"].min() < -10  # not clipped
    with pytest.raises(UserError, match="stored flow has 8 bits"):
        SnippetOptions(flow_quantised=False, flow_method="stored")


@pytest.mark.parametrize("batch_size", [1, 2, 7, 8, 9, 100])
def test_any_batch_size_gives_the_same_rows(film, batch_size):
    options = SnippetOptions(stride=6, **SMALL)
    reference, _ = collect(film, options, 3)
    found, run = collect(film, options, batch_size)
    for stream in options.streams:
        torch.testing.assert_close(found[stream], reference[stream], rtol=0, atol=0)
    assert run.decoded.frames == 53
    assert run.grid.spans[-1, 1] == pytest.approx(53 / 25)


@pytest.mark.parametrize("count", range(1, 9))
def test_short_videos_have_at_least_one_row(tmp_path, count):
    path = write(tmp_path / "short.avi", pictures(count, shift=1))
    for streams in (("rgb", "flow"), ("rgb",), ("rgbdiff", "flow")):
        options = SnippetOptions(stride=2, streams=streams, **SMALL)
        found, run = collect(path, options)
        expected = plainly(path, options)
        assert len(run.grid.first) == max(1, (count - 5 + 1) // 2)
        for stream in options.streams:
            torch.testing.assert_close(found[stream], expected[stream], rtol=0, atol=0)


def test_a_single_frame_has_no_motion(tmp_path):
    found, _ = collect(write(tmp_path / "one.avi", pictures(1)), SnippetOptions(**SMALL))
    assert found["flow"].unique().tolist() == [128]


def test_variable_frame_rate_moves_the_spans_and_not_the_rows(tmp_path):
    images = pictures(20, shift=1)
    even = [40 * i for i in range(20)]
    uneven = [at if i < 10 else at + 3000 for i, at in enumerate(even)]
    options = SnippetOptions(**SMALL)
    rows, run = collect(write_at(tmp_path / "even.mkv", images, even), options)
    moved, late = collect(write_at(tmp_path / "uneven.mkv", images, uneven), options)
    for stream in options.streams:
        torch.testing.assert_close(rows[stream], moved[stream], rtol=0, atol=0)
    np.testing.assert_allclose(run.grid.spans[:, 0], [0, 0.24, 0.48], atol=1e-6)
    np.testing.assert_allclose(late.grid.spans[:, 0], [0, 0.24, 3.48], atol=1e-6)


def test_each_pair_is_computed_once(film, monkeypatch):
    import sys

    module = sys.modules["ssn_feat.video.window"]
    pairs = []

    def counting(prev, next):
        pairs.extend((a.numpy().tobytes(), b.numpy().tobytes()) for a, b in zip(prev, next, strict=True))
        return flow(prev, next)

    monkeypatch.setattr(module, "flow_function", lambda *settings: counting)
    collect(film, SnippetOptions(stride=2, **SMALL), batch_size=3)
    assert len(pairs) == len(set(pairs)) == 51  # starts 0, 2, ... 46: pairs 0 .. 50
    pairs.clear()
    collect(film, SnippetOptions(stride=10, **SMALL), batch_size=3)
    assert len(pairs) == 5 * 5  # only what the snippets at 0, 10, 20, 30 and 40 need


def test_memory_does_not_grow_with_the_video(tmp_path, monkeypatch):
    import sys

    window = sys.modules["ssn_feat.video.window"].Window
    most = []
    take = window.take

    def watched(self, row, count):
        most.append((len(self._pixels), len(self._gray), len(self._fields)))
        return take(self, row, count)

    monkeypatch.setattr(window, "take", watched)
    path = write(tmp_path / "long.avi", pictures(200, shift=0))
    collect(path, SnippetOptions(stride=2, **SMALL), batch_size=4)
    held = np.array(most)
    assert len(held) > 20
    assert (held[1:-1] == held[1]).all()
    assert held.max() <= 4 * 2 + 5 + 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"stride": 0}, "stride"), ({"streams": ()}, "streams"), ({"streams": ("rgb", "rgb")}, "streams"),
     ({"streams": ("depth",)}, "depth"), ({"flow_bound": 0}, "flow_bound"),
     ({"short_side": 100, "crop": 224}, "short_side"), ({"nominal_fps": -1}, "nominal_fps"),
     ({"clip_step": 0}, "clip_step"), ({"crop": -1}, "crop"),
     ({"stretch": 100, "crop": 224}, "stretch"), ({"stretch": 340, "short_side": 0}, "stretch")],
)  # fmt: skip
def test_bad_options(changes, words):
    with pytest.raises(UserError, match=words):
        SnippetOptions(**changes)
    with pytest.raises(UserError, match="stream_crops"):
        ResolvedSnippets(stream_crops=("clip=9",))


def test_bad_input(film, tmp_path):
    with pytest.raises(UserError, match="64x48"):
        list(produce(film, SnippetOptions(short_side=0, crop=60)))
    with pytest.raises(UserError, match="batch_size"):
        produce(film, SnippetOptions(), batch_size=0)
    with pytest.raises(UserError, match="no video"):
        produce(tmp_path / "absent.mp4", SnippetOptions())
