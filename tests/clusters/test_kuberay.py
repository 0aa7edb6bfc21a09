"""Tests `clusters/kuberay/` by the fields of Kubernetes and KubeRay, and for what does not fit together."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from copy import deepcopy
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import api_fields
import pytest
import requests
from documented_commands import check
from kuberay_faults import FOLDER, ROOT, SHM, Documents, faults, read_documents

MLFLOW = shutil.which("mlflow", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "mlflow"


@pytest.fixture
def documents() -> Documents:
    return read_documents()


def test_the_manifests_have_known_fields_and_no_fault(documents: Documents) -> None:
    for kind, document in documents.items():
        assert api_fields.faults(document, kind) == []
        group = api_fields.TABLES[kind]["version"].partition(",")[0]
        assert document["apiVersion"] == group
    assert faults(documents) == set()


def test_programs_take_the_commands_of_the_pods(documents: Documents) -> None:
    from mlflow.cli import cli

    check(documents["RayJob"]["spec"]["entrypoint"])
    [container] = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    program, command, *words = container["command"]
    assert entry_points(group="console_scripts")[program].value == "mlflow.cli:cli"
    parsed = cli.commands[command].make_context(command, list(words)).params
    assert (parsed["port"], parsed["artifacts_destination"]) == (5000, "/mnt/shared/mlartifacts")


def pod(documents: Documents, role: str = "head") -> dict[str, Any]:
    """Return what a pod of this role has in `spec`."""
    spec = documents["RayCluster"]["spec"]
    templates = {
        "head": spec["headGroupSpec"]["template"],
        "worker": spec["workerGroupSpecs"][0]["template"],
        "mlflow": documents["Deployment"]["spec"]["template"],
        "submitter": documents["RayJob"]["spec"]["submitterPodTemplate"],
    }
    return templates[role]["spec"]


def container(documents: Documents, role: str = "head") -> dict[str, Any]:
    return pod(documents, role)["containers"][0]


def cluster(documents: Documents) -> dict[str, Any]:
    return documents["RayCluster"]["spec"]


Plant = Callable[[Documents], object]
NO_MEMORY = f"{SHM} is not in memory"
NAME = "app.kubernetes.io/name"
PLANTED: list[tuple[str, Plant]] = [
    ("a pod brings no token", lambda d: container(d, "worker")["env"].pop()),
    ("a pod brings no token", lambda d: cluster(d)["authOptions"].pop("secretName")),
    ("a pod brings no token", lambda d: container(d, "submitter")["env"].clear()),
    ("the cluster asks for no token", lambda d: cluster(d)["authOptions"].update(mode="disabled")),
    ("nobody makes a Secret that is referenced",
     lambda d: container(d)["env"][1]["valueFrom"]["secretKeyRef"].update(key="token")),
    (NO_MEMORY, lambda d: pod(d)["volumes"][1].update(emptyDir={})),
    (NO_MEMORY, lambda d: container(d, "worker")["volumeMounts"].pop()),
    (f"the object store is larger than {SHM}",
     lambda d: cluster(d)["headGroupSpec"]["rayStartParams"].update({"object-store-memory": "2000000000"})),
    ("a mounted volume does not exist", lambda d: pod(d)["volumes"].pop()),
    ("a pod does not see the storage",
     lambda d: pod(d, "worker")["volumes"][0]["persistentVolumeClaim"].update(claimName="x")),
    ("one machine alone writes to the storage",
     lambda d: d["PersistentVolumeClaim"]["spec"].update(accessModes=["ReadWriteOnce"])),
    ("trials run on the head", lambda d: cluster(d)["headGroupSpec"]["rayStartParams"].pop("num-cpus")),
    ("a worker gets no GPU", lambda d: container(d, "worker")["resources"]["limits"].pop("nvidia.com/gpu")),
    ("no worker is there at the start", lambda d: cluster(d)["workerGroupSpecs"][0].update(minReplicas=0)),
    ("the image has another version of Ray", lambda d: cluster(d).update(rayVersion="2.59.0")),
    ("an image has no version", lambda d: container(d).update(image="footprint")),
    ("a pod runs as root", lambda d: pod(d)["securityContext"].update(runAsUser=0)),
    ("a process can gain privileges", lambda d: container(d)["securityContext"].clear()),
    ("the NetworkPolicy does not admit a pod",
     lambda d: d["RayJob"]["spec"]["submitterPodTemplate"]["metadata"]["labels"].clear()),
    ("the NetworkPolicy admits others",
     lambda d: d["NetworkPolicy"]["spec"]["ingress"][1]["from"][0].pop("podSelector")),
    ("the service reaches no pod", lambda d: d["Service"]["spec"]["selector"].update({NAME: "x"})),
    ("MLflow has no database", lambda d: container(d, "mlflow")["env"][0].update(name="MLFLOW_BACKEND_URI")),
    ("MLflow refuses its callers", lambda d: d["Service"]["spec"]["ports"][0].update(port=5001)),
    ("the job does not log to MLflow", lambda d: d["Service"]["metadata"].update(name="tracking")),
    ("the job finds no cluster", lambda d: d["RayCluster"]["metadata"].update(name="other")),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "plant"), PLANTED, ids=lambda one: one if isinstance(one, str) else "")
def test_a_planted_fault_is_found(fault: str, plant: Plant, documents: Documents) -> None:
    planted = deepcopy(documents)
    plant(planted)
    assert fault in faults(planted)


def test_a_field_that_kuberay_does_not_have_is_found(documents: Documents) -> None:
    spec = documents["RayCluster"]["spec"]
    spec["authOption"] = spec.pop("authOptions")
    spec["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0  # KubeRay refuses a number
    assert api_fields.faults(documents["RayCluster"], "RayCluster") == [
        "spec.headGroupSpec.rayStartParams.num-cpus must be of type string, but is 0",
        "RayCluster has no field spec.authOption.mode", "RayCluster has no field spec.authOption.secretName",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mlflow_answers_by_its_names_in_the_cluster_and_to_no_other(documents: Documents, tmp_path: Path) -> None:
    """The container's command, on loopback and a free port, with SQLite."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = str(server.getsockname()[1])
    own = {"0.0.0.0": "127.0.0.1", "5000": port, "/mnt/shared/mlartifacts": str(tmp_path), "mlflow": MLFLOW}  # noqa: S104
    words = [own.get(word, word) for word in container(documents, "mlflow")["command"]]
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    search = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    with subprocess.Popen(words, env=environment, cwd=tmp_path, start_new_session=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            for host, status in (("mlflow:5000", 200), ("localhost:5000", 200), ("evil.example", 403)):
                assert requests.get(search, headers={"Host": host}, timeout=60).status_code == status
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None
        with suppress(requests.RequestException):
            return requests.get(address, timeout=5).raise_for_status()
        time.sleep(0.5)
    raise AssertionError(f"nothing answers at {address}")


# -------------------------------------------------------------------- the image
def instructions() -> list[tuple[str, list[str]]]:
    joined = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split()[1:]) for line in lines]


def test_the_image_is_pinned_and_holds_the_lock_no_secret_and_no_root() -> None:
    found = instructions()
    [base] = [words for name, words in found if name == "FROM"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base[0])
    runs = [" ".join(words) for name, words in found if name == "RUN"]
    assert any("--requirement requirements.lock" in line for line in runs)
    assert found[-1] == ("USER", ["1000:1000"])
    assert {name for name, _ in found} == {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER"}  # neither ADD nor ARG
    assert not re.search(r"(?i)token|password|secret|https?:", str(found))


def test_the_image_gets_what_it_copies_and_nothing_else() -> None:
    copied = {word for name, words in instructions() if name == "COPY" for word in words[:-1]}
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied and "*" in ignored
    assert all((ROOT / path).exists() for path in copied)


def test_every_image_and_place_of_a_user_is_marked() -> None:
    for path in FOLDER.glob("*.yaml"):
        lines = [
            line for line in path.read_text(encoding="utf-8").splitlines() if "placeholder" in line or "image:" in line
        ]
        assert all("# CHANGE" in line for line in lines), path
