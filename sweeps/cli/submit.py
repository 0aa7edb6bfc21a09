"""`footprint submit`: checks a cluster, then runs a study on it as a job, and follows its log."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ExitCode, UserError

if TYPE_CHECKING:
    from sweeps.execution.job_server import JobServer
    from sweeps.execution.submission import Submission

Cluster = Annotated[Path, typer.Argument(metavar="CLUSTER", help="The file that `ray up` read, e.g. cluster.yaml.")]
Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study, e.g. stage4.")]
Words = Annotated[
    list[str] | None, typer.Argument(metavar="OPTIONS", help="The options of the study.", show_default="none")
]
ExpectNodes = Annotated[
    int, typer.Option(min=0, help="Nodes that must be up, with the head.", show_default="those of CLUSTER")
]
JobServerAddress = Annotated[
    str,
    typer.Option(help="Address of Ray's job server, e.g. http://127.0.0.1:8265 on the head.", show_default="a tunnel"),
]
NoDoctor = Annotated[bool, typer.Option("--no-doctor", help="Do not run the doctor on the nodes first.")]


class ClusterUnfit(UserError):
    """The doctor found a failure on a node of the cluster."""

    exit_code = ExitCode.CHECK_FAILED


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_interspersed_args": False})  # what follows CLUSTER belongs to the study
def submit(
    cluster: Cluster,
    study: Study,
    words: Words = None,
    expect_nodes: ExpectNodes = 0,
    job_server: JobServerAddress = "",
    no_doctor: NoDoctor = False,
) -> None:
    """Run a study on a cluster.

    Checks the token, the nodes, and with the doctor storage, data and versions on each node. Then it submits the study
    as a job, prints how to watch it, and follows its log. Ctrl-C ends this command, not the job. The exit code is that
    of the study.
    """
    from sweeps.execution.cluster_file import read_cluster_file
    from sweeps.execution.job_server import active_nodes, check_nodes, check_token, connected, reached_server
    from sweeps.execution.submission import submission

    asked = submission(read_cluster_file(cluster), study, words or (), datetime.now(UTC))
    check_token(asked.cluster)
    with reached_server(asked.cluster, job_server) as address:
        server = connected(address)
        expected = expect_nodes or asked.cluster.nodes
        nodes = active_nodes(address, expected)
        check_nodes(asked.cluster, nodes, expected)
        typer.echo(f"{len(nodes)} nodes: {', '.join(nodes)}")
        if not no_doctor:
            _check_fit(asked, server)
        server.submit(asked.entrypoint, asked.job_id)
        typer.echo("\n".join([f"submitted {asked.job_id}", *(f"    {one}" for one in asked.watching(job_server))]))
        raise typer.Exit(_followed(server, asked.job_id))


def _check_fit(asked: Submission, server: JobServer) -> None:
    from sweeps.execution.job_server import exit_code_of

    typer.echo("the doctor checks every node")
    if exit_code_of(server.run(asked.doctor, f"doctor-{asked.job_id}", _write)) != ExitCode.DONE:
        raise ClusterUnfit("the doctor must find every node fit, but a check failed",
                           "follow its hints above; --no-doctor submits all the same")  # fmt: skip


def _followed(server: JobServer, job_id: str) -> int:
    from sweeps.execution.job_server import exit_code_of

    try:
        return exit_code_of(server.follow(job_id, _write))
    except KeyboardInterrupt:
        typer.echo(f"\n`{job_id}` goes on; the commands above watch it", err=True)
        return ExitCode.STOPPED


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
