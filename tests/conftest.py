"""Settings of every test process: offline, no telemetry, and Ray writes no token into the user's home."""

import os

os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes share the cores: threads that spin for one another would cost more than they do.
    os.environ["OMP_NUM_THREADS"] = "1"
