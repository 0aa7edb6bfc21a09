"""Calls everything that the ports of a Ray cluster offer, as a stranger on its network would; prints JSON.

Runs by itself, in the network namespace of the stranger: `call_ports.py ADDRESS PORT,PORT TOKEN reading|everything`. An
empty TOKEN sends none. With `reading`, only methods that change nothing are called.
"""

from __future__ import annotations

import http.client
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SECONDS = 3.0
READY_SECONDS = 20.0
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
HEALTH = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
NODE = "ab" * 28  # every message between nodes names its sender
READING = ("Get", "List", "Is", "Check", "ClusterInfo")
PATHS = ("/", "/metrics", "/api/version", "/nodes", "/logs", "/api/jobs/", "/api/healthz", "/api/local_raylet_healthz",
         "/get_runtime_envs_info")  # fmt: skip
POSTS = ("/api/job_agent/jobs/", "/api/jobs/", "/get_or_create_runtime_env", "/delete_runtime_env_if_possible")


@dataclass(frozen=True)
class Method:
    """A method of a gRPC service: its path, and whether caller and server send streams."""

    path: str
    sends_stream: bool = False
    gets_stream: bool = False


def known_methods() -> Iterator[Method]:
    """Yield every method of the services that Ray's wheel describes."""
    from ray.core import generated

    sys.path.insert(0, next(iter(generated.__path__)))  # the modules import one another by their bare names
    for module in pkgutil.iter_modules(generated.__path__):
        if module.name.endswith("_pb2"):
            described = importlib.import_module(f"ray.core.generated.{module.name}").DESCRIPTOR
            for service in described.services_by_name.values():
                for one in service.methods:
                    yield Method(f"/{service.full_name}/{one.name}", one.client_streaming, one.server_streaming)
    yield Method(HEALTH[0])
    yield Method(HEALTH[1], gets_stream=True)
    yield Method(REFLECTION, sends_stream=True, gets_stream=True)


def reflected_methods(channel: Any) -> Iterator[Method]:
    """Yield every method that the server itself names, for services that the wheel does not describe."""
    from google.protobuf import descriptor_pb2

    for answer in reflected(channel, 7, b""):
        for _, listed in fields(answer, 6):
            for _, service in fields(listed, 1):
                name = next(value for _, value in fields(service, 1))
                for file in described(channel, name):
                    proto = descriptor_pb2.FileDescriptorProto.FromString(file)
                    for found in proto.service:
                        for one in found.method:
                            path = f"/{proto.package}.{found.name}/{one.name}"
                            yield Method(path, one.client_streaming, one.server_streaming)


def described(channel: Any, symbol: bytes) -> Iterator[bytes]:
    for answer in reflected(channel, 4, symbol):
        for _, files in fields(answer, 4):
            for _, file in fields(files, 1):
                yield file


def reflected(channel: Any, number: int, text: bytes) -> list[bytes]:
    import grpc

    request = bytes([number << 3 | 2, len(text)]) + text
    try:
        call = channel.stream_stream(REFLECTION, bytes, bytes)
        return list(call(iter([request]), timeout=SECONDS))
    except grpc.RpcError:
        return []


def fields(message: bytes, wanted: int) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a protobuf message that have a number and a length; others are skipped."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        length, end = varint(message, at)
        if key & 7 == 2:
            if key >> 3 == wanted:
                yield key >> 3, message[end : end + length]
            at = end + length
        else:
            at = end


def varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def code_of(channel: Any, method: Method, token: str) -> str:
    """Call a method with an empty message and return the name of the status."""
    import grpc

    kinds = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary",
             (True, True): "stream_stream"}  # fmt: skip
    call = getattr(channel, kinds[method.sends_stream, method.gets_stream])(method.path, bytes, bytes)
    header = [("node_id", NODE), *([("authorization", f"Bearer {token}")] if token else [])]
    try:
        answer = call(iter([b""]) if method.sends_stream else b"", timeout=SECONDS, metadata=header)
        if method.gets_stream:
            next(iter(answer), None)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name  # type: ignore[attr-defined] every error of a call has it


def over_grpc(address: str, port: int, token: str, reading: bool) -> dict[str, list[str]] | None:
    """Return the methods by the status they answer with, None if the port does not speak gRPC."""
    import grpc

    with grpc.insecure_channel(f"{address}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
        except grpc.FutureTimeoutError:
            return None
        methods = {one.path: one for one in (*known_methods(), *reflected_methods(channel))}
        chosen = [one for one in methods.values() if not reading or one.path.split("/")[-1].startswith(READING)]
        codes: dict[str, list[str]] = {}
        for method in chosen:
            codes.setdefault(code_of(channel, method, token), []).append(method.path)
        return codes


def over_http(address: str, port: int, token: str) -> dict[str, int] | None:
    """Return the status of each path, None if the port does not speak HTTP."""
    found: dict[str, int] = {}
    for verb, path in (*(("GET", path) for path in PATHS), *(("POST", path) for path in POSTS)):
        connection = http.client.HTTPConnection(address, port, timeout=READY_SECONDS)
        header = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            connection.request(verb, path, body=b"{}" if verb == "POST" else None, headers=header)
            found[f"{verb} {path}"] = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
    return found


def main() -> None:
    """Call every port and print what each answered."""
    address, ports, token, extent = sys.argv[1:]
    found = {}
    for port in map(int, ports.split(",")):
        by_http = over_http(address, port, token)
        by_grpc = None if by_http else over_grpc(address, port, token, extent == "reading")
        found[port] = {"http": by_http, "grpc": by_grpc}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
