#!/bin/sh
# Runs a command as root: directly, or without being root in namespaces of its own, where the kernel and newuidmap (uidmap)
# allow it. Elsewhere the command runs as it is, and the tests say why they are skipped.
namespaces="unshare --user --map-root-user --map-auto --mount --net"
if [ "$(id -u)" = 0 ] || ! $namespaces true 2> /dev/null; then
    exec "$@"
fi
exec $namespaces sh -c 'mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && exec "$@"' sh "$@"
