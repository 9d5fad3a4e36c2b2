"""The details that deploy kits get wrong most often, each as a rule that tells what is wrong here.

    rule.py       what rules look at, and the helpers they share
    service.py    tasks, deployments, images
    data.py       the store, backups, secrets
    around.py     load balancer, network, logs, roles
    alarms.py     alarms and events
    mutation.py   small changes for the worse, each of which a rule has to notice
"""

from . import alarms, around, data, service  # noqa: F401, they fill RULES
from .rule import RULES, Kit

__all__ = ["RULES", "Kit"]
