"""The progress bar: what is left of it on a narrow terminal."""

from __future__ import annotations

import pytest

from ssn_feat.progress import progress_bar


@pytest.mark.parametrize("width", [80, 160])
def test_numbers_stay_whatever_the_note(width: int, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    note = "135 steps/s, loss 1.766, activity 1.600, completeness 0.986, regression 0.673"
    with progress_bar("training ssn", 5625) as advance:
        advance(5000)
        advance(625, note)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("training ssn ")
    assert " 5625/5625 0:0" in line
    assert "135 steps/s, loss 1.76" in line
    assert len(line.rstrip()) <= width
    assert (note in line) == (width == 160)
