"""The benchmark of other tools beside ours."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from .benchmarks import peers
from .benchmarks.commands import Used
from .benchmarks.record import Measurement


def test_a_peer_that_is_not_at_hand_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes two processes has the time of both."""
    present = peers.Peer("copy {path!r} {out!r}", ("json",), then_prune=True)
    missing = peers.Peer("", ("no_such_module",))
    used = Mock(return_value=Used(1.0, 2.0, 3.0))
    monkeypatch.setattr(peers, "peers_of", lambda name: {"present": present, "missing": missing})
    monkeypatch.setattr(peers, "used", used)
    rows = list(peers.beside("digits", Path("model.onnx"), 2, []))
    found = {(row.what, row.unit): row.values for row in rows if isinstance(row, Measurement)}
    assert found["prune", "copies, CPU"] == (1.0, 1.0)
    assert found["present", "copies, CPU"] == found["present", "copies, clock"] == (2.0, 2.0)
    used.assert_any_call(sys.executable, "-c", "copy 'model.onnx' 'simplified.onnx'")
    (skipped,) = (row for row in rows if isinstance(row, str))
    assert skipped.startswith("digits, missing: skipped, ")
