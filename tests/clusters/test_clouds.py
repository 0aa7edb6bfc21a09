"""Tests `clusters/aws.yaml` and `clusters/gcp.yaml` by Ray's checks and the clouds' fields, and for other faults."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import api_fields
import jsonschema
import pytest
import ray.autoscaler
import yaml
from documented_commands import check, documented
from ray.autoscaler._private.util import prepare_config, validate_config

from sweeps.down import machines_of
from sweeps.execution.cluster_file import read_cluster_file

ROOT = Path(__file__).parents[2]
RAY = Path(ray.autoscaler.__file__).parent / "_private"
CLOUDS = ("aws", "gcp")
SECRETS = ("~/.ray/auth_token", "~/.config/footprint/mlflow_backend_uri")
CUDA_IMAGE = {"aws": ("ImageId",), "gcp": ("disks", 0, "initializeParams", "sourceImage")}


def text(cloud: str) -> str:
    return (ROOT / "clusters" / f"{cloud}.yaml").read_text(encoding="utf-8")


def config(cloud: str) -> dict[str, Any]:
    return yaml.safe_load(text(cloud))


def image(machine: dict[str, Any], cloud: str) -> str:
    value: Any = machine
    for key in CUDA_IMAGE[cloud]:
        value = value[key]
    return value


def is_spot(machine: dict[str, Any]) -> bool:
    return "spot" in json.dumps(machine.get("InstanceMarketOptions", machine.get("scheduling", ""))).lower()


def is_reached_from_outside(machine: dict[str, Any]) -> bool:
    return any(word in json.dumps(machine) for word in ("accessConfigs", "AssociatePublicIpAddress"))


def faults(found: dict[str, Any], cloud: str) -> set[str]:
    """Return faults that Ray accepts but that fail, cost, or open the cluster to its network."""
    head, worker = (" ".join(found[f"{role}_start_ray_commands"]) for role in ("head", "worker"))
    types = found["available_node_types"]
    first = types[found["head_node_type"]]
    others = [one for name, one in types.items() if name != found["head_node_type"]]
    mounts, setup = found["file_mounts"], found["setup_commands"]
    mounting = [number for number, one in enumerate(setup) if "mount-shared.sh" in one]
    installing = [number for number, one in enumerate(setup) if "requirements.lock" in one]
    wrong = {
        "trials run on the head": first["resources"].get("CPU") != 0,
        "no worker has a GPU": not all(one["resources"].get("GPU") for one in others),
        "no worker is there at the start": not any(one.get("min_workers") for one in others),
        "workers are not on spot": not all(is_spot(one["node_config"]) for one in others),
        "the head can be taken away": is_spot(first["node_config"]),
        "more workers than the cluster takes": found["max_workers"] < sum(one["max_workers"] for one in others),
        "idle workers go on": not found.get("idle_timeout_minutes"),
        "ended machines cost": found["provider"].get("cache_stopped_nodes") is not False,
        "machines have public addresses": found["provider"].get("use_internal_ips") is not True
        or any(is_reached_from_outside(one["node_config"]) for one in types.values()),
        "head and workers have other images": len({image(one["node_config"], cloud) for one in types.values()}) != 1,
        "the head asks for no token": "RAY_AUTH_MODE=token" not in head,
        "a worker brings no token": "RAY_AUTH_MODE=token" not in worker,
        "a secret is not handed out": any(mounts.get(path) != path for path in SECRETS),
        "the dashboard listens beyond loopback": "--dashboard-host=127.0.0.1" not in head,
        "usage statistics are sent": any("RAY_USAGE_STATS_ENABLED=0" not in start for start in (head, worker)),
        "the number of threads is set": "OMP_NUM_THREADS" in json.dumps(found),
        "the storage is not mounted before it is needed": mounting[:1] >= installing[:1] or not mounting,
        "versions are not pinned": not installing,
        "Ray installs packages of its own": found.get("head_setup_commands") != [],
        "a worker without a GPU joins": not any("nvidia-smi" in one for one in found["worker_setup_commands"]),
        "MLflow does not start": f"mlflow-server.sh start clusters/{cloud}.yaml" not in head,
        "a mounted file is missing": any(not (ROOT / path).exists() for path in mounts.values() if path[0] != "~"),
    }
    return {fault for fault, present in wrong.items() if present}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_and_the_cloud_take_the_file_and_it_has_no_fault(cloud: str) -> None:
    found = config(cloud)
    validate_config(prepare_config(deepcopy(found)))
    for one in found["available_node_types"].values():
        assert api_fields.faults(one["node_config"], cloud) == []
    assert faults(found, cloud) == set()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_does_not_replace_what_the_file_leaves_out(cloud: str) -> None:
    """Ray fills in defaults: commands that install other packages, and a dashboard for everyone."""
    prepared = prepare_config(config(cloud))
    commands = json.dumps([prepared[key] for key in prepared if key.endswith("_commands")])
    assert "--dashboard-host=0" not in commands and "ray-wheels" not in commands and "1.7.8" not in commands
    assert prepared["head_setup_commands"] == prepared["setup_commands"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_reads_every_key_of_the_provider(cloud: str) -> None:
    """Ray's schema takes any key here: `use_internal_ip` would give every machine a public address."""
    source = "".join(path.read_text(encoding="utf-8") for path in [*(RAY / cloud).glob("*.py"), *RAY.glob("*.py")])
    assert [key for key in config(cloud)["provider"] if f'"{key}"' not in source] == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_way_to_the_head_is_a_command_that_its_program_takes(cloud: str) -> None:
    auth = config(cloud)["auth"]
    assert auth["ssh_proxy_use_node_id"] and "%h" in auth["ssh_proxy_command"] and "%p" in auth["ssh_proxy_command"]
    check(auth["ssh_proxy_command"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_footprint_submits_to_it_and_takes_it_down(cloud: str) -> None:
    found = read_cluster_file(ROOT / "clusters" / f"{cloud}.yaml")
    assert (str(found.directory), found.asks_token, found.nodes) == ("~/footprint", True, 2)
    assert machines_of(found.path) is None  # `ray down` ends the machines themselves


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_placeholder_is_marked(cloud: str) -> None:
    body = text(cloud).partition("\ncluster_name:")[2].splitlines()
    placeholder = re.compile(r"0123456789abcdef|placeholder|192\.0\.2\.|AAAA|us-(west|central)")
    for number, line in enumerate(body):
        if placeholder.search(line.partition("#")[0]) and "ssh_proxy_command" not in line:
            assert "CHANGE" in line + body[number - 1], line
    elsewhere = [line for line in body if "CHANGE: also in ssh_proxy_command" in line]
    command = config(cloud)["auth"]["ssh_proxy_command"]
    assert all(yaml.safe_load(line.partition(":")[2]) in command for line in elsewhere) and elsewhere


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_header_installs_the_locked_versions(cloud: str) -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    asked = re.findall(r"'(?:(ray)\[default\]|([\w-]+))==([\d.]+)'", documented(f"clusters/{cloud}.yaml")[0])
    assert len(asked) == 2
    assert {f"{ray or other}=={version}" for ray, other, version in asked} <= set(lock)


def planted(cloud: str, old: str, new: str) -> dict[str, Any]:
    assert old in text(cloud)
    return yaml.safe_load(text(cloud).replace(old, new))


FAULTS = [
    ("{CPU: 0}", "{CPU: 4}", "trials run on the head"),
    ("{CPU: 0}", "{}", "trials run on the head"),
    (", GPU: 1", "", "no worker has a GPU"),
    ("min_workers: 1", "min_workers: 0", "no worker is there at the start"),
    ("idle_timeout_minutes: 10", "idle_timeout_minutes: 0", "idle workers go on"),
    ("cache_stopped_nodes: false", "cache_stopped_nodes: true", "ended machines cost"),
    ("use_internal_ips: true", "use_internal_ips: false", "machines have public addresses"),
    ("RAY_AUTH_MODE=token", "A=1", "a worker brings no token"),
    ("~/.ray/auth_token: ~/.ray/auth_token", "~/x: sweeps", "a secret is not handed out"),
    ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "the dashboard listens beyond loopback"),
    ("ulimit -n 20000", "export OMP_NUM_THREADS=4", "the number of threads is set"),
    ("mount-shared.sh", "gone.sh", "the storage is not mounted before it is needed"),
    ("head_setup_commands: []", "metadata: {}", "Ray installs packages of its own"),
    ("nvidia-smi --list-gpus", "ls", "a worker without a GPU joins"),
    ("max_workers: 4\nidle", "max_workers: 1\nidle", "more workers than the cluster takes"),
    ("mlflow-server.sh start", "mlflow-server.sh stop", "MLflow does not start"),
    (": pyproject.toml", ": project.toml", "a mounted file is missing"),
]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(("old", "new", "fault"), FAULTS)
def test_a_planted_fault_is_found(cloud: str, old: str, new: str, fault: str) -> None:
    assert fault in faults(planted(cloud, old, new), cloud)


@pytest.mark.parametrize(("cloud", "old", "new", "fault"), [
    ("aws", "{MarketType: spot}", "{}", "workers are not on spot"),
    ("gcp", "provisioningModel: SPOT", "provisioningModel: STANDARD", "workers are not on spot"),
    ("aws", "KeyName: footprint\n", "KeyName: footprint\n      NetworkInterfaces: [{AssociatePublicIpAddress: true}]\n",
     "machines have public addresses"),
    ("gcp", "        - subnetwork:", "        - accessConfigs: [{type: ONE_TO_ONE_NAT}]\n          subnetwork:",
     "machines have public addresses"),
])  # fmt: skip
def test_a_fault_of_one_cloud_is_found(cloud: str, old: str, new: str, fault: str) -> None:
    assert fault in faults(planted(cloud, old, new), cloud)


@pytest.mark.parametrize(("cloud", "old", "new", "fault"), [
    ("aws", "InstanceMarketOptions", "InstanceMarketOption", "aws has no field InstanceMarketOption.MarketType"),
    ("aws", "VolumeSize: 200", "VolumeSize: 200 GB", "BlockDeviceMappings[].Ebs.VolumeSize must be of type integer"),
    ("gcp", "provisioningModel", "provisioningMode", "gcp has no field scheduling.provisioningMode"),
    ("gcp", "automaticRestart: false", "automaticRestart: 0", "scheduling.automaticRestart must be of type boolean"),
])  # fmt: skip
def test_a_field_that_the_cloud_does_not_have_is_found(cloud: str, old: str, new: str, fault: str) -> None:
    machine = planted(cloud, old, new)["available_node_types"]["gpu"]["node_config"]
    assert any(one.startswith(fault) for one in api_fields.faults(machine, cloud))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_misspelt_key_is_refused_by_ray(cloud: str) -> None:
    for key in ("idle_timeout_minutes", "ssh_proxy_use_node_id", "min_workers"):
        with pytest.raises(jsonschema.ValidationError):
            validate_config(prepare_config(planted(cloud, f"{key}:", f"{key}x:")))
