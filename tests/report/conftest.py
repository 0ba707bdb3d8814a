"""The page that several files of tests look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report.pages import DURATION, VIDEO, dataset_of, inputs_in

from ssn_feat.report.options import ReportOptions
from ssn_feat.report.page import report


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> ReportOptions:
    """The page of a few videos of which everything that can have a name has a hostile one; one has a file."""
    for library in ("jinja2", "plotly"):
        pytest.importorskip(library)
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("page")
    (folder / "videos").mkdir()
    plain = folder / "plain.webm"
    writer = cv2.VideoWriter(str(plain), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), 10.0, (64, 48))
    for frame in range(int(10 * DURATION)):
        writer.write(np.full((48, 64, 3), 4 * frame, np.uint8))
    writer.release()
    plain.rename(folder / "videos" / f"{VIDEO}.webm")
    options = replace(inputs_in(folder, dataset_of(4)), videos=folder / "videos")
    report(options)
    return options
