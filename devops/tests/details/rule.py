"""What rules look at: every environment with every storage, resolved, and the files around them."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable

import templates
import wiring
from emulator.evaluation import Refused, as_text

RULES = {}


@dataclasses.dataclass
class Rule:
    number: int
    title: str
    check: Callable
    about: tuple[str, ...]  # parts of templates, like "platform LoadBalancer IpAddressType"; see mutation.py

    def faults(self, kit):
        return list(dict.fromkeys(self.check(kit)))

    def notices(self, kit):
        """Whether there is any fault."""
        return next(self.check(kit), None) is not None

    def __str__(self):
        return f"{self.number:02} {self.title}"


def rule(number, title, *about):
    def register(check):
        RULES[number] = Rule(number, title, check, about)
        return check

    return register


class Kit:
    """The deployments, and the texts of other files."""

    def __init__(self):
        self.deployments = [deployment(env, storage) for env in wiring.environments() for storage in wiring.STORAGES]
        self._texts = {}

    def with_settings(self, env, **settings):
        other = copy.copy(self)
        other.deployments = [deployment(env, each.storage, {env: settings}) if each.env == env else each
                             for each in self.deployments]
        return other

    def with_template(self, name, body):
        other = copy.copy(self)
        other.deployments = [each.with_template(name, body) for each in self.deployments]
        return other

    def with_text(self, path, text):
        other = copy.copy(self)
        other._texts = {**self._texts, path: text}
        return other

    def text(self, path):
        """A file of the repository; nothing when there is none."""
        if path not in self._texts:
            file = templates.ROOT / path
            self._texts[path] = file.read_text(encoding="utf-8") if file.is_file() else ""
        return self._texts[path]

    def duration(self, path, name):
        """Seconds of a constant or a limit in a file of Go, like IdleTimeout: 75 * time.Second."""
        found = re.search(rf"\b{name}\b[:\s]*=?\s*(\d+) \* time\.(Second|Minute|Hour)", self.text(path))
        return int(found[1]) * {"Second": 1, "Minute": 60, "Hour": 3600}[found[2]] if found else None

    def with_storage(self, storage):
        return [each for each in self.deployments if each.storage == storage]

    @property
    def last(self):
        """The environment that people use, with the storage that it uses unless told otherwise."""
        common = wiring.read("vars/common.yml")
        return next(each for each in self.deployments
                    if (each.env, each.storage) == (common["pipeline_environments"][-1], common["storage"]))


def deployment(env, storage, changed=None):
    # Errors are reported somewhere by one of the storages, so that both ways are looked at.
    sentry = wiring.ALL_FILLED_IN["sentry_secret_arn"] if storage == "postgres" else ""
    return wiring.Deployment(env, storage, changed, sentry_secret_arn=sentry)


def at(value, path):
    """What is at a path, like "ContainerDefinitions/0/Environment/PORT/Value"; None when there is nothing."""
    for step in filter(None, path.split("/")):
        value = entry(value, step) if isinstance(value, list) else value.get(step) if isinstance(value, dict) else None
    return value


NAMED_BY = ("Key", "Name", "Sid", "Id", "RuleName")


def entry(listed, step):
    """One of a list, by its number or by its name."""
    if step.isdigit():
        return listed[int(step)] if int(step) < len(listed) else None
    return next((each for each in listed if isinstance(each, dict) and step in map(each.get, NAMED_BY)), None)


def part(deployment, stack, logical, path=""):
    """A part of a resource's properties; None when it is not there."""
    return at(deployment[stack].part(logical), path)


def expect(where, found, wanted):
    """A fault when it is not what it should be. Numbers and truth values are text as well."""
    if _comparable(found) != _comparable(wanted):
        yield f"{where} is {found!r} and not {wanted!r}"


def _comparable(value):
    if isinstance(value, dict):
        return {key: _comparable(inner) for key, inner in value.items()}
    return [_comparable(inner) for inner in value] if isinstance(value, list | tuple) else as_text(value)


def within(where, found, least, most):
    """A fault when it is no number in this range."""
    try:
        number = float(found)
    except (TypeError, ValueError):
        yield f"{where} is {found!r}, which is no number"
        return
    if not least <= number <= most:
        yield f"{where} is {found} and not in {least} to {most}"


def holds(truth, fault):
    if not truth:
        yield fault


def seconds(text):
    """5s, 1m, 2h as Go writes them; None for anything else."""
    found = re.fullmatch(r"(\d+)(s|m|h)", str(text))
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else None


def refuses(stack, **parameters):
    """Whether a stack cannot be made with these parameters."""
    try:
        stack.with_(**parameters)
    except Refused:
        return True
    return False


def containers(deployment):
    """The container of each task definition, by its name."""
    definitions = deployment["service"].resources("AWS::ECS::TaskDefinition").values()
    return {each.get("Name"): each for body in definitions for each in body["Properties"].get("ContainerDefinitions", [])}


def environment(container):
    return {each.get("Name"): each.get("Value") for each in container.get("Environment", [])}


def secrets(container):
    return {each.get("Name"): each.get("ValueFrom") for each in container.get("Secrets", [])}
