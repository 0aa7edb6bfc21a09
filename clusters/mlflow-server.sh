#!/usr/bin/env bash
# Starts MLflow on this machine's loopback, unless it answers already; `stop` ends it.
#
#   mlflow-server.sh start CLUSTER_YAML     CLUSTER_YAML is shown in the command that opens a tunnel
#   mlflow-server.sh stop
#
# The database is MLFLOW_BACKEND_URI, such as postgresql+psycopg2://USER:PASSWORD@HOST/mlflow, or else the first line of
# ~/.config/footprint/mlflow_backend_uri, or else SQLite in ~/footprint/mlflow.db, on this machine's own disk: SQLite must
# not lie on a network file system. The address is handed on in the environment, so that no list of processes shows it.
# Artifacts are in MLFLOW_ARTIFACTS_DESTINATION, or else in ~/footprint/mlartifacts.
set -euo pipefail

port=${MLFLOW_PORT:-5000}
home=$HOME/footprint
state=$home/mlflow-server
kept=$HOME/.config/footprint/mlflow_backend_uri
program=$(command -v mlflow || echo "$home/.venv/bin/mlflow")

answers() {
    python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' \
        "http://127.0.0.1:$port/health" 2>/dev/null
}

stop() {
    [ -f "$state/pid" ] || return 0
    group=$(cat "$state/pid")
    rm -f "$state/pid"
    kill -TERM -- "-$group" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 -- "-$group" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$group" 2>/dev/null || true
}

start() {
    if ! answers; then
        stop
        umask 077
        mkdir -p "$state"
        if [ -z "${MLFLOW_BACKEND_URI:-}" ] && [ -f "$kept" ]; then MLFLOW_BACKEND_URI=$(head -n 1 "$kept"); fi
        export MLFLOW_BACKEND_STORE_URI=${MLFLOW_BACKEND_URI:-sqlite:///$home/mlflow.db}
        unset MLFLOW_BACKEND_URI
        # uvicorn ends a worker that is silent for 5 s; on a busy machine MLflow takes longer to load
        MLFLOW_DISABLE_TELEMETRY=true setsid "$program" server --host 127.0.0.1 --port "$port" --workers 2 \
            --uvicorn-opts "--timeout-worker-healthcheck 120" \
            --artifacts-destination "${MLFLOW_ARTIFACTS_DESTINATION:-$home/mlartifacts}" >"$state/log" 2>&1 </dev/null &
        echo $! >"$state/pid"
        for _ in $(seq 300); do
            answers && break
            kill -0 "$(cat "$state/pid")" 2>/dev/null || break
            sleep 1
        done
        if ! answers; then
            echo "error: MLflow must answer at 127.0.0.1:$port, but it does not" >&2
            echo "hint: tail $state/log" >&2
            stop
            exit 6
        fi
    fi
    echo "MLflow answers at http://127.0.0.1:$port on this machine alone. On your own, this command opens a tunnel:"
    echo "    ray attach --port-forward $port $1"
}

case ${1:-} in
start) start "${2:?mlflow-server.sh start CLUSTER_YAML}" ;;
stop) stop ;;
*)
    echo "error: the first word must be start or stop" >&2
    exit 2
    ;;
esac
