"""Settings of every test process: offline, no telemetry, and nothing is written into the user's home."""

import atexit
import os
import tempfile
from pathlib import Path

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
)
if "PYTEST_XDIST_WORKER" not in os.environ:
    # All processes of a test run share one cache, so that equal data is scanned once. Fonts stay where they are.
    fonts = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "matplotlib"
    cache = tempfile.TemporaryDirectory(prefix="footprint-cache-")
    atexit.register(cache.cleanup)
    os.environ.update(XDG_CACHE_HOME=cache.name, MPLCONFIGDIR=os.environ.get("MPLCONFIGDIR", str(fonts)))
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test files share the cores: threads that spin for one another cost more than they do, and Ray's own niceness of 15
    # would starve a launch beside another file.
    os.environ.update(FOOTPRINT_THREADS="1", OMP_NUM_THREADS="1", RAY_worker_niceness="0")
