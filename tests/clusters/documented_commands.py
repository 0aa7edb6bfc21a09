"""The commands in the header of a cluster's file, and whether the programs that they start take their words."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from unittest import mock

import click
import typer
from ended import ended_by
from typer.core import TyperGroup

from sweeps.cli.footprint import app_of_commands
from trainables import command

ROOT = Path(__file__).parents[2]
# The options in use of programs that are not installed with this project: AWS CLI 1.45, Google Cloud CLI 528, kubectl
# 1.32, Docker 28, OpenSSH 9.
TOOLS = {
    "aws iam create-role": "--role-name --assume-role-policy-document",
    "aws iam attach-role-policy": "--role-name --policy-arn",
    "aws iam create-instance-profile": "--instance-profile-name",
    "aws iam add-role-to-instance-profile": "--instance-profile-name --role-name",
    "aws ec2 create-security-group": "--group-name --description --vpc-id",
    "aws ec2 authorize-security-group-ingress": "--group-id --ip-permissions",
    "aws ec2 import-key-pair": "--key-name --public-key-material",
    "aws efs create-file-system": "--encrypted --tags",
    "aws efs create-mount-target": "--file-system-id --subnet-id --security-groups",
    "aws ssm start-session": "--region --target --document-name --parameters",
    "gcloud compute networks create": "--subnet-mode",
    "gcloud compute networks subnets create": "--network --region --range --enable-private-ip-google-access",
    "gcloud compute routers create": "--network --region",
    "gcloud compute routers nats create": "--router --region --auto-allocate-nat-external-ips "
    "--nat-all-subnet-ip-ranges",
    "gcloud compute firewall-rules create": "--network --direction --allow --source-tags --source-ranges --target-tags",
    "gcloud compute start-iap-tunnel": "--listen-on-stdin --zone --project",
    "gcloud filestore instances create": "--zone --tier --protocol --file-share --network",
    "gcloud filestore instances describe": "--zone --format",
    "kubectl create namespace": "",
    "kubectl create secret generic": "--namespace --from-file",
    "kubectl create": "--namespace --filename",
    "kubectl apply": "--namespace --filename",
    "kubectl delete": "--namespace",
    "kubectl exec": "--namespace",
    "kubectl logs": "--namespace --follow --selector",
    "kubectl port-forward": "--namespace",
    "docker build": "--file --tag",
    "ssh-keygen": "-t -N -C -f",
    "pip install": "",
}


def documented(file: str) -> list[str]:
    """Return the commands in the header of a file: its indented lines, without the words that explain them."""
    header = re.split(r"\n(?=\w)", (ROOT / file).read_text(encoding="utf-8"), maxsplit=1)[0]
    return [re.split(r"\s{2,}", line)[0] for line in re.findall(r"^#   (\S.*)$", header, re.MULTILINE)]


def check(line: str) -> None:
    """Let the program that a command starts parse its words, and those of the commands in them.

    Raises:
        click.ClickException: the program does not take these words.
        LookupError: it is no program that a documented command may start.
    """
    match shlex.split(line):
        case ["ray", *words]:
            check_ray(words)
        case ["footprint", *words]:
            check_footprint(words)
        case ["python", "-m", module, *words]:
            check_module(module, words)
        case ["sh", "-c", _]:
            pass
        case words:
            check_tool(words)


def check_tool(words: list[str]) -> None:
    """Check the options of a program that is not installed here, and the command that it runs elsewhere."""
    if "--" in words:
        check(shlex.join(words[words.index("--") + 1 :]))
        words = words[: words.index("--")]
    names = [" ".join(words[:length]) for length in range(len(words), 0, -1)]
    known = next((name for name in names if name in TOOLS), None)
    if known is None:
        raise LookupError(f"`{' '.join(words[:3])}` is no documented program")
    unknown = {word.partition("=")[0] for word in words if word.startswith("-")} - set(TOOLS[known].split())
    if unknown:
        raise click.UsageError(f"`{known}` has no option {', '.join(sorted(unknown))}")


def check_ray(words: list[str]) -> None:
    """Let Ray parse the words of one of its commands."""
    from ray.scripts.scripts import cli

    group: click.Command = cli
    while isinstance(group, click.Group):
        name, *words = words
        group = group.commands[name]
    parsed = group.make_context(name, list(words)).params
    if name == "exec":
        check(parsed["cmd"])
    if name == "submit":
        check(shlex.join(parsed["entrypoint"]))


def check_footprint(words: list[str]) -> None:
    """Let `footprint` parse its words, and the study those that it gets."""
    app = typer.main.get_command(app_of_commands())
    assert isinstance(app, TyperGroup)
    one = app.get_command(app.make_context("footprint", [words[0], "--help"]), words[0])
    parsed = one.make_context(words[0], words[1:]).params
    if words[0] == "submit":
        check_module(f"sweeps.{parsed['study']}", parsed["words"] or [])


def check_module(module: str, words: list[str]) -> None:
    """Let a module of this project parse the words of its command line."""
    apps: list[typer.Typer] = []
    with mock.patch.object(command, "_invoke", lambda app, _: apps.append(app) or 0):
        ended_by(lambda: runpy.run_module(module, run_name="__main__"), module)
    typer.main.get_command(apps[0]).make_context(module, list(words))
