import re
import struct

import numpy as np
import pytest
from films import encode as films_encode
from films import pictures, skip_start, write, write_at, write_with_audio

from ssn_feat.errors import UserError
from ssn_feat.video import VideoReader, frames
from ssn_feat.video.structure import find_break


def decoded(path, **options):
    with VideoReader(path, **options) as reader:
        while reader.advance():
            pass
        return reader.decoded()


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".webm"])
def test_whole_files_are_complete(tmp_path, suffix):
    found = decoded(write(tmp_path / f"a{suffix}", pictures(60)))
    assert (found.frames, found.incomplete, found.damage) == (60, False, "")


def test_a_file_that_was_cut_off(tmp_path):
    found = decoded(cut(write(tmp_path / "a.avi", pictures(60)), 0.5))
    assert found.incomplete
    assert "cut off at" in found.damage
    assert found.frames < 40


def test_a_cut_matroska_file(tmp_path):
    found = decoded(cut(write_at(tmp_path / "a.mkv", pictures(60), [40 * i for i in range(60)]), 0.6))
    assert found.incomplete
    assert "s of 2.4" in found.damage


def test_damage_in_the_middle(tmp_path):
    path = write(tmp_path / "a.mp4", pictures(60))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 3
    data[middle : middle + len(data) // 2] = bytes(len(data) // 2)
    path.write_bytes(data)
    found = decoded(path)
    # Whether the decoder conceals the damage or stops is its own; what is not delivered must not go unnoticed.
    assert found.frames > 55 or found.incomplete


def test_frames_lost_in_the_middle(shared, tmp_path):
    data = bytearray((shared / "data" / "videos" / "v_ApplyEyeMakeup_g01_c01.avi").read_bytes())
    for at in np.random.default_rng(0).integers(len(data) // 10, len(data) * 9 // 10, 200):
        data[at] ^= 0xFF
    path = tmp_path / "flipped.avi"
    path.write_bytes(data)
    found = decoded(path)
    assert found.frames < 164
    assert found.incomplete


def block(path, number):
    """Place of a SimpleBlock (kind A3, size, track 1) of a WebM file that OpenCV wrote; they follow each other."""
    data = path.read_bytes()
    # From the first cluster on: numbers before it are random and may look like a block.
    cluster = data.index(bytes.fromhex("1f43b675"))
    at = cluster + re.search(rb"\xa3(?:[\x80-\xff]|[\x40-\x7f].)\x81", data[cluster:], re.DOTALL).start()
    for _ in range(number):
        wide = data[at + 1] < 0x80
        at += 3 + (int.from_bytes(data[at + 1 : at + 3], "big") & 0x3FFF) if wide else 2 + (data[at + 1] & 0x7F)
        assert data[at] == 0xA3
    return at


def spoil(path, at, length, content=b""):
    data = path.read_bytes()
    path.write_bytes(data[:at] + content + data[at + length :])


@pytest.mark.parametrize(("length", "content"), [(64, b""), (0, b"\x07"), (8, bytes(8))])
def test_frames_that_a_webm_decoder_skips(tmp_path, length, content):
    """It looks for the next cluster or for something like a frame, and says nothing."""
    path = write(tmp_path / "a.webm", pictures(60))
    spoil(path, block(path, 5), length, content)
    found = decoded(path)
    assert found.frames < 50
    assert "its structure breaks at byte" in found.damage or "64 bytes of the file are missing" in found.damage


def test_a_cut_webm_that_declares_nothing(tmp_path):
    path = write(tmp_path / "a.webm", pictures(60))
    duration = path.read_bytes().index(b"\x44\x89\x88") + 3
    spoil(path, duration, 8, bytes(8))
    assert decoded(path).frames == 60
    assert (decoded(path).declared_frames, decoded(path).damage) == (0, "")
    found = decoded(cut(path, 0.5))
    assert (found.declared_frames, found.incomplete) == (0, True)
    assert "bytes of the file are missing" in found.damage
    assert f"decoded {found.frames} frames" in found.damage


def test_the_webm_that_once_passed_for_whole(tmp_path):
    """Its header zeroed, a byte cut out, the rest gone: nothing was declared."""
    path = write(tmp_path / "a.webm", pictures(40, seed=40))
    size = path.stat().st_size
    spoil(path, size - 600, 1)
    spoil(path, size // 2, size)
    spoil(path, 223, 4, bytes(4))
    try:
        found = decoded(path)
    except UserError:
        return
    assert found.incomplete


def test_few_frames_of_variable_rate_are_no_damage(tmp_path):
    """The container's count is its duration times a rate; the structure says that none is missing."""
    times = [0, 40, 80, 120, 1000, 1040, 1080, 2500, 2540, 4000]
    found = decoded(write_at(tmp_path / "a.mkv", pictures(10), times))
    assert (found.frames, found.damage) == (10, "")
    assert found.declared_frames > 2 * found.frames


def test_a_table_of_frames_that_is_damaged(tmp_path):
    """One of twelve frames is read, with a duration of days."""
    path = write(tmp_path / "a.mp4", pictures(12))
    data = path.read_bytes()
    table = data.index(b"stts") + 8  # number of entries, then frames and duration of each
    assert struct.unpack(">3I", data[table : table + 12]) == (1, 12, 512)
    spoil(path, table + 8, 4, struct.pack(">I", 3_456_107_008))
    found = decoded(path)
    assert found.frames == 1
    assert found.incomplete


def test_a_container_of_which_only_the_stream_is_found(tmp_path):
    bare = encode(tmp_path / "a.m4v", "m4v", {})
    with pytest.raises(UserError, match=r"a\.m4v has no timestamps: --nominal-fps"):
        frames(bare)
    assert not decoded(bare, untimed_fps=25.0).incomplete
    found = decoded(bare.rename(tmp_path / "a.mp4"), untimed_fps=25.0)
    assert (found.frames, found.declared_frames) == (60, 0)
    assert "a bare stream (m4v)" in found.damage


def encode(path, container_format, options):
    """60 frames written by PyAV."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=container_format, options=options) as container:
        picture = container.add_stream("mpeg4", rate=25)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        for image in pictures(60):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(picture.encode(None))
    return path


def test_live_recordings_of_open_sizes_are_whole(tmp_path):
    path = encode(tmp_path / "live.mkv", "matroska", {"live": "1", "cluster_time_limit": "400"})
    data = path.read_bytes()
    segment = data.index(bytes.fromhex("18538067"))
    assert data[segment + 4 : segment + 12] == bytes.fromhex("01ffffffffffffff")
    clusters = [match.start() for match in re.finditer(bytes.fromhex("1f43b675"), data)]
    assert len(clusters) > 3
    assert find_break(path, "matroska,webm") == ""
    assert decoded(path).damage == ""
    # A cluster of open size ends where the next begins.
    opened = data
    for at in reversed(clusters):
        width = 9 - data[at + 4].bit_length()
        opened = opened[: at + 4] + b"\xff" + opened[at + 4 + width :]
    path.write_bytes(opened)
    assert find_break(path, "matroska,webm") == ""
    path.write_bytes(opened[: len(opened) * 2 // 3])
    assert "its structure breaks at byte" in find_break(path, "matroska,webm")


def test_sound_that_is_longer_than_the_picture_is_no_damage(tmp_path):
    found = decoded(write_with_audio(tmp_path / "a.mkv", pictures(25), seconds=3))
    assert found.frames == 25
    assert not found.incomplete


def test_an_edit_list_is_no_damage(tmp_path):
    found = decoded(skip_start(write(tmp_path / "a.mp4", pictures(60)), seconds=0.96))
    assert found.frames == 36
    assert (found.declared_frames, found.incomplete) == (60, False)


def test_a_broken_structure_is_named_where_no_frame_seems_to_be_missing(tmp_path):
    path = write_at(tmp_path / "a.mkv", pictures(30), [40 * i for i in range(30)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-120])
    found = decoded(path)
    assert found.frames < 30
    assert any("120 bytes of the file are missing" in line for line in found.warnings)
    path.write_bytes(whole + bytes(100))
    found = decoded(path)
    assert (found.frames, found.damage) == (30, "")
    assert any("its structure breaks at byte" in line for line in found.warnings)


def test_a_cut_or_torn_transport_stream_is_named(tmp_path):
    path = films_encode(tmp_path / "a.ts", pictures(40), "mpeg2video")
    whole = path.read_bytes()
    assert len(whole) % 188 == 0
    assert decoded(path).warnings == ()
    path.write_bytes(whole[: len(whole) // 2 // 188 * 188 + 50])
    assert any("the end of its last packet is missing" in line for line in decoded(path).warnings)
    # A packet of the picture that does not start one: identifier 256, no other flag.
    middle = next(
        at for at in range(len(whole) // 2 // 188 * 188, len(whole), 188) if whole[at + 1 : at + 3] == b"\1\0"
    )
    path.write_bytes(whole[:middle] + bytes(188) + whole[middle + 188 :])
    found = decoded(path)
    assert any(f"its structure breaks at byte {middle:,}" in line for line in found.warnings) or found.damage
    path.write_bytes(whole[:middle] + whole[middle + 188 :])
    found = decoded(path)
    assert any("lack the one before" in line for line in found.warnings) or found.damage
    timed = b"".join(bytes(4) + whole[at : at + 188] for at in range(0, len(whole), 188))
    path = tmp_path / "a.m2ts"
    path.write_bytes(timed)
    assert decoded(path).warnings == ()
    path.write_bytes(timed[: len(timed) // 2 // 192 * 192 + 100])
    assert any("the end of its last packet is missing" in line for line in decoded(path).warnings)


def test_a_damaged_first_frame_is_damage(tmp_path):
    """Only what comes before the first key frame of a recording that starts anywhere may be undecodable."""
    path = films_encode(tmp_path / "a.mkv", pictures(30), "libx264", gop=10)
    data = path.read_bytes()
    unit = data.rindex(b"\x06\x05", 0, data.index(b"x264 - core"))  # the encoder's message to the decoder
    spoil(path, unit + int.from_bytes(data[unit - 4 : unit], "big"), 4, b"\xff" * 4)  # the length of the picture
    assert "1 unreadable packet" in decoded(path).damage


def test_colours_that_cannot_be_converted_are_named(tmp_path):
    path = films_encode(tmp_path / "a.mov", pictures(3), "prores_ks", pix_fmt="yuv422p10le")
    data = bytearray(path.read_bytes())
    data[data.index(b"icpf") + 20] = 255  # the matrix coefficients that the first frame declares
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.mov: the frame at 0\.000 s declares a format or colours that cannot be"):
        list(frames(path))
