"""A worker on a machine of its own, as far as claims can tell, whose clock is wrong; see clocks.py.

``python skewed.py STORE HOST SKEW SEED VIDEOS``: writes all videos, as extraction does, in an order of its own; prints
a JSON object: ids that it committed, that it left to others, and that it worked on in vain, since another was faster.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time

import numpy as np


def set_clock(skew: float) -> None:
    """Every clock that tells the time of day is ``skew`` seconds off; those that only measure time are not."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + skew
    time.time_ns = lambda: right_ns() + int(skew * 1e9)


def rows_of(number: int) -> np.ndarray:
    """The features of a video, float16 ``(T, 16)``."""
    return np.random.default_rng(number).normal(size=(5 + number, 16)).astype(np.float16)


def main(path: str, host: str, skew: str, seed: str, videos: str) -> None:
    """Work until every video is committed or in the hands of others."""
    set_clock(float(skew))
    socket.gethostname = lambda: host
    from ssn_feat.store import open_or_create_store

    store = open_or_create_store(path, {"clock": "any"})
    draw = random.Random(int(seed))
    order = list(range(int(videos)))
    draw.shuffle(order)
    told: dict[str, list[str]] = {"committed": [], "left": [], "in vain": []}
    print("ready", flush=True)
    sys.stdin.readline()
    for number in order:
        video_id = f"v{number}"
        with store.claims.hold(video_id) as claim:
            if claim is None:
                told["left"].append(video_id)
                continue
            if video_id in store:
                continue
            time.sleep(draw.uniform(0.0, 0.03))
            claim.renew()
            rows = rows_of(number)
            spans = np.stack((np.arange(len(rows)), np.arange(1, len(rows) + 1)), axis=1)
            told["committed" if store.write(video_id, {"rgb": rows}, spans) else "in vain"].append(video_id)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
