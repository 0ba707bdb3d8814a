"""ActivityNet JSON: the real files, its dialects, round trips, and one clear line for whatever is wrong."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_feat import UserError
from ssn_feat.annotations import Dataset, Instance, Video, read_activitynet, read_annotations, write_activitynet

PLAIN: dict[str, Any] = {
    "version": "1",
    "taxonomy": [],
    "database": {
        "abc": {
            "duration": 10.5,
            "subset": "training",
            "url": "https://example.org",
            "annotations": [{"segment": [1, 2.5], "label": "Jump"}, {"segment": [4, 4], "label": "Fall"}],
        },
        "v_d": {"duration": 3, "subset": "testing", "annotations": []},
    },
}


def write(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def count(dataset: Dataset) -> int:
    return sum(len(v.instances) for v in dataset.videos.values())


def test_reads_seconds_labels_and_subsets(tmp_path: Path) -> None:
    dataset = read_activitynet(write(tmp_path / "plain.json", PLAIN))
    assert dataset.name == "plain"
    assert dataset.labels == ("Fall", "Jump")
    assert dataset.videos["abc"] == Video(
        "abc", 10.5, "training", (Instance("Jump", 1.0, 2.5), Instance("Fall", 4.0, 4.0))
    )
    assert list(dataset.videos) == ["abc", "v_d"]
    assert dataset.subset("test").videos.keys() == {"v_d"}


@pytest.mark.parametrize(
    ("file", "videos", "instances", "labels", "subsets"),
    [
        (
            "activity_net.v1-2.min-missing-removed.json",
            8907,
            9869,
            100,
            {"training": 4441, "validation": 2198, "testing": 2268},
        ),
        ("activity_net.v1-3.rebuilt.min.json", 14950, 23064, 200, {"training": 10024, "validation": 4926}),
        ("bsn_anet_anno_action.json", 19228, 22152, 200, {"unnamed": 19228}),
    ],
)
def test_real_activitynet_files(
    shared: Path, tmp_path: Path, file: str, videos: int, instances: int, labels: int, subsets: dict[str, int]
) -> None:
    dataset = read_annotations(shared / "data/annotations/activitynet" / file)
    assert (len(dataset.videos), count(dataset), len(dataset.labels)) == (videos, instances, labels)
    assert {s: len(dataset.subset(s).videos) for s in dataset.subsets} == subsets
    write_activitynet(dataset, tmp_path / "copy.json")
    assert read_activitynet(tmp_path / "copy.json", dataset.name) == dataset


def test_flattened_form_equals_the_official_one_where_both_have_a_video(shared: Path) -> None:
    folder = shared / "data/annotations/activitynet"
    official = read_activitynet(folder / "activity_net.v1-3.rebuilt.min.json")
    flat = read_activitynet(folder / "bsn_anet_anno_action.json", strip_v=True)
    both = official.videos.keys() & flat.videos.keys()
    assert len(both) == 14377
    assert all(
        [i.label for i in official.videos[v].instances] == [i.label for i in flat.videos[v].instances] for v in both
    )
    assert flat.videos["QOlSCBRmfWY"].frames == 2067


def test_a_file_without_durations_takes_them_from_elsewhere(shared: Path) -> None:
    path = shared / "data/annotations/thumos14/thumos_gt.json"
    with pytest.raises(UserError, match=r"database\.video_test_0000896: video 'video_test_0000896' has no duration"):
        read_activitynet(path)
    ids = json.loads(path.read_text())["database"]
    dataset = read_activitynet(path, durations=dict.fromkeys(ids, 2000.0))
    assert count(dataset) == 6318
    assert dataset.videos["video_test_0000896"].instances[0] == Instance("HighJump", 18.6, 24.8)  # strings in the file


def test_leading_v_is_only_taken_off_when_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", PLAIN)
    assert "v_d" in read_activitynet(path).videos
    with pytest.raises(UserError, match=r"database\.abc: does not begin with 'v_'"):
        read_activitynet(path, strip_v=True)
    only = {"database": {"v_d": PLAIN["database"]["v_d"], "v_v_e": PLAIN["database"]["v_d"]}}
    assert list(read_activitynet(write(path, only), strip_v=True).videos) == ["d", "v_e"]


def test_dialects_of_actionformer_and_opentad(tmp_path: Path) -> None:
    actionformer = {"database": {"x": {"subset": "Validation", "duration": 10, "fps": 30, "annotations": [
        {"label": "B", "segment": [0, 1], "segment(frames)": [0, 30], "label_id": 7}]}}}  # fmt: skip
    video = read_activitynet(write(tmp_path / "a.json", actionformer)).videos["x"]
    assert (video.subset, video.fps, video.instances) == ("validation", 30.0, (Instance("B", 0, 1),))
    opentad = {"database": {"x": {"subset": "train", "fps": 25, "frame": 100, "annotations": []}}}
    video = read_activitynet(write(tmp_path / "b.json", opentad)).videos["x"]
    assert (video.subset, video.frames, video.duration) == ("training", 100, 4.0)


def test_classes_are_the_leaves_of_the_taxonomy(tmp_path: Path) -> None:
    document = copy.deepcopy(PLAIN)
    document["taxonomy"] = [
        {"nodeName": "Root", "nodeId": 0, "parentId": None, "parentName": None},
        {"nodeName": "Jump", "nodeId": 1, "parentId": 0, "parentName": "Root"},
        {"nodeName": "Sports", "nodeId": 2, "parentId": 0, "parentName": "Root"},
        {"nodeName": "Fall", "nodeId": 3, "parentId": 2, "parentName": "Sports"},
        {"nodeName": "Archery", "nodeId": 4, "parentId": 2, "parentName": "Sports"},
    ]
    path = tmp_path / "a.json"
    assert read_activitynet(write(path, document)).labels == ("Archery", "Fall", "Jump")
    for node in document["taxonomy"]:
        del node["nodeId"], node["parentId"]
    assert read_activitynet(write(path, document)).labels == ("Archery", "Fall", "Jump")
    document["database"]["abc"]["annotations"][1]["label"] = "Fal"
    with pytest.raises(UserError, match=r"abc\.annotations\[1\]: the class 'Fal' is not among the 3"):
        read_activitynet(write(path, document))


def at(document: Any, keys: list[Any], value: Any) -> Any:
    """A copy of ``document`` with another value under ``keys``; Ellipsis takes the key away."""
    result = copy.deepcopy(document)
    inner = result
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return result


VIDEO = ["database", "abc"]
FIRST = [*VIDEO, "annotations", 0]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", r"is not JSON: line 1, column 1"),
        ('{"database": {', r"is not JSON: line 1, column 15"),
        ("[" * 100_000, r"nested too deeply"),
        ("[]", r"its top level must be an object with the key 'database'"),
        ("{}", r"its top level must be an object"),
        ('{"videos": {}}', r"lacks the key 'database'"),
        ('{"database": []}', r"database: must be an object of videos by id, not list"),
        ('{"database": {"a": {}, "a": {}}}', r"database: repeats the video 'a'"),
        (at(PLAIN, VIDEO, [1]), r"database\.abc: must be an object"),
        (at(PLAIN, [*VIDEO, "duration"], ...), r"database\.abc: video 'abc' has no duration"),
        (at(PLAIN, [*VIDEO, "duration"], "long"), r"database\.abc\.duration: 'long' is not a number"),
        (at(PLAIN, [*VIDEO, "duration"], True), r"database\.abc\.duration: True is not a number"),
        (at(PLAIN, [*VIDEO, "duration"], 0), r"database\.abc: video 'abc' has the duration 0 s"),
        (at(PLAIN, [*VIDEO, "duration"], 10**400), r"database\.abc\.duration"),
        (at(PLAIN, [*VIDEO, "subset"], 3), r"database\.abc\.subset: 3 is not a name"),
        (at(PLAIN, [*VIDEO, "annotations"], ...), r"database\.abc\.annotations: is missing"),
        (at(PLAIN, [*VIDEO, "annotations"], {}), r"database\.abc\.annotations: is not a list"),
        (at(PLAIN, FIRST, 3), r"database\.abc\.annotations\[0\]: must be an object"),
        (at(PLAIN, [*FIRST, "label"], ...), r"database\.abc\.annotations\[0\]\.label: is missing"),
        (at(PLAIN, [*FIRST, "label"], 7), r"database\.abc\.annotations\[0\]\.label: 7 is not the name"),
        (at(PLAIN, [*FIRST, "segment"], ...), r"database\.abc\.annotations\[0\]\.segment: is missing"),
        (at(PLAIN, [*FIRST, "segment"], [1]), r"database\.abc\.annotations\[0\]\.segment: \[1\] is not \[start, end\]"),
        (at(PLAIN, [*FIRST, "segment"], [1, float("nan")]), r"\.segment: \[1, nan\] is not"),
        (at(PLAIN, [*FIRST, "segment"], [2, 1]), r"\.annotations\[0\]: the segment \[2, 1\] ends before it starts"),
        (at(PLAIN, [*FIRST, "segment"], [-1, 1]), r"\.annotations\[0\]: the segment \[-1, 1\] starts before 0 s"),
    ],
)
def test_faults_are_named_with_file_and_key(tmp_path: Path, document: Any, message: str) -> None:
    path = write(tmp_path / "faulty.json", document)
    with pytest.raises(UserError, match=message) as raised:
        read_activitynet(path)
    assert "faulty.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no annotations at .*nowhere\.json"):
        read_annotations(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="cannot read the annotations"):
        read_activitynet(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\x80\x81")
    with pytest.raises(UserError, match="is not UTF-8 text: byte 0 is 0x80"):
        read_annotations(tmp_path / "binary.json")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"the dialect of .* is unknown"):
        read_annotations(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"cannot write .*folder\.json"):
        write_activitynet(Dataset.of("x", []), tmp_path / "a.txt" / "folder.json")


def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", PLAIN)
    plain = read_activitynet(path)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PLAIN, indent=1).replace("\n", "\r\n").encode())
    assert read_activitynet(path) == plain


names = st.text(min_size=1, max_size=8)
times = st.floats(0, 1e5, allow_nan=False)
instances = st.builds(lambda label, a, b: Instance(label, min(a, b), max(a, b)), names, times, times)
videos = st.builds(
    Video,
    id=st.text(max_size=12),
    duration=st.floats(1e-3, 1e5),
    subset=st.sampled_from(["training", "validation", "testing", "mine"]),
    instances=st.lists(instances, max_size=4).map(tuple),
    fps=st.none() | st.floats(1, 120),
    frames=st.none() | st.integers(0, 10**6),
)
datasets = st.builds(
    lambda vs, extra: Dataset.of("any", vs, {i.label for v in vs for i in v.instances} | extra),
    st.lists(videos, max_size=5, unique_by=lambda v: v.id),
    st.sets(names, max_size=3),
)


@given(datasets)
def test_what_is_written_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> None:
    path = tmp_path_factory.mktemp("round") / "any.json"
    write_activitynet(dataset, path)
    document = json.loads(path.read_text())
    assert document.keys() == {"version", "taxonomy", "database"}  # what the evaluation toolkits ask for
    assert read_activitynet(path) == dataset
    first = path.read_bytes()
    write_activitynet(read_activitynet(path), path)
    assert path.read_bytes() == first


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([[*VIDEO], [*FIRST], [*FIRST, "segment"], [*FIRST, "label"], ["taxonomy"], ["database"],
                        [*VIDEO, "fps"], [*VIDEO, "duration"], [*VIDEO, "annotations"]]), json_values)  # fmt: skip
def test_any_value_anywhere_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, keys: list[Any], value: Any
) -> None:
    path = write(tmp_path_factory.mktemp("fuzz") / "any.json", at(PLAIN, keys, value))
    try:
        message = str(path) if isinstance(read_activitynet(path), Dataset) else ""
    except UserError as error:
        message = str(error)
    assert str(path) in message
    assert len(message.splitlines()) == 1
