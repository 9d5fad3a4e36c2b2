"""The table of resource types, by subject. Importing it fills kinds.KINDS."""

from . import code, data, ecs, network, operations, security, web  # noqa: F401
