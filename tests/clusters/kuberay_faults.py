"""What does not fit together in the manifests of `clusters/kuberay/`, though Kubernetes accepts it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from documented_commands import documented

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clusters" / "kuberay"
PART = {"app.kubernetes.io/part-of": "footprint"}
SHM = "/dev/shm"  # noqa: S108 the mount of a pod
Documents = dict[str, dict[str, Any]]


def read_documents() -> Documents:
    """Return every document of the manifests, by its kind."""
    texts = [(FOLDER / f"{name}.yaml").read_text(encoding="utf-8") for name in ("cluster", "mlflow", "job")]
    found = [one for text in texts for one in yaml.safe_load_all(text)]
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


def templates(documents: Documents) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the template of every pod, with its role."""
    cluster = documents["RayCluster"]["spec"]
    yield "head", cluster["headGroupSpec"]["template"]
    yield from (("worker", group["template"]) for group in cluster["workerGroupSpecs"])
    yield "mlflow", documents["Deployment"]["spec"]["template"]
    yield "submitter", documents["RayJob"]["spec"]["submitterPodTemplate"]


def secrets_made() -> set[tuple[str, str]]:
    """Return name and key of the Secrets that the header's commands make."""
    lines = [shlex.split(line) for line in documented("clusters/kuberay/cluster.yaml") if "create secret" in line]
    keys = [next(word for word in words if word.startswith("--from-file=")) for words in lines]
    return {(words[4], key.split("=")[1]) for words, key in zip(lines, keys, strict=True)}


def references(container: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the variables of a container that Secrets give, with name and key."""
    given = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
    return {name: (one["name"], one["key"]) for name, one in given.items()}


def mounts_of(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the volumes of a pod by the path at which it mounts them; None for one that it does not have."""
    volumes = {one["name"]: one for one in spec.get("volumes", ())}
    return {one["mountPath"]: volumes.get(one["name"]) for one in spec["containers"][0].get("volumeMounts", ())}


def volume_faults(role: str, spec: dict[str, Any], documents: Documents) -> Iterator[str]:
    mounts = mounts_of(spec)
    if None in mounts.values():
        yield "a mounted volume does not exist"
    if role != "submitter":
        claim = (mounts.get("/mnt/shared") or {}).get("persistentVolumeClaim", {}).get("claimName")
        if claim != documents["PersistentVolumeClaim"]["metadata"]["name"]:
            yield "a pod does not see the storage"
    if role in ("head", "worker") and ((mounts.get(SHM) or {}).get("emptyDir") or {}).get("medium") != "Memory":
        yield f"{SHM} is not in memory"


def token_faults(role: str, spec: dict[str, Any], documents: Documents) -> Iterator[str]:
    [container] = spec["containers"]
    given, values = references(container), {one["name"]: one.get("value") for one in container["env"]}
    if not set(given.values()) <= secrets_made():
        yield "nobody makes a Secret that is referenced"
    if role != "mlflow":
        wanted = (documents["RayCluster"]["spec"].get("authOptions", {}).get("secretName"), "auth_token")
        if given.get("RAY_AUTH_TOKEN") != wanted or values.get("RAY_AUTH_MODE") != "token":
            yield "a pod brings no token"


def user_faults(template: dict[str, Any]) -> Iterator[str]:
    spec = template["spec"]
    [container] = spec["containers"]
    if not spec["securityContext"].get("runAsNonRoot") or not spec["securityContext"].get("runAsUser"):
        yield "a pod runs as root"
    if container["securityContext"].get("allowPrivilegeEscalation") is not False:
        yield "a process can gain privileges"
    if not PART.items() <= template["metadata"]["labels"].items():
        yield "the NetworkPolicy does not admit a pod"
    if not re.fullmatch(r"[a-z]+:\d[\w.]*", container["image"]):
        yield "an image has no version"


def cluster_faults(documents: Documents) -> Iterator[str]:
    spec = documents["RayCluster"]["spec"]
    if spec.get("authOptions", {}).get("mode") != "token":
        yield "the cluster asks for no token"
    if spec["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "trials run on the head"
    for group in spec["workerGroupSpecs"]:
        [container] = group["template"]["spec"]["containers"]
        kinds = [container["resources"][kind].get("nvidia.com/gpu") for kind in ("requests", "limits")]
        if kinds[0] is None or kinds[0] != kinds[1]:
            yield "a worker gets no GPU"
        if not 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            yield "no worker is there at the start"
    for one in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        shm = mounts_of(one["template"]["spec"]).get(SHM) or {}
        room = shm.get("emptyDir", {}).get("sizeLimit", "0Gi")
        if int(one["rayStartParams"]["object-store-memory"]) > int(room.removesuffix("Gi")) << 30:
            yield f"the object store is larger than {SHM}"
    if f"ray=={spec['rayVersion']}" not in (ROOT / "requirements.lock").read_text().splitlines():
        yield "the image has another version of Ray"


def service_faults(documents: Documents) -> Iterator[str]:
    deployment, service, job = (documents[kind] for kind in ("Deployment", "Service", "RayJob"))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    if not service["spec"]["selector"].items() <= labels.items():
        yield "the service reaches no pod"
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    if "MLFLOW_BACKEND_STORE_URI" not in references(container):
        yield "MLflow has no database"
    [port] = service["spec"]["ports"]
    address = f"{service['metadata']['name']}:{port['port']}"
    if f"--tracking-uri http://{address}" not in job["spec"]["entrypoint"]:
        yield "the job does not log to MLflow"
    hosts = container["command"][container["command"].index("--allowed-hosts") + 1].split(",")
    if not all(any(fnmatch(name, host) for host in hosts) for name in (address, "localhost:5000", "127.0.0.1:5000")):
        yield "MLflow refuses its callers"
    if job["spec"]["clusterSelector"] != {"ray.io/cluster": documents["RayCluster"]["metadata"]["name"]}:
        yield "the job finds no cluster"
    if documents["PersistentVolumeClaim"]["spec"]["accessModes"] != ["ReadWriteMany"]:
        yield "one machine alone writes to the storage"


def faults(documents: Documents) -> set[str]:
    """Return what Kubernetes accepts but what fails, hangs, or opens the cluster."""
    policy = documents["NetworkPolicy"]["spec"]
    admitted = [one for rule in policy["ingress"] for one in rule["from"]]
    found = {*cluster_faults(documents), *service_faults(documents)}
    for role, template in templates(documents):
        found |= {*volume_faults(role, template["spec"], documents), *token_faults(role, template["spec"], documents)}
        found |= set(user_faults(template))
    if policy["podSelector"] != {"matchLabels": PART} or any("podSelector" not in one for one in admitted):
        found.add("the NetworkPolicy admits others")
    return found
