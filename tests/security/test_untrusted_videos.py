"""Videos that are something else."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssn_feat.errors import UserError
from ssn_feat.video import frames, probe


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Address of a server on this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_videos_that_are_something_else(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    address, asked = listener
    segment = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}/part.ts\n#EXT-X-ENDLIST\n"
    manifest = (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S"><Period>'
        f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{address}/part.mp4'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    files = {
        "playlist.mp4": segment,
        "playlist.m3u8": segment,
        "manifest.mp4": manifest,
        "list.avi": f"ffconcat version 1.0\nfile {address}/part.ts\n",
        "absolute.avi": "ffconcat version 1.0\nfile /etc/passwd\n",
        "stream.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "pattern%02d.avi": "RIFF",
        "header.avi": "RIFF\xff\xff\xff\x7fAVI LIST\xff\xff\xff\x7fhdrlavih" * 50,
        "empty.mp4": "",
        "zeros.mp4": "\0" * 5000,
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=re.escape(name)):
            sum(1 for _ in frames(path))
        with pytest.raises(UserError, match=re.escape(name)):
            probe(path)
    assert asked == []
