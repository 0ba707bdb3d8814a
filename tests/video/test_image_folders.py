import cv2
import numpy as np
import pytest
import torch
from films import pictures

from ssn_feat.errors import UserError
from ssn_feat.video import SnippetOptions, flow, frames, quantise_flow, snippets, to_gray

SMALL = {"stride": 4, "short_side": 0, "crop": 32}


def extracted(folder, images, base=1, flow_images=None, kind="png"):
    """A folder as dense_flow leaves it; PNG, so that nothing is lost."""
    folder.mkdir()
    for number, image in enumerate(images, base):
        cv2.imwrite(str(folder / f"img_{number:05d}.{kind}"), image)
    gray = np.stack([to_gray(image) for image in images])
    if len(images) > 1:
        fields = quantise_flow(flow(gray[:-1], gray[1:])).numpy()
        for number, field in enumerate(fields[:flow_images], base):
            for axis, plane in zip("xy", field, strict=True):
                cv2.imwrite(str(folder / f"flow_{axis}_{number:05d}.{kind}"), plane)
    return folder


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 4, 6, 19])
def test_stored_flow_equals_computed_flow(tmp_path, base, count):
    images = pictures(count, shift=1)
    folder = extracted(tmp_path / "video", images, base)
    rows = {}
    for method in ("stored", "dis"):
        run = snippets(folder, SnippetOptions(flow_method=method, **SMALL), batch_size=2, fps=10)
        batches = list(run)
        rows[method] = {stream: torch.cat([batch.streams[stream] for batch in batches]) for stream in ("rgb", "flow")}
        assert run.grid.spans[-1, 1] == pytest.approx(count / 10)
        assert len(run.grid.first) == len(rows[method]["rgb"])
    for stream in ("rgb", "flow"):
        torch.testing.assert_close(rows["stored"][stream], rows["dis"][stream], rtol=0, atol=0)


def test_images_are_frames_with_times(tmp_path):
    images = pictures(3)
    film = frames(extracted(tmp_path / "video", images), fps=4)
    for (time, image), (number, original) in zip(film, enumerate(images), strict=True):
        assert time == number / 4
        np.testing.assert_array_equal(image, original)
    assert (film.decoded.frames, film.decoded.duration, film.decoded.incomplete) == (3, 0.75, False)


def test_jpeg_files_and_upper_case(tmp_path):
    folder = extracted(tmp_path / "video", pictures(3), kind="jpg")
    (folder / "img_00003.jpg").rename(folder / "img_00003.JPG")
    assert len(list(frames(folder, fps=4))) == 3


def unlink(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(unlink("img_00004.png"), "img.*number 4 is missing"), (unlink("img_00001.png"), "start at 2"),
     (unlink("flow_y_00006.png"), "6 flow_x images but 5 flow_y"), (unlink("flow_x_00003.png"), "number 3 is missing"),
     (lambda folder: [path.unlink() for path in folder.glob("flow_?_0000[56].png")], "only 4 flow images"),
     (lambda folder: (folder / "img_00002.png").write_bytes(b"no image"), "img_00002.png cannot be read"),
     (lambda folder: cv2.imwrite(str(folder / "img_00005.png"), np.zeros((9, 9, 3), np.uint8)), "img_00005.png is 9x9"),
     (lambda folder: [path.unlink() for path in folder.glob("flow*")], "holds no flow images"),
     (lambda folder: [path.unlink() for path in folder.iterdir()], "neither a video nor images")],
)  # fmt: skip
def test_incomplete_folders(tmp_path, spoil, words):
    folder = extracted(tmp_path / "video", pictures(7))
    spoil(folder)
    with pytest.raises(UserError, match=words):
        list(snippets(folder, SnippetOptions(flow_method="stored", **SMALL), fps=10))


def test_a_folder_needs_a_frame_rate_and_a_video_has_no_stored_flow(tmp_path):
    from films import write

    with pytest.raises(UserError, match="fps"):
        frames(extracted(tmp_path / "video", pictures(2)))
    with pytest.raises(UserError, match="stored flow"):
        snippets(write(tmp_path / "a.avi", pictures(8)), SnippetOptions(flow_method="stored", **SMALL))
