"""Short processes that need torch and transformers, forked from one process that has imported them.

Importing them takes seconds of CPU each time. The process that forks loads no base and trains nothing, so that what
it forks shares no memory with what trains.

- `process`: Starts a module of this package as a process: forked where there is a server, else as any other.
- `server`: The process that has imported the heavy libraries, and forks the ones that are asked for.
"""
