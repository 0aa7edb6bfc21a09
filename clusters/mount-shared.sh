#!/usr/bin/env bash
# Mounts the shared directory of a cluster over NFS 4.1, unless it is mounted already, and checks it.
#
#   mount-shared.sh SERVER:/EXPORT DIRECTORY     exit code 6 if DIRECTORY is not that file system, or takes no lock
#
# Nothing is written to an unmounted DIRECTORY: records in it would be on this machine alone.
set -euo pipefail

source=${1:?mount-shared.sh SERVER:/EXPORT DIRECTORY}
directory=${2:?mount-shared.sh SERVER:/EXPORT DIRECTORY}

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 6
}

sudo mkdir -p "$directory"
if ! findmnt --mountpoint "$directory" >/dev/null; then
    sudo mount -t nfs4 -o nfsvers=4.1,hard,timeo=600,retrans=2,noresvport "$source" "$directory" ||
        fail "$source must be mounted at $directory, but \`mount\` failed" \
            "check the address, and that the rules of the network admit port 2049 from this machine"
fi
found=$(findmnt --noheadings --output SOURCE,FSTYPE --mountpoint "$directory" | tr -s ' ') || found=nothing
[ "$found" = "$source nfs4" ] ||
    fail "$directory must be $source by NFS 4, but it is ${found}" "unmount what is there, or correct the address"
sudo install -d -m 0700 -o "$(id -un)" -g "$(id -gn)" "$directory/runs" "$directory/mlartifacts"
flock --nonblock --conflict-exit-code 0 "$directory/runs/.lock-check-$(hostname)" true ||
    fail "$directory must take locks, but \`flock\` failed" "use a file system of the table in docs/clusters.md"
rm -f "$directory/runs/.lock-check-$(hostname)"
echo "$directory is $source"
