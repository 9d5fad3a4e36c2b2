"""Rules about tasks and how they are replaced."""

from __future__ import annotations

import json
import re

import wiring

from .rule import containers, environment, expect, holds, part, refuses, rule, seconds, within

APP = "birthday-demo"
CONTAINER = f"{APP} TaskDefinition ContainerDefinitions/0"
MIGRATION = f"{APP} MigrationTaskDefinition ContainerDefinitions/0"
SERVE = "app/serve.go"
SETTINGS = "app/settings.go"
IMAGE = "devops/Dockerfile"


@rule(1, "a task that is asked to stop serves until the balancer has looked away",
      f"{CONTAINER}/Environment/BIRTHDAY_DRAIN_DELAY")
def drains(kit):
    for each in kit.deployments:
        delay = seconds(environment(containers(each).get("app", {})).get("BIRTHDAY_DRAIN_DELAY"))
        yield from within("the delay before a task stops taking requests", delay, 2, 15)
    yield from holds('"drain-delay"' in kit.text(SETTINGS), "the service has no such setting")
    text = kit.text(SERVE)
    yield from holds("public.Drain(ctx, s.DrainDelay)" in text, "the service does not wait before it stops")
    # What is added last is stopped first.
    yield from holds(0 <= text.find('"stop the public port"') < text.find('"turn readiness red"'),
                     "readiness does not turn red before the port is stopped")
    yield from holds(re.search(r"^STOPSIGNAL SIGTERM$", kit.text(IMAGE), re.MULTILINE), "the image is not stopped by SIGTERM")
    yield from holds(re.search(r"\bBIRTHDAY_DRAIN_DELAY=([2-9]|1\d)s\b", kit.text(IMAGE)), "the image has no delay")


@rule(2, "requests at work end before the kill, and a deploy does not wait for nothing",
      f"{APP} TargetGroup TargetGroupAttributes/deregistration_delay.timeout_seconds",
      f"{CONTAINER}/StopTimeout", f"{CONTAINER}/Environment/BIRTHDAY_SHUTDOWN_TIMEOUT")
def ends_in_time(kit):
    longest = kit.duration(SERVE, "WriteTimeout") or 0
    flush = kit.duration("app/sentry.go", "flushTimeout") or 0
    for each in kit.deployments:
        delay = part(each, "service", "TargetGroup", "TargetGroupAttributes/deregistration_delay.timeout_seconds/Value")
        yield from within("the balancer's wait for requests at work", delay, longest, 30)
        container = containers(each).get("app", {})
        given = environment(container)
        drain, shutdown = seconds(given.get("BIRTHDAY_DRAIN_DELAY")) or 0, seconds(given.get("BIRTHDAY_SHUTDOWN_TIMEOUT"))
        yield from within("the time to shut down", shutdown, longest, 60)
        yield from within("the time until the kill", container.get("StopTimeout"), drain + (shutdown or 0) + flush + 1, 120)


@rule(3, "the balancer ends idle connections, and never the service",
      "platform LoadBalancer LoadBalancerAttributes/idle_timeout.timeout_seconds")
def ends_idle_connections(kit):
    for each in kit.deployments:
        idle = part(each, "platform", "LoadBalancer", "LoadBalancerAttributes/idle_timeout.timeout_seconds/Value")
        own = kit.duration(SERVE, "IdleTimeout") or 0
        # An answer that takes its time is not cut off by the balancer either.
        longest = max(kit.duration(SERVE, name) or 999 for name in ("HeaderTimeout", "ReadTimeout", "WriteTimeout"))
        yield from within("the balancer's idle time", idle, longest + 1, own - 5)


HEALTH = {
    "HealthCheckProtocol": "HTTP", "HealthCheckPort": "8081", "HealthCheckPath": "/healthz", "HealthCheckIntervalSeconds": 10,
    "HealthCheckTimeoutSeconds": 4, "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 3, "Matcher/HttpCode": "200",
}


@rule(4, "health is asked for often, on the internal port, and does not depend on the store",
      *(f"{APP} TargetGroup {path}" for path in HEALTH), f"{APP} TargetGroup Port", f"{CONTAINER}/HealthCheck/Command",
      f"{APP} TaskSecurityGroup SecurityGroupIngress")
def asks_for_health(kit):
    for each in kit.deployments:
        for path, wanted in HEALTH.items():
            yield from expect(f"{path} of the target group", part(each, "service", "TargetGroup", path), wanted)
        yield from expect("the port of requests", part(each, "service", "TargetGroup", "Port"), 8080)
        command = containers(each).get("app", {}).get("HealthCheck", {}).get("Command")
        yield from expect("the container's check", command, ["CMD", "/birthday-demo", "healthcheck"])
        balancer = each["platform"].outputs["LoadBalancerSecurityGroup"]
        rules = part(each, "service", "TaskSecurityGroup", "SecurityGroupIngress") or []
        for ingress in rules:
            yield from expect("who reaches a task", ingress.get("SourceSecurityGroupId"), balancer)
            yield from holds(not {"CidrIp", "CidrIpv6"} & set(ingress), "tasks are open to addresses")
        opened = sorted((ingress.get("IpProtocol"), ingress.get("FromPort"), ingress.get("ToPort")) for ingress in rules
                        if ingress.get("FromPort") and ingress.get("ToPort") and ingress.get("IpProtocol"))
        yield from expect("what is open of a task", opened, [("tcp", 8080, 8080), ("tcp", 8081, 8081)])
        described = [ingress.get("Description") for ingress in rules]
        yield from expect("what that is for", described, ["requests", "health"])
    admin = kit.text("app/admin/admin.go")
    yield from holds('get("/healthz", getHealth)' in admin, "the internal port does not tell its health")
    yield from holds(re.search(r'func getHealth\(.*\) error \{ return say\(w, "ok"\) \}', admin),
                     "health depends on more than the process")


@rule(5, "a slow start is not taken for a sick task",
      f"{APP} Service HealthCheckGracePeriodSeconds", f"{CONTAINER}/HealthCheck/StartPeriod")
def waits_for_a_start(kit):
    for each in kit.deployments:
        grace = part(each, "service", "Service", "HealthCheckGracePeriodSeconds")
        yield from within("the grace period of the service", grace, 20, 120)
        start = containers(each).get("app", {}).get("HealthCheck", {}).get("StartPeriod")
        yield from within("the grace period of the container's check", start, 20, 120)


@rule(6, "tasks overlap where that is possible, and never where it is not",
      f"{APP} Service DeploymentConfiguration/MinimumHealthyPercent",
      f"{APP} Service DeploymentConfiguration/MaximumPercent", f"{APP} Service AvailabilityZoneRebalancing")
def overlaps(kit):
    for each in kit.deployments:
        least, most, moved = {"bolt": (0, 100, "DISABLED"), "postgres": (100, 200, "ENABLED")}[each.storage]
        told = part(each, "service", "Service", "DeploymentConfiguration") or {}
        yield from expect(f"{each.storage}: least of the tasks in a deploy", told.get("MinimumHealthyPercent"), least)
        yield from expect(f"{each.storage}: most of the tasks in a deploy", told.get("MaximumPercent"), most)
        # It would start a task in another zone before it stops one.
        yield from expect(f"{each.storage}: rebalancing", part(each, "service", "Service", "AvailabilityZoneRebalancing"), moved)


@rule(9, "a release that does not start is given up soon, and taken back",
      f"{APP} Service DeploymentConfiguration/DeploymentCircuitBreaker")
def gives_up(kit):
    for each in kit.deployments:
        breaker = part(each, "service", "Service", "DeploymentConfiguration/DeploymentCircuitBreaker") or {}
        yield from expect("the circuit breaker", breaker.get("Enable"), True)
        yield from expect("its rollback", breaker.get("Rollback"), True)
        threshold = breaker.get("ThresholdConfiguration", {})
        yield from expect("what it counts", threshold.get("Type"), "COUNT")
        yield from within("the failures that it takes", threshold.get("Value"), 2, 3)


ALARMS = ("ErrorsAlarm", "LatencyAlarm", "HostsAlarm")


@rule(10, "a release that answers wrong or late is taken back, unless hardly anybody asked",
      f"{APP} Service DeploymentConfiguration/Alarms",
      *(f"{APP} {alarm} {path}" for alarm in ALARMS for path in ("ComparisonOperator", "Threshold", "EvaluationPeriods",
                                                                 "TreatMissingData")),
      *(f"{APP} {alarm} Metrics/{path}" for alarm, path in (
          ("ErrorsAlarm", "ratio/Expression"), ("ErrorsAlarm", "answers"), ("ErrorsAlarm", "errors"),
          ("ErrorsAlarm", "requests"), ("ErrorsAlarm", "targets"), ("ErrorsAlarm", "balancer"),
          ("LatencyAlarm", "slowest/Expression"), ("LatencyAlarm", "latency"), ("LatencyAlarm", "requests"))),
      *(f"{APP} HostsAlarm {path}" for path in ("Namespace", "MetricName", "Dimensions", "Statistic", "Period")))
def takes_back(kit):
    for each in kit.deployments:
        stack = each["service"]
        told = part(each, "service", "Service", "DeploymentConfiguration/Alarms") or {}
        yield from expect("the alarms of a deploy", told.get("Enable"), True)
        yield from expect("their rollback", told.get("Rollback"), True)
        yield from expect("what they are", told.get("AlarmNames"), [stack.ref(alarm) for alarm in ALARMS])
        for alarm in ALARMS:
            yield from _rollback_alarm(each, alarm)
        errors = _metrics(each, "ErrorsAlarm")
        yield from expect("the ratio", errors["ratio"], "IF(answers >= 20, 100 * errors / answers, 0)")
        yield from expect("its answers", errors["answers"], "FILL(requests, 0) + FILL(balancer, 0)")
        yield from expect("its errors", errors["errors"], "FILL(targets, 0) + FILL(balancer, 0)")
        yield from expect("its metrics", [errors[name] for name in ("requests", "targets", "balancer")], [
            ("RequestCount", "Sum"), ("HTTPCode_Target_5XX_Count", "Sum"), ("HTTPCode_ELB_5XX_Count", "Sum")])
        latency = _metrics(each, "LatencyAlarm")
        yield from expect("the latency", latency["slowest"], "IF(FILL(requests, 0) >= 20, latency, 0)")
        yield from expect("its metrics", [latency[name] for name in ("latency", "requests")], [
            ("TargetResponseTime", "p99"), ("RequestCount", "Sum")])


THRESHOLDS = {"ErrorsAlarm": ("GreaterThanThreshold", 1, 10), "LatencyAlarm": ("GreaterThanThreshold", 0.2, 5),
              "HostsAlarm": ("LessThanThreshold", 1, 1)}


def _rollback_alarm(deployment, alarm):
    properties = part(deployment, "service", alarm)
    operator, least, most = THRESHOLDS[alarm]
    yield from expect(f"how {alarm} compares", properties.get("ComparisonOperator"), operator)
    yield from within(f"the threshold of {alarm}", properties.get("Threshold"), least, most)
    # Bolt's gap between two tasks must not take every release back.
    yield from within(f"the minutes of {alarm}", properties.get("EvaluationPeriods"),
                      *((4, 10) if deployment.storage == "bolt" else (2, 5)))
    yield from expect(f"what silence means to {alarm}", properties.get("TreatMissingData"), "notBreaching")
    stats = [metric["MetricStat"] for metric in properties.get("Metrics", []) if "MetricStat" in metric]
    if alarm == "HostsAlarm":
        yield from expect("the hosts", [properties.get(key) for key in ("MetricName", "Statistic")],
                          ["HealthyHostCount", "Minimum"])
        stats = [{"Period": properties.get("Period"), "Metric": properties}]
    for stat in stats:
        metric = stat.get("Metric", {})
        yield from expect(f"the period of {alarm}", stat.get("Period"), 60)
        yield from expect(f"where {alarm} looks", metric.get("Namespace"), "AWS/ApplicationELB")
        # Not the service's own: it names the alarms, and neither could be made before the other.
        own = {"LoadBalancer": deployment["service"].parameters["LoadBalancerFullName"],
               "TargetGroup": deployment["service"].attribute("TargetGroup", "TargetGroupFullName")}
        if metric.get("MetricName") == "HTTPCode_ELB_5XX_Count":
            own.pop("TargetGroup")
        dimensions = {each.get("Name"): each.get("Value") for each in metric.get("Dimensions", [])}
        yield from expect(f"whom {alarm} watches", dimensions, own)


def _metrics(deployment, alarm):
    """The expression of each metric of an alarm, or its name and statistic; None for one that is not as it should be."""
    found = dict.fromkeys(("ratio", "answers", "errors", "requests", "targets", "balancer", "slowest", "latency"))
    listed = part(deployment, "service", alarm, "Metrics") or []
    for metric in listed:
        if metric.get("ReturnData", True) != (metric is listed[0]):
            continue
        stat = metric.get("MetricStat", {})
        found[metric.get("Id")] = metric.get("Expression") or (stat.get("Metric", {}).get("MetricName"), stat.get("Stat"))
    return found


@rule(11, "a deploy leaves the number of tasks alone",
      f"{APP} ScalableTarget", f"{APP} ScaleOnCpu TargetTrackingScalingPolicyConfiguration", f"{APP} ScaleOnCpu ScalingTargetId")
def leaves_the_count(kit):
    for each in kit.deployments:
        service = part(each, "service", "Service") or {}
        yield from holds("DesiredCount" not in service, "the service names a count, to which each deploy goes back")
        yield from holds("ServiceName" not in service, "the service has a name, which keeps it from being replaced")
    for each in kit.with_storage("postgres"):
        stack, target = each["service"], part(each, "service", "ScalableTarget") or {}
        yield from expect("the fewest tasks", target.get("MinCapacity"), each.setting("min_tasks"))
        yield from expect("the most tasks", target.get("MaxCapacity"), each.setting("max_tasks"))
        yield from expect("what is scaled", [target.get(key) for key in ("ServiceNamespace", "ScalableDimension", "ResourceId")], [
            "ecs", "ecs:service:DesiredCount",
            f"service/{stack.parameters['ClusterName']}/{stack.attribute('Service', 'Name')}"])
        scaling = part(each, "service", "ScaleOnCpu") or {}
        yield from expect("whose scaling it is", scaling.get("ScalingTargetId"), stack.ref("ScalableTarget"))
        told = scaling.get("TargetTrackingScalingPolicyConfiguration", {})
        yield from within("the CPU that scaling aims at", told.get("TargetValue"), 40, 75)
        yield from expect("what it looks at", told.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType"),
                          "ECSServiceAverageCPUUtilization")
        yield from within("the wait after more tasks", told.get("ScaleOutCooldown"), 30, 120)
        yield from within("the wait after fewer tasks", told.get("ScaleInCooldown"), 120, 900)
    last = kit.last
    yield from within("the fewest tasks where people are", last.setting("min_tasks"), 2, 50)


@rule(12, "what runs is named by its digest, and told by its version",
      f"{CONTAINER}/Image", f"{MIGRATION}/Image", f"{CONTAINER}/DockerLabels", f"{CONTAINER}/Environment/SENTRY_RELEASE",
      "account Repository ImageTagMutability", "account Repository ImageScanningConfiguration",
      "account Repository LifecyclePolicy")
def names_the_image(kit):
    tag = wiring.IMAGE.split("@")[0] + ":latest"
    for each in kit.deployments:
        stack = each["service"]
        for parameter in ("Image", "MigrationImage"):
            yield from holds(refuses(stack, **{parameter: tag}), f"{parameter} takes a tag, which can move")
        for name, container in containers(each).items():
            yield from expect(f"the image of {name}", container.get("Image"), wiring.IMAGE)
        app = containers(each).get("app", {})
        version = {"org.opencontainers.image.version": wiring.COMMIT}
        yield from expect("the label of the container", app.get("DockerLabels"), version)
        yield from expect("the release that errors are reported of", environment(app).get("SENTRY_RELEASE"), wiring.COMMIT)
        repository = part(each, "account", "Repository")
        yield from expect("tags", repository.get("ImageTagMutability"), "IMMUTABLE")
        yield from expect("the scan", repository.get("ImageScanningConfiguration"), {"ScanOnPush": True})
        yield from _lifecycle(repository.get("LifecyclePolicy", {}).get("LifecyclePolicyText"), each.setting("keep_images"))
    yield from holds("'Version'" in wiring.read("vars/common.yml")["stacks"]["service"]["tags"], "no tag tells the version")


def _lifecycle(text, keep):
    """Untagged images go after some days, tagged ones when there are many newer."""
    try:
        kept = {each["selection"]["tagStatus"]: each["selection"] for each in json.loads(text)["rules"]}
    except (KeyError, TypeError, ValueError):
        yield "old images are kept for ever"
        return
    yield from within("days of images without a tag", kept.get("untagged", {}).get("countNumber"), 1, 14)
    yield from expect("images with a tag", kept.get("tagged", {}).get("countNumber"), keep)


@rule(15, "a slow log does not stop the service",
      *(f"{container}/LogConfiguration" for container in (CONTAINER, MIGRATION)))
def logs_without_waiting(kit):
    for each in kit.deployments:
        stack = each["service"]
        for name, container in containers(each).items():
            told = container.get("LogConfiguration", {})
            yield from expect(f"the log of {name}", told, {"LogDriver": "awslogs", "Options": {
                "awslogs-group": stack.ref("LogGroup"), "awslogs-region": stack.region,
                "awslogs-stream-prefix": {"app": "serve"}.get(name, name), "mode": "non-blocking", "max-buffer-size": "25m"}})


@rule(17, "a task that is taken over can do little",
      *(f"{container}/{path}" for container in (CONTAINER, MIGRATION)
        for path in ("User", "ReadonlyRootFilesystem", "LinuxParameters")),
      f"{CONTAINER}/Ulimits", f"{APP} Service EnableExecuteCommand", "platform Cluster Configuration")
def hardens(kit):
    for each in kit.deployments:
        for name, container in containers(each).items():
            yield from expect(f"the user of {name}", container.get("User"), "65532:65532")
            yield from expect(f"whether {name} only reads its root", container.get("ReadonlyRootFilesystem"), True)
            yield from expect(f"what Linux lets {name}", container.get("LinuxParameters"),
                              {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}})
            yield from holds(not container.get("Privileged"), f"{name} is privileged")
        files = containers(each).get("app", {}).get("Ulimits")
        yield from expect("open files", files, [{"Name": "nofile", "SoftLimit": 65536, "HardLimit": 65536}])
        yield from expect("exec", part(each, "service", "Service", "EnableExecuteCommand"), False)
        yield from expect("the log of exec", part(each, "platform", "Cluster", "Configuration"),
                          {"ExecuteCommandConfiguration": {"Logging": "NONE"}})
    last_stage = kit.text(IMAGE).rpartition("\nFROM ")[2]
    yield from holds(last_stage.startswith("scratch\n"), "the image is not empty but for the service")
    yield from holds("\nUSER 65532:65532\n" in last_stage, "the image runs as root")


@rule(22, "tasks run on ARM, on the newest platform, and the image is built for it",
      *(f"{APP} {definition} RuntimePlatform" for definition in ("TaskDefinition", "MigrationTaskDefinition")),
      f"{APP} Service PlatformVersion", f"{APP} Service LaunchType")
def runs_on_arm(kit):
    for each in kit.deployments:
        for logical, body in each["service"].resources("AWS::ECS::TaskDefinition").items():
            yield from expect(f"the platform of {logical}", body["Properties"].get("RuntimePlatform"),
                              {"CpuArchitecture": "ARM64", "OperatingSystemFamily": "LINUX"})
        yield from expect("the platform's version", part(each, "service", "Service", "PlatformVersion"), "LATEST")
        yield from expect("what tasks are launched on", part(each, "service", "Service", "LaunchType"), "FARGATE")
    yield from holds(re.search(r"PLATFORMS:-[\w/,]*linux/arm64", kit.text("devops/tools/image.sh")),
                     "the image is not built for ARM")
