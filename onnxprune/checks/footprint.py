"""How much memory a process takes that loads a model and runs it: measured in one of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ..model.file import Model
from ..runtime.custom import has_custom
from ..runtime.session import PROVIDERS, Arrays
from ..timing.machine import Machine

RUNS = 3

SECONDS = 600

SCRIPT = """
import sys
import numpy as np
import onnxruntime as ort

path, inputs, provider, threads, runs = sys.argv[1:]
options = ort.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = int(threads)
session = ort.InferenceSession(path, options, providers=[provider, "CPUExecutionProvider"])
feeds = dict(np.load(inputs))
for _ in range(int(runs)):
    session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(int(line.split()[1]) * 1024)
"""
"""All that a program needs to run a model; the peak is that of its own memory, not of its parent's."""


def peak_memory(model: Model, feeds: Arrays, machine: Machine) -> int | None:
    """Most bytes of memory that such a process has at once.

    None where the platform does not tell (outside of Linux), or a model does not run by itself.
    """
    texts = any(array.dtype.kind not in "biufc" for array in feeds.values())
    if sys.platform != "linux" or has_custom(model.proto) or texts:
        return None
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        path, inputs = Path(folder) / "model.onnx", Path(folder) / "inputs.npz"
        model.save(path)
        with inputs.open("wb") as file:
            np.savez(file, **{name: np.asarray(array) for name, array in feeds.items()})  # type: ignore[arg-type]
        flags = [PROVIDERS[machine.provider], str(machine.threads), str(RUNS)]
        command = [sys.executable, "-c", SCRIPT, str(path), str(inputs), *flags]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
            return int(done.stdout.split()[-1])
        except (subprocess.SubprocessError, OSError, ValueError, IndexError):
            return None  # it ran here, so a report without this number is better than none
