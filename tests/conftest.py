"""Settings of every test process: offline, no telemetry, and Ray writes no token into the user's home."""

import os

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test files share the cores: threads that spin for one another cost more than they do, and Ray's own niceness of 15
    # would starve a launch beside another file.
    os.environ.update(FOOTPRINT_THREADS="1", OMP_NUM_THREADS="1", RAY_worker_niceness="0")
