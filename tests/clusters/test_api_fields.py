"""Tests that the tables of the clouds' fields say what the clouds' own descriptions say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_fields import TABLES

LOCKED = "it is in requirements.lock: make test"
OF_RAY = {"SubnetIds[]"}  # Ray gives one of them to the API as SubnetId


def steps(path: str) -> list[tuple[str, int]]:
    """Return the names of a path, and how many lists each holds."""
    return [(name.replace("[]", ""), name.count("[]")) for name in path.split(".")]


def test_the_fields_of_aws_are_those_of_its_api() -> None:
    session = pytest.importorskip("botocore.session", reason=LOCKED)
    import botocore

    service = session.get_session().get_service_model("ec2")
    assert f"Amazon EC2 API {service.api_version}, " in TABLES["aws"]["version"]
    assert f" botocore {botocore.__version__} " in TABLES["aws"]["version"]
    for path, kind in TABLES["aws"]["fields"].items():
        shape = service.operation_model("RunInstances").input_shape
        for name, lists in () if path in OF_RAY else steps(path):
            shape = shape.members[name]
            for _ in range(lists):
                shape = shape.member
        assert path in OF_RAY or shape.type_name == kind, path


def test_the_fields_of_google_are_those_of_its_api() -> None:
    cache = pytest.importorskip("googleapiclient.discovery_cache", reason=LOCKED)
    api = json.loads(cache.get_static_doc("compute", "v1"))
    assert TABLES["gcp"]["version"].endswith(f"revision {api['revision']}")
    for path, kind in TABLES["gcp"]["fields"].items():
        found: dict[str, Any] = {"$ref": "Instance"}
        for name, lists in steps(path):
            found = api["schemas"].get(found.get("$ref"), found)["properties"][name]
            for _ in range(lists):
                found = found["items"]
        # Google's JSON has whole numbers of 64 bits as texts, and takes both
        assert ("integer" if found.get("format", "").startswith("int") else found["type"]) == kind, path


def test_every_table_names_its_version() -> None:
    assert all(any(sign.isdigit() for sign in table["version"]) for table in TABLES.values())
