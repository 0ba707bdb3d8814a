import cv2
import numpy as np
import pytest
import torch
from films import pictures

from ssn_feat.errors import UserError
from ssn_feat.video import ImageNames, SnippetOptions, flow, frames, open_source, quantise_flow, snippets, to_gray

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


def rename(folder, frames, flow, shift=0, flow_shift=0):
    """Rename the images of ``extracted`` and add to their numbers; ``{axis}`` in ``flow``."""
    for path in sorted(folder.iterdir()):
        kind, _, number = path.stem.rpartition("_")
        if kind == "img":
            name = frames.format(int(number) + shift)
        else:
            name = flow.replace("{axis}", kind[-1]).format(int(number) + flow_shift)
        target = folder / "new" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return folder / "new"


@pytest.mark.parametrize(
    ("frames_name", "flow_name", "shift"),
    [("frame_{:010d}.png", "flow_{axis}_{:05d}.png", 0), ("{:d}.png", "{axis}/{:06d}.png", 16),
     ("rgb/{:03d}.png", "flow/{axis}/frame{:04d}.png", 1200)],
)  # fmt: skip
def test_names_and_first_number_may_be_any(tmp_path, frames_name, flow_name, shift):
    images = pictures(19, shift=1)
    plain = extracted(tmp_path / "plain", images)
    folder = rename(extracted(tmp_path / "video", images), frames_name, flow_name, shift, shift)
    names = ImageNames(frames_name, flow_name)
    rows = []
    for path, given in ((plain, None), (folder, names)):
        batches = list(snippets(path, SnippetOptions(flow_method="stored", **SMALL), fps=10, names=given))
        rows.append({stream: torch.cat([batch.streams[stream] for batch in batches]) for stream in ("rgb", "flow")})
    for stream in ("rgb", "flow"):
        torch.testing.assert_close(rows[0][stream], rows[1][stream], rtol=0, atol=0)


def test_flow_directions_may_be_u_and_v(tmp_path):
    folder = extracted(tmp_path / "video", pictures(7))
    expected = [(cv2.imread(str(folder / f"flow_{axis}_00001.png"), 0)) for axis in "xy"]
    for path in list(folder.glob("flow*")):
        path.rename(folder / path.name.replace("flow_x", "flow_u").replace("flow_y", "flow_v"))
    source = open_source(folder, 10)
    source.advance()
    np.testing.assert_array_equal(source.stored_flow(), expected)


def test_a_flow_image_of_another_size_is_named(tmp_path):
    folder = extracted(tmp_path / "video", pictures(7))
    cv2.imwrite(str(folder / "flow_y_00003.png"), np.full((20, 30), 128, np.uint8))
    with pytest.raises(UserError, match=r"flow_y_00003\.png is 30x20, other flow images of its folder 64x48"):
        list(snippets(folder, SnippetOptions(flow_method="stored", **SMALL), fps=10))


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_flow_from_0_beside_frames_from_1(tmp_path, kind):
    images = pictures(20, shift=1)
    plain = extracted(tmp_path / "plain", images, kind=kind)
    folder = rename(
        extracted(tmp_path / "video", images, kind=kind),
        f"img_{{:05d}}.{kind}",
        f"flow_{{axis}}_{{:05d}}.{kind}",
        0,
        -1,
    )
    assert (folder / f"flow_x_00000.{kind}").exists()
    rows = []
    for path in (plain, folder):
        batches = list(snippets(path, SnippetOptions(flow_method="stored", **SMALL), fps=10))
        rows.append(torch.cat([batch.streams["flow"] for batch in batches]))
    torch.testing.assert_close(*rows, rtol=0, atol=0)


def test_flow_from_0_needs_one_image_for_each_pair(tmp_path):
    folder = rename(extracted(tmp_path / "video", pictures(7)), "img_{:05d}.png", "flow_{axis}_{:05d}.png", 0, -1)
    for axis in "xy":
        (folder / f"flow_{axis}_00006.png").write_bytes((folder / f"flow_{axis}_00005.png").read_bytes())
    with pytest.raises(UserError, match=r"frames start at 1, flow_x images at 0 .* one image for each pair"):
        open_source(folder, 10)


def test_two_images_of_one_number(tmp_path):
    folder = extracted(tmp_path / "video", pictures(3))
    (folder / "img_3.jpg").touch()
    with pytest.raises(UserError, match=r"img_(3\.jpg|00003\.png) and img_(3\.jpg|00003\.png) have the same number"):
        open_source(folder, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"frames": "img.jpg"}, "frames is a template .* contain the number"), ({"frames": "{}_{}.jpg"}, "the number"),
     ({"frames": "{:d}/img.jpg"}, "the number"), ({"frames": "img_{axis}_{:d}"}, "no {axis}"),
     ({"flow": "flow_{:d}.jpg"}, "flow_frames is a template .* {axis}"), ({"flow": "{axis}.jpg"}, "{axis} and the")],
)  # fmt: skip
def test_templates_at_fault(options, message):
    with pytest.raises(UserError, match=message):
        ImageNames(**options)
