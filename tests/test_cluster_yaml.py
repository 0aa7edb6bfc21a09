"""Tests `cluster.yaml` against Ray's own schema, and for faults that the schema does not cover."""

from __future__ import annotations

import json
import subprocess
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[1]
TOKEN = "~/.ray/auth_token"  # noqa: S105 the file's path, which is no secret


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    spec = find_spec("ray")
    assert spec is not None and spec.origin is not None
    return json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def faults(config: dict[str, Any]) -> set[str]:
    """Return faults that Ray's schema accepts but that fail, hang or open the cluster to its network."""
    head, worker = (" ".join(config[f"{role}_start_ray_commands"]) for role in ("head", "worker"))
    found = {
        "autoscaler v2 is on": "RAY_enable_autoscaler_v2=0" not in head,
        "the head asks for no token": "RAY_AUTH_MODE=token" not in head,
        "a worker brings no token": "RAY_AUTH_MODE=token" not in worker,
        "the token file is not handed out": config["file_mounts"].get(TOKEN) != TOKEN,
        "the dashboard listens beyond loopback": "--dashboard-host=127.0.0.1" not in head,
        "usage statistics are sent": any("RAY_USAGE_STATS_ENABLED=0" not in start for start in (head, worker)),
        "versions are not pinned": not any("requirements.lock" in one for one in config["setup_commands"]),
        "no worker address": not config["provider"].get("worker_ips"),
        "the head is its own worker": config["provider"]["head_ip"] in config["provider"].get("worker_ips", ()),
        "a mounted file is missing": any(
            not (ROOT / path).exists() for path in config["file_mounts"].values() if path[0] != "~"
        ),
    }
    return {fault for fault, present in found.items() if present}


def without(config: dict[str, Any], text: str) -> dict[str, Any]:
    """Plant a fault: the same file without `text`."""
    return yaml.safe_load(yaml.safe_dump(config, width=10_000).replace(text, "gone"))


def test_ray_accepts_the_file_and_it_has_no_fault(config, schema):
    jsonschema.validate(config, schema)
    assert faults(config) == set()


def test_ray_reads_every_worker_of_it(config):
    from ray.autoscaler._private.local.config import prepare_local

    prepared, _modified = prepare_local(config)
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["min_workers"] == node_type["max_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize("place", [(), ("auth",)])
def test_a_misspelt_key_is_refused(config, schema, place):
    planted = deepcopy(config)
    inner = planted
    for key in place:
        inner = inner[key]
    key, value = next((key, value) for key, value in inner.items() if key not in ("cluster_name", "provider"))
    inner[key[:-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=f"'{key[:-1]}' was unexpected"):
        jsonschema.validate(planted, schema)


@pytest.mark.parametrize(
    ("cut", "fault"),
    [
        ("RAY_enable_autoscaler_v2=0", "autoscaler v2 is on"),
        ("RAY_AUTH_MODE=token", "a worker brings no token"),
        (TOKEN, "the token file is not handed out"),
        ("--dashboard-host=127.0.0.1", "the dashboard listens beyond loopback"),
        ("RAY_USAGE_STATS_ENABLED=0", "usage statistics are sent"),
        ("requirements.lock", "versions are not pinned"),
        ("worker_ips", "no worker address"),
        ("pyproject.toml", "a mounted file is missing"),
    ],
)
def test_a_planted_fault_is_found(config, cut, fault):
    assert fault in faults(without(config, cut))


@pytest.mark.parametrize(("failures", "code", "starts"), [(0, 0, 1), (2, 0, 3), (3, 1, 3)])
def test_a_worker_whose_start_fails_tries_again(config, tmp_path, failures, code, starts):
    stub = tmp_path / "ray"
    stub.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\n[ "$1" != start ] || '
                    f'[ $(grep -c start {tmp_path}/calls) -gt {failures} ]\n')  # fmt: skip
    stub.chmod(0o755)
    *_, command = config["worker_start_ray_commands"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RAY_HEAD_IP": "192.0.2.10"}
    # Ray joins what it exports and the command in this way
    done = subprocess.run(["/bin/bash", "-c", f"export A=1 && ({command})"], env=environment, check=False)
    assert done.returncode == code
    calls = (tmp_path / "calls").read_text().split()
    assert calls == (["start", "stop"] * starts)[:-1]


def test_no_address_of_a_real_machine_is_shipped(config):
    addresses = [config["provider"]["head_ip"], *config["provider"]["worker_ips"]]
    assert all(address.startswith("192.0.2.") for address in addresses), "RFC 5737 keeps 192.0.2.0/24 for examples"
