"""A store in an object store holds the same bytes as one in a folder, and is there only where it was committed."""

import json
import pickle
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

from ssn_feat.errors import UserError
from ssn_feat.store import (
    FeatureStore,
    StoreReadError,
    StoreWriteError,
    create_store,
    location,
    open_or_create_store,
    open_store,
    pack,
    status,
    store_exists,
    verify,
)
from ssn_feat.store.claims import LEASE_SECONDS
from ssn_feat.store.location import open_backend
from ssn_feat.store.object_backend import ObjectBackend, ObjectClaims

RECIPE = {"stride": 8, "streams": {"rgb": {}, "flow": {}}}
SECRET = "not-to-be-seen-anywhere"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A real S3 server on this machine; the URL of a bucket. The environment says where it is, and who we are."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
        # Connections that were opened to this server must not serve another.
        fsspec.filesystem("s3").clear_instance_cache()
    running.stop()


@pytest.fixture(params=["s3", "memory"])
def root(request: pytest.FixtureRequest) -> str:
    """A new prefix of an object store."""
    head = request.getfixturevalue("server") if request.param == "s3" else "memory://bucket"
    return f"{head}/{abs(hash(request.node.name))}"


def fill(store: FeatureStore) -> FeatureStore:
    rng = np.random.default_rng(0)
    for i, video_id in enumerate(["a", "../b", "C" * 200]):
        spans = np.arange(3 + i)[:, None] + np.array([[0.0, 1.0]])
        streams = {"rgb": rng.standard_normal((3 + i, 4)), "flow": rng.standard_normal((3 + i, 2))}
        store.write(video_id, streams, spans, {"fps": 25.0})
    return store


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def objects_of(url: str) -> dict[str, bytes]:
    backend = open_backend(url)
    assert isinstance(backend, ObjectBackend)
    backend.files.invalidate_cache()
    head = backend.full("") + "/"
    return {name.removeprefix(head): backend.files.cat_file(name) for name in backend.files.find(backend.full(""))}


def test_writer_that_was_told_what_rows_look_like_lists_nothing(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = fill(create_store(f"{root}/s.zarr", RECIPE, "toy")).path
    store = open_store(url)
    store.learn_layout("a")
    store = pickle.loads(pickle.dumps(store))  # noqa: S301

    def refuse(backend: ObjectBackend, group: str) -> list[str]:
        raise AssertionError(f"{group} was listed")

    monkeypatch.setattr(ObjectBackend, "groups", refuse)
    spans = np.array([[0.0, 1.0]])
    assert store.write("new", {"rgb": np.ones((1, 4)), "flow": np.ones((1, 2))}, spans)
    with pytest.raises(UserError, match="those of 'a' in the store"):
        store.write("wrong", {"rgb": np.ones((1, 5)), "flow": np.ones((1, 2))}, spans)


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_same_bytes_as_in_a_folder(root: str, tmp_path: Path, compress: Any) -> None:
    local = fill(create_store(tmp_path / "s.zarr", RECIPE, "toy", compress))
    remote = fill(create_store(f"{root}/s.zarr", RECIPE, "toy", compress))
    assert objects_of(f"{root}/s.zarr") == files_of(tmp_path / "s.zarr")
    packed = pack(remote, f"{root}/p.zarr")
    assert objects_of(f"{root}/p.zarr") == files_of(Path(pack(local, tmp_path / "p.zarr").path))
    for store in (open_store(remote.path), packed):
        assert verify(store).damage == {}
        assert store.ids == local.ids
        for x, y in zip(store, local, strict=True):
            np.testing.assert_array_equal(x.spans, y.spans)
            for stream, rows in y.features.items():
                np.testing.assert_array_equal(x.features[stream], rows)
    assert objects_of(f"{root}/s.zarr.staging") == {}
    found = zarr.open_group(packed.path, mode="r")
    assert found["rgb"].shape == (12, 4)


def test_what_is_there_is_what_was_committed(root: str) -> None:
    store = fill(create_store(f"{root}/s.zarr", RECIPE))
    backend = store.backend
    assert isinstance(backend, ObjectBackend)
    # What a writer leaves that was killed before its commit.
    backend.files.rm_file(backend.full("videos/a/zarr.json"))
    assert "a" not in store
    assert len(store) == 2
    with pytest.raises(UserError, match="no video 'a'"):
        store.read("a")
    assert not store.write("../b", {"rgb": np.ones((2, 4)), "flow": np.ones((2, 2))}, [[0, 1], [1, 2]])
    assert store.write("a", {"rgb": np.ones((2, 4)), "flow": np.ones((2, 2))}, [[0, 1], [1, 2]])
    np.testing.assert_array_equal(store.read("a").features["rgb"], 1)
    assert verify(store).damage == {}
    store.remove_video("a")
    store.remove_video("a")
    assert len(store) == 2
    assert not [name for name in objects_of(str(store.path)) if name.startswith("videos/a/")]


def test_the_second_to_commit_is_told(root: str) -> None:
    create_store(f"{root}/s.zarr", RECIPE)
    first, second = open_store(f"{root}/s.zarr"), open_store(f"{root}/s.zarr")
    arguments: Any = ("v", {"rgb": np.ones((2, 4))}, [[0, 1], [1, 2]])
    with first.backend.build("videos/v") as build:
        assert second.write(*arguments)
        build.add_group("", {"id": "v"})
        assert not build.commit()
    assert not first.write(*arguments)
    assert first.read("v").info["id"] == "v"
    with pytest.raises(UserError, match="already exists"):
        create_store(f"{root}/s.zarr", RECIPE)
    with pytest.raises(UserError, match="already exists"):
        pack(first, f"{root}/s.zarr")


def test_making_a_store_that_was_killed(root: str) -> None:
    backend = open_backend(f"{root}/s.zarr")
    with backend.build("") as build:
        build.add_group("videos", {})
    assert not store_exists(f"{root}/s.zarr")
    assert fill(open_or_create_store(f"{root}/s.zarr", RECIPE)).ids
    other = open_backend(f"{root}/other")
    assert isinstance(other, ObjectBackend)
    other.put("notes.txt", b"not ours")
    with pytest.raises(UserError, match="exists but is not a feature store"):
        open_or_create_store(other.path, RECIPE)


@pytest.mark.parametrize("make", [False, True])
def test_who_loses_the_race_to_make_a_store_opens_it(root: str, monkeypatch: pytest.MonkeyPatch, make: bool) -> None:
    """Another process commits the store just after this one found no record of it."""
    url = f"{root}/s.zarr"
    read, taken, looked = ObjectBackend.read, ObjectBackend.is_taken, []

    def early(backend: ObjectBackend, name: str) -> bytes:
        looked.append(name)
        if looked.count(name) == 1:
            if not make:
                create_store(url, RECIPE)
            raise FileNotFoundError(name)
        return read(backend, name)

    def before(backend: ObjectBackend) -> bool:
        if not make or taken(backend) or looked:
            return taken(backend)
        looked.append("is_taken")
        create_store(url, RECIPE)
        return False

    monkeypatch.setattr(ObjectBackend, "read", early)
    monkeypatch.setattr(ObjectBackend, "is_taken", before)
    store = open_or_create_store(url, RECIPE) if make else open_store(url)
    assert store.ids == ()
    assert looked.count("zarr.json") >= 2


def test_failures_runs_and_status(root: str) -> None:
    store = fill(create_store(f"{root}/s.zarr", RECIPE))
    store.record_failure("x", "no frames")
    store.record_failure("x", "cut short")
    store.record_run({"videos": {"y": 5.0, "a": 3.0}, "missing": ["z"], "options": {"stride": 8}})
    found = status(open_store(f"{root}/s.zarr"))
    assert (found.done, found.rows, list(found.pending), found.missing) == (3, 12, ["y"], ("z",))
    assert (found.failures["x"].reason, found.failures["x"].tries) == ("cut short", 2)
    assert len(store.commit_times()) == 3
    assert len(store.runs()) == 1
    store.write("x", {"rgb": np.ones((2, 4)), "flow": np.ones((2, 2))}, [[0, 1], [1, 2]])
    assert store.failures() == {}


def test_claims(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = create_store(f"{root}/s.zarr", RECIPE)
    other = open_store(f"{root}/s.zarr")
    with store.claims.hold("v") as claim:
        assert claim is not None
        with other.claims.hold("v") as second:
            assert second is None
        assert [c.id for c in other.claims.active()] == ["v"]
        monkeypatch.setattr("ssn_feat.store.claims._SECONDS_BETWEEN_RENEWALS", -1.0)
        claim.renew()
        assert not claim.lost
    assert store.claims.active() == []
    claim_store = store.claims.claim_store
    assert claim_store.create("w", json.dumps({"id": "w", "owner": "elsewhere~1~0"}).encode())
    with store.claims.hold("w") as claim:
        assert claim is None
    monkeypatch.setattr(claim_store, "now", lambda: type(claim_store).now(claim_store) + LEASE_SECONDS + 5)
    with store.claims.hold("w") as claim:
        assert claim is not None
        claim_store.remove("w", claim.content)
        claim.renew()
        assert claim.lost


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "remove"])
@pytest.mark.parametrize("file", ["rgb/c/0/0", "rgb/zarr.json", "zarr.json"])
def test_damage_is_an_error(root: str, harm: str, file: str) -> None:
    if (harm, file) == ("remove", "zarr.json"):
        return  # never committed
    store = fill(create_store(f"{root}/s.zarr", RECIPE))
    backend = store.backend
    assert isinstance(backend, ObjectBackend)
    name = backend.full(f"videos/a/{file}")
    data = bytearray(backend.files.cat_file(name))
    if harm == "remove":
        backend.files.rm_file(name)
    else:
        data[3] ^= 1
        backend.files.pipe_file(name, bytes({"flip": data, "cut": data[:9], "empty": b""}[harm]))
    what = "zarr.json is damaged" if file == "zarr.json" else "array 'rgb'"
    with pytest.raises(UserError, match=rf"video 'a' of the store .*{what}.*--repair"):
        open_store(store.path).read("a")
    assert list(verify(store).damage) == ["a"]


def test_it_goes_to_other_processes_without_secrets(server: str) -> None:
    store = fill(create_store(f"{server}/secret/s.zarr", RECIPE))
    store.read("a")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert again.ids == store.ids
    assert SECRET.encode() not in pickle.dumps(store)
    assert not any(SECRET.encode() in content for content in objects_of(f"{server}/secret").values())
    with pytest.raises(UserError, match="must not hold credentials"):
        open_store("s3://someone:secret@bucket/s.zarr")


def test_no_connection_is_no_damage(server: str) -> None:
    store = fill(create_store(f"{server}/gone/s.zarr", RECIPE))
    broken = open_store(f"{server}/gone/s.zarr")

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("no route to host")

    broken.backend.__dict__["_opened"] = (Refusing(), "bucket/gone/s.zarr")
    for look in (lambda: broken.read("a"), lambda: broken.ids, lambda: verify(broken)):
        with pytest.raises(StoreReadError, match="no route to host"):
            look()
    with pytest.raises(UserError, match="does not exist"):
        open_store(f"{server}/none.zarr")
    assert len(store) == 3


def test_claim_whose_answer_was_lost_is_held(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, put_new = create_store(f"{root}/s.zarr", RECIPE), ObjectBackend.put_new

    def twice(backend: ObjectBackend, name: str, content: bytes) -> bool:
        put_new(backend, name, content)
        return put_new(backend, name, content)

    monkeypatch.setattr(ObjectBackend, "put_new", twice)
    with store.claims.hold("v") as claim:
        assert claim is not None
        with store.claims.hold("v") as second:
            assert second is None


def test_claims_where_there_is_no_connection(server: str) -> None:
    store = create_store(f"{server}/silent/s.zarr", RECIPE)

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("no route to host")

    claim_store = store.claims.claim_store
    assert isinstance(claim_store, ObjectClaims)
    staging = claim_store._staging
    connected = staging._opened
    with store.claims.hold("v") as claim:
        assert claim is not None
        staging.__dict__["_opened"] = (Refusing(), "bucket/silent/s.zarr.staging")
        assert not claim_store.renew("v", claim.content)
    # Released as well as could be.
    for act in (lambda: store.claims.acquire("w").send(None), claim_store.now):
        with pytest.raises(StoreWriteError, match=r"cannot write to the store s3:.*no route to host"):
            act()
    for look in (store.claims.active, store.claims.clean, lambda: claim_store.read("v")):
        with pytest.raises(StoreReadError, match="no route to host"):
            look()
    staging.__dict__["_opened"] = connected
    assert [claim.id for claim in store.claims.active()] == ["v"]


def test_no_such_bucket(server: str) -> None:
    with pytest.raises(UserError, match=r"cannot write to the store s3://nothing/s.zarr"):
        create_store("s3://nothing/s.zarr", RECIPE)


def test_server_that_closes_every_connection_is_asked_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setattr("random.random", lambda: 0.0)  # the time between two attempts
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def close_all() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    asked.append(connection.recv(4096))
                    connection.close()

        thread = Thread(target=close_all, daemon=True)
        thread.start()
        monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(StoreReadError, match=r"cannot read the store s3://bucket/x\.zarr: Connection was closed"):
            open_store("s3://bucket/x.zarr")
        s3fs.S3FileSystem.clear_instance_cache()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert 2 <= len(asked) <= 40


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/x.zarr", "s3://bucket/x.zarr"),
        (Path("s3://bucket/x.zarr"), "s3://bucket/x.zarr"),
        ("s3://bucket/x.zarr/", "s3://bucket/x.zarr"),
        ("file:///tmp/x.zarr", Path("/tmp/x.zarr")),
        ("C:/data/x.zarr", Path("C:/data/x.zarr")),
        ("x.zarr", Path("x.zarr")),
    ],
)
def test_locations(given: Path | str, expected: Path | str) -> None:
    assert location(given) == expected


def test_unknown_kinds_of_urls() -> None:
    with pytest.raises(UserError, match="is not a valid location of a store"):
        open_store("nosuch://x/y.zarr")
    with pytest.raises(UserError, match="needs a package that is not installed"):
        open_store("gs://bucket/y.zarr")


WRITER = """
import sys
import numpy as np
from ssn_feat.store import open_or_create_store
store = open_or_create_store(sys.argv[1], {"r": 1})
won = 0
for i in range(4):
    with store.claims.hold(f"v{i}") as claim:
        if claim is not None:
            rng = np.random.default_rng(i)
            won += store.write(f"v{i}", {"rgb": rng.standard_normal((50, 8))}, [[t, t + 1] for t in range(50)])
print(won)
"""


def test_few_requests_a_video(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(create_store(f"{server}/few/s.zarr", RECIPE))
    sent: list[str] = []
    calls = type(fsspec.filesystem("s3"))._call_s3

    async def counted(files: Any, method: str, *arguments: Any, **options: Any) -> Any:
        sent.append(method)
        return await calls(files, method, *arguments, **options)

    monkeypatch.setattr(type(fsspec.filesystem("s3")), "_call_s3", counted)
    with store.claims.hold("new") as claim:
        assert claim is not None
        assert "new" not in store
        assert store.write("new", {"rgb": np.ones((1, 4)), "flow": np.ones((1, 2))}, [[0, 1]])
    assert Counter(sent) == {"put_object": 8, "get_object": 4, "delete_object": 2}
    sent.clear()
    store.read("new")
    assert Counter(sent) == {"get_object": 7}


def test_several_writers(server: str) -> None:
    url = f"{server}/several/s.zarr"
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    won = [int(worker.communicate()[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    store = open_store(url)
    assert sum(won) == len(store) == 4
    assert verify(store).damage == {}
    assert objects_of(f"{url}.staging") == {}


def test_extraction_into_it(server: str, tmp_path: Path) -> None:
    sys.path.append(str(Path(__file__).resolve().parents[1] / "extraction"))
    from small import options, videos

    from ssn_feat.extraction import extract
    from ssn_feat.extraction.repair import VerifyOptions, verify_store
    from ssn_feat.store.maintenance import StatusOptions, print_status

    url = f"{server}/extracted/s.zarr"
    folder = videos(tmp_path / "videos", count=2)
    extract(options(folder, tmp_path / "s.zarr"))
    report = extract(options(folder, Path(url)))
    assert report.exit_code == 0
    local, remote = files_of(tmp_path / "s.zarr"), objects_of(url)
    assert {n: b for n, b in local.items() if "/c/" in n} == {n: b for n, b in remote.items() if "/c/" in n}
    assert remote.keys() == local.keys()
    assert extract(options(folder, Path(url))).done_before == 2
    assert print_status(StatusOptions(Path(url))).done == 2
    backend = open_backend(url)
    assert isinstance(backend, ObjectBackend)
    backend.files.rm_file(backend.full("videos/v1/rgb/c/0/0"))
    assert verify_store(VerifyOptions(Path(url))) == 1
    assert verify_store(VerifyOptions(Path(url), repair=True, trust_modules=("tiny:net",))) == 0
    assert objects_of(url)["videos/v1/rgb~2/c/0/0"] == local["videos/v1/rgb/c/0/0"]
