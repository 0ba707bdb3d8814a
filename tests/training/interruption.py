"""Ctrl-C in the middle of a training, at a step that the test chooses."""

from __future__ import annotations

import os
import signal

import pytest

from ssn_feat.training import steps as loop
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import FitOptions


def interrupt(options: FitOptions, monkeypatch: pytest.MonkeyPatch, at: int) -> int:
    """Train until the interrupt that arrives in step ``at`` (from 1) ends it; the number of steps begun."""
    step, taken = loop.train_step, []

    def pressed_after_some(*arguments):
        taken.append(1)
        if len(taken) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", pressed_after_some)
        with pytest.raises(KeyboardInterrupt):
            fit(options)
    return len(taken)
