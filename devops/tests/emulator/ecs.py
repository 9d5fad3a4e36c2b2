"""ECS that runs tasks: moto keeps clusters, definitions and services, and starts nothing.

The control file says how it goes, at the time when a deployment or a task starts. A deployment of the images that
already run comes up whatever it says: so a rescue succeeds where the deploy before it failed.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import uuid

from botocore.exceptions import ClientError

from .server import Fault

ANSWERS = {}


def now():
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass
class Service:
    """What moto forgets of a service."""

    arguments: dict  # of create_service and update_service, the last one of each name
    definition: str  # what was asked for
    running: str | None  # what its tasks run
    rollout: str = "COMPLETED"
    deployment: str = dataclasses.field(default_factory=lambda: f"ecs-svc/{uuid.uuid4().int % 10**19}")
    at: datetime.datetime = dataclasses.field(default_factory=now)


class Ecs:
    def __init__(self, emulator):
        self.emulator = emulator
        self.services: dict[str, Service] = {}
        self.tasks: dict[str, dict] = {}  # of run_task

    def definition(self, region, name):
        return self.emulator.moto("ecs", region, "describe_task_definition", taskDefinition=name)["taskDefinition"]

    def deployed(self, region, arn, arguments):
        """A service was created or got another definition."""
        old = self.services.get(arn)
        merged = {**(old.arguments if old else {}), **arguments}
        if old and "taskDefinition" not in arguments and not arguments.get("forceNewDeployment"):
            old.arguments = merged
            return
        definition = self.definition(region, merged["taskDefinition"])
        name = definition["taskDefinitionArn"]
        new = self.services[arn] = Service(merged, name, name)
        before = old.running if old else None
        if before and _images(definition) == _images(self.definition(region, before)):
            return
        if self.emulator.control("rollout", "COMPLETED") != "COMPLETED":
            new.rollout, new.running = self.emulator.control("rollout"), before
        elif self.emulator.control("running_definition") == "old" and before:
            new.definition = new.running = before

    def tasks_of(self, region, service):
        """The running tasks of a service as moto describes it."""
        ours = self.services.get(service["serviceArn"])
        if not ours or not ours.running or service["status"] != "ACTIVE":
            return []
        cluster = service["clusterArn"].rsplit("/", 1)[1]
        definition = self.definition(region, ours.running)
        found = []
        for number in range(service["desiredCount"]):
            seed = f"{service['serviceArn']} {ours.running} {number}"
            identity = uuid.uuid5(uuid.NAMESPACE_URL, seed).hex
            arn = f"arn:aws:ecs:{region}:{self.emulator.account}:task/{cluster}/{identity}"
            found.append({
                **self._task(region, arn, service["clusterArn"], definition),
                "group": f"service:{service['serviceName']}",
                "startedBy": ours.deployment,
                "startedAt": ours.at,
                "lastStatus": "RUNNING",
                "desiredStatus": "RUNNING",
                "healthStatus": "HEALTHY",
                "connectivity": "CONNECTED",
            })
        return found

    def _task(self, region, arn, cluster, definition):
        return {
            "taskArn": arn,
            "clusterArn": cluster,
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "cpu": definition.get("cpu"),
            "memory": definition.get("memory"),
            "createdAt": now(),
            "containers": [
                {"name": container["name"], "image": container["image"], "taskArn": arn, "lastStatus": "RUNNING",
                 "healthStatus": "HEALTHY", "imageDigest": self._digest(region, container["image"])}
                for container in definition["containerDefinitions"]
            ],
        }

    def _digest(self, region, image):
        if "@" in image:
            return image.split("@")[1]
        name, _, tag = image.rpartition(":")
        try:
            found = self.emulator.moto("ecr", region, "describe_images", repositoryName=name.split("/", 1)[-1],
                                       imageIds=[{"imageTag": tag}])
            return found["imageDetails"][0]["imageDigest"]
        except Exception:  # noqa: BLE001, of another registry
            return "sha256:" + hashlib.sha256(image.encode()).hexdigest()

    def cluster_services(self, region, cluster):
        moto = self.emulator.moto
        arns = moto("ecs", region, "list_services", cluster=cluster, maxResults=100)["serviceArns"]
        if not arns:
            return []
        return moto("ecs", region, "describe_services", cluster=cluster, services=arns)["services"]

    # -- tasks that are run once ------------------------------------------------------------------

    def run(self, call, cluster, definition):
        overrides = {each["name"]: each for each in call.arguments.get("overrides", {}).get("containerOverrides", [])}
        strangers = overrides.keys() - {container["name"] for container in definition["containerDefinitions"]}
        if strangers:
            raise Fault("InvalidParameterException", "Override for container named "
                        f"{', '.join(sorted(strangers))} is not a container in the TaskDefinition.")
        first = definition["containerDefinitions"][0]
        command = overrides.get(first["name"], {}).get("command") or first.get("command", [])
        migrates = command[:1] == ["migrate"]
        code = int(self.emulator.control("migration_exit_code" if migrates else "task_exit_code", 0))
        arn = f"arn:aws:ecs:{call.region}:{self.emulator.account}:task/{cluster['clusterName']}/{uuid.uuid4().hex}"
        kept = {
            **self._task(call.region, arn, cluster["clusterArn"], definition),
            "group": call.arguments.get("group", f"family:{definition['family']}"),
            "startedBy": call.arguments.get("startedBy", ""),
            "overrides": call.arguments.get("overrides", {}),
            "startedAt": now(),
            "lastStatus": "PROVISIONING",
            "desiredStatus": "RUNNING",
            "ends": now() + datetime.timedelta(seconds=float(self.emulator.control("task_seconds", 0))),
            "code": code,
        }
        self.tasks[kept["taskArn"]] = kept
        self._log(call.region, definition, kept, command, code)
        return self.shown(kept, started=True)

    def _log(self, region, definition, task, command, code):
        for container in definition["containerDefinitions"]:
            log = container.get("logConfiguration", {})
            options = log.get("options", {})
            if log.get("logDriver") != "awslogs":
                continue
            stream = f"{options['awslogs-stream-prefix']}/{container['name']}/{task['taskArn'].rsplit('/', 1)[1]}"
            where = {"logGroupName": options["awslogs-group"], "logStreamName": stream}
            aws, region = self.emulator.moto, options.get("awslogs-region", region)
            aws("logs", region, "create_log_stream", **where)
            said = f"{' '.join(command) or container['name']}: {'done' if code == 0 else 'failed'} ({code})"
            at = int(now().timestamp() * 1000)
            aws("logs", region, "put_log_events", **where, logEvents=[{"timestamp": at, "message": said}])

    def stop(self, task, reason, stop_code="UserInitiated"):
        task |= {"ends": now(), "reason": reason, "stopped_by": stop_code}

    def shown(self, task, started=False):
        """A task of run_task at this moment."""
        found = {key: value for key, value in task.items() if key not in ("ends", "code", "reason", "stopped_by")}
        found["containers"] = [dict(container) for container in task["containers"]]
        if not started and now() >= task["ends"]:
            found |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stoppedAt": task["ends"],
                      "stoppingAt": task["ends"], "stopCode": task.get("stopped_by", "EssentialContainerExited"),
                      "stoppedReason": task.get("reason", "Essential container in task exited")}
            for container in found["containers"]:
                container |= {"lastStatus": "STOPPED", "exitCode": task["code"]}
        elif not started:
            found["lastStatus"] = "RUNNING"
        return found


def _images(definition):
    return tuple(container["image"] for container in definition["containerDefinitions"])


def answers(operation):
    def register(function):
        ANSWERS["ecs", operation] = function
        return function

    return register


@answers("CreateService")
def create_service(emulator, call):
    answer = emulator.forward(call)
    emulator.ecs.deployed(call.region, answer["service"]["serviceArn"], call.arguments)
    return {"service": _seen(emulator, call.region, answer["service"])}


@answers("UpdateService")
def update_service(emulator, call):
    answer = emulator.forward(call)
    emulator.ecs.deployed(call.region, answer["service"]["serviceArn"], call.arguments)
    return {"service": _seen(emulator, call.region, answer["service"])}


ECHOED = ("deploymentConfiguration", "healthCheckGracePeriodSeconds", "loadBalancers", "enableExecuteCommand",
          "enableECSManagedTags", "propagateTags", "availabilityZoneRebalancing", "networkConfiguration",
          "capacityProviderStrategy", "platformVersion")


def _seen(emulator, region, service):
    ours = emulator.ecs.services.get(service["serviceArn"])
    if not ours:
        return service
    running = len(emulator.ecs.tasks_of(region, service))
    wanted = service["desiredCount"]
    said = {"COMPLETED": "completed.", "IN_PROGRESS": "in progress."}.get(
        ours.rollout, "failed: tasks failed to start. (deployment circuit breaker)")
    steady = f"(service {service['serviceName']}) has reached a steady state."
    return {
        **service,
        **{name: ours.arguments[name] for name in ECHOED if name in ours.arguments},
        "taskDefinition": ours.definition,
        "runningCount": running,
        "pendingCount": wanted - running,
        "deployments": [{
            "id": ours.deployment,
            "status": "PRIMARY",
            "taskDefinition": ours.definition,
            "desiredCount": wanted,
            "runningCount": running,
            "pendingCount": wanted - running,
            "failedTasks": 0 if ours.rollout == "COMPLETED" else 3,
            "createdAt": ours.at,
            "updatedAt": ours.at,
            "launchType": "FARGATE",
            "rolloutState": ours.rollout,
            "rolloutStateReason": f"ECS deployment {ours.deployment} {said}",
        }] if service["status"] == "ACTIVE" else [],
        "events": [{"id": str(uuid.uuid4()), "createdAt": ours.at,
                    "message": steady if ours.rollout == "COMPLETED" else f"(service {service['serviceName']}) "
                    f"deployment {ours.deployment} deployment failed: tasks failed to start."}],
    }


@answers("DescribeServices")
def describe_services(emulator, call):
    answer = emulator.forward(call)
    answer["services"] = [_seen(emulator, call.region, service) for service in answer["services"]]
    return answer


@answers("ListTasks")
def list_tasks(emulator, call):
    a, ecs = call.arguments, emulator.ecs
    cluster = a.get("cluster", "default").rsplit("/", 1)[-1]
    emulator.moto("ecs", call.region, "list_services", cluster=cluster)  # is the cluster there?
    wanted = a.get("desiredStatus", "RUNNING")
    found = []
    if "serviceName" in a:
        name = a["serviceName"].rsplit("/", 1)[-1]
        services = [each for each in ecs.cluster_services(call.region, cluster) if each["serviceName"] == name]
        if not services:
            raise Fault("ServiceNotFoundException", "Service not found.")
    else:
        services = ecs.cluster_services(call.region, cluster)
        found = [ecs.shown(task) for task in ecs.tasks.values()
                 if task["clusterArn"].endswith(f":{call.region}:{emulator.account}:cluster/{cluster}")]
    for service in services:
        found += ecs.tasks_of(call.region, service)
    if "startedBy" in a:
        found = [task for task in found if task["startedBy"] == a["startedBy"]]
    if "family" in a:
        found = [task for task in found if f":task-definition/{a['family']}:" in task["taskDefinitionArn"]]
    return {"taskArns": [task["taskArn"] for task in found if task["desiredStatus"] == wanted]}


@answers("DescribeTasks")
def describe_tasks(emulator, call):
    a, ecs = call.arguments, emulator.ecs
    cluster = a.get("cluster", "default").rsplit("/", 1)[-1]
    known = {task["taskArn"]: ecs.shown(task) for task in ecs.tasks.values()}
    for service in ecs.cluster_services(call.region, cluster):
        known |= {task["taskArn"]: task for task in ecs.tasks_of(call.region, service)}
    known |= {arn.rsplit("/", 1)[1]: task for arn, task in known.items()}
    asked = a.get("tasks", [])
    if not asked:
        raise Fault("InvalidParameterException", "Tasks cannot be empty.")
    return {
        "tasks": [known[task] for task in asked if task in known],
        "failures": [{"arn": task, "reason": "MISSING"} for task in asked if task not in known],
    }


@answers("RunTask")
def run_task(emulator, call):
    """Moto's own does not know that on Fargate the task has memory, not its containers."""
    a, moto = call.arguments, emulator.moto
    clusters = moto("ecs", call.region, "describe_clusters", clusters=[a.get("cluster", "default")])["clusters"]
    if not clusters:
        raise Fault("ClusterNotFoundException", "Cluster not found.")
    definition = emulator.ecs.definition(call.region, a["taskDefinition"])
    if definition["status"] != "ACTIVE":
        raise Fault("InvalidParameterException", "TaskDefinition is inactive")
    network = a.get("networkConfiguration", {}).get("awsvpcConfiguration")
    if not network:
        raise Fault("InvalidParameterException",
                    "Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    try:
        moto("ec2", call.region, "describe_subnets", SubnetIds=network["subnets"])
        moto("ec2", call.region, "describe_security_groups", GroupIds=network.get("securityGroups", []))
    except ClientError as error:
        raise Fault("InvalidParameterException", error.response["Error"]["Message"]) from error
    return {"tasks": [emulator.ecs.run(call, clusters[0], definition) for _ in range(a.get("count", 1))],
            "failures": []}


@answers("StopTask")
def stop_task(emulator, call):
    for arn, task in emulator.ecs.tasks.items():
        if call.arguments["task"] in (arn, arn.rsplit("/", 1)[1]):
            emulator.ecs.stop(task, call.arguments.get("reason", "Task stopped by user"))
            return {"task": emulator.ecs.shown(task)}
    raise Fault("InvalidParameterException", "The referenced task was not found.")
