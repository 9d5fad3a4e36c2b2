"""The rule about who is told of what."""

from __future__ import annotations

import re

from .rule import at, expect, holds, part, rule

# What is burnt of the error budget, how fast, over how long.
WINDOWS = {"BurnFastLong": (14.4, 3600, 10), "BurnFastShort": (14.4, 300, 1), "BurnSlowLong": (6, 21600, 10),
           "BurnSlowShort": (6, 1800, 1), "BurnThreeDaysAlarm": (1, 259200, 10)}
COMPOSITES = {
    "BurnFastAlarm": ("AND", ["BurnFastLong", "BurnFastShort"]), "BurnSlowAlarm": ("AND", ["BurnSlowLong", "BurnSlowShort"]),
    "PageAlarm": ("OR", ["BurnFastAlarm", "BurnSlowAlarm", "LatencyAlarm", "NoHealthyTargetAlarm", "NoTaskAlarm"]),
}
# The metric, its statistic, how it compares, the threshold, minutes, and what silence means.
WATCHED = {
    "NoHealthyTargetAlarm": ("HealthyHostCount", "Maximum", "<", 1, 5, "breaching"),
    "NoTaskAlarm": ("CPUUtilization", "SampleCount", "<", 1, 5, "breaching"),
    "HealthyTargetsAlarm": ("HealthyHostCount", "Minimum", "<", "min_tasks", 10, "breaching"),
    "CpuAlarm": ("CPUUtilization", "Average", ">", 80, 15, "notBreaching"),
    "MemoryAlarm": ("MemoryUtilization", "Maximum", ">", 85, 15, "notBreaching"),
    "CertificateAlarm": ("DaysToExpiry", "Minimum", "<", 21, 1440, "ignore"),
    "DatabaseStorageAlarm": ("FreeLocalStorage", "Minimum", "<", 500000000, 15, "notBreaching"),
    "DatabaseLagAlarm": ("AuroraReplicaLagMaximum", "Maximum", ">", 2000, 10, "notBreaching"),
    "DatabaseDeadlocksAlarm": ("Deadlocks", "Maximum", ">", 0, 15, "notBreaching"),
    "FilesAlarm": ("PercentIOLimit", "Average", ">", 80, 15, "notBreaching"),
}
# The same where several metrics are reckoned up: the expression, the threshold, minutes.
RECKONED = {
    "LatencyAlarm": ("IF(requests >= 100, p99, 0)", 1, 15), "DeliveryAlarm": ("FILL(page, 0) + FILL(notify, 0)", 0, 5),
    "DatabaseCapacityAlarm": ("100 * capacity / {max_capacity}", 95, 30),
    "DatabaseConnectionsAlarm": ("100 * connections / (189 * {max_capacity})", 80, 15),
}
COMPARES = {"<": "LessThanThreshold", ">": "GreaterThanThreshold"}
EVENTS = {
    "DeploymentFailedRule": ("detail/eventName", ["SERVICE_DEPLOYMENT_FAILED"]),
    "TaskFailedRule": ("detail/lastStatus", ["STOPPED"]),
    "DatabaseEventRule": ("detail/EventCategories", ["deletion", "failover", "failure", "low storage"]),
}
SINGLE = ("MetricName", "Statistic", "Period", "EvaluationPeriods", "ComparisonOperator", "Threshold")


@rule(24, "alarms page for what people feel, each says what to do, and none is forgotten",
      *(f"monitoring {kind} {path}" for kind in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
        for path in ("AlarmName", "AlarmDescription")),
      "monitoring AWS::CloudWatch::Alarm TreatMissingData", "monitoring AWS::CloudWatch::CompositeAlarm AlarmRule",
      *(f"monitoring {alarm} {path}" for alarm in (*COMPOSITES, *WATCHED, *RECKONED, "BurnThreeDaysAlarm")
        for path in ("AlarmActions", "OKActions")),
      *(f"monitoring {alarm} {path}" for alarm in WINDOWS for path in ("Threshold", "EvaluationPeriods", "Metrics/burn/Expression",
                                                                       "Metrics/errors/Expression", "ComparisonOperator",
                                                                       *(f"Metrics/{metric}/MetricStat" for metric in (
                                                                           "requests", "targets", "balancer")))),
      *(f"monitoring {alarm} {path}" for alarm in WATCHED for path in SINGLE),
      *(f"monitoring {alarm} {path}" for alarm in RECKONED for path in ("Metrics/0/Expression", "EvaluationPeriods", "Threshold",
                                                                        "ComparisonOperator")),
      *(f"monitoring {event} EventPattern/{path}" for event, (path, _) in EVENTS.items()),
      *(f"monitoring {event} Targets/notify/Arn" for event in EVENTS), "pipeline Notifications EventTypeIds",
      "pipeline Notifications Targets/0/TargetAddress")
def tells(kit):
    headings = set(re.findall(r"^#+ (\S+)$", kit.text("docs/operations.md"), re.MULTILINE))
    for each in kit.deployments:
        stack = each["monitoring"].with_(region="us-east-1")  # where all of them are
        found = stack.resources("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
        page, notify = stack.outputs["PageTopicArn"], stack.outputs["NotifyTopicArn"]
        for logical, body in found.items():
            yield from _named(each, logical, body, page, notify, headings)
        for composite, (word, parts) in COMPOSITES.items():
            wanted = f" {word} ".join(f'ALARM("{stack.ref(name)}")' for name in parts)
            yield from expect(f"when {composite} is on", at(found, f"{composite}/Properties/AlarmRule"), wanted)
        for window, (threshold, period, failures) in WINDOWS.items():
            yield from _window(stack, window, found.get(window, {}).get("Properties", {}), threshold, period, failures)
        for alarm in (*WATCHED, *RECKONED):
            if alarm in found:
                yield from _watched(each, alarm, found[alarm]["Properties"])
        away = {"bolt": "Database", "postgres": "Files"}[each.storage]
        missing = {*WATCHED, *RECKONED, "PublicCheckAlarm"} - set(found)
        yield from expect("alarms that are missing", sorted(name for name in missing if not name.startswith(away)), [])
        for event, (path, wanted) in EVENTS.items():
            told = stack.resource(event)
            if told or event != "DatabaseEventRule" or each.storage == "postgres":
                yield from expect(f"what {event} tells", at(told, f"Properties/EventPattern/{path}"), wanted)
                yield from expect(f"whom {event} tells", at(told, "Properties/Targets/notify/Arn"), notify)
        if "pipeline" in each.stacks:
            yield from _stages(each)


ACTIONS = {"PageAlarm": "page", "DeliveryAlarm": "both"}


def _named(each, logical, body, page, notify, headings):
    properties = body["Properties"]
    prefix = f"{each['monitoring'].parameters['App']}-{each.env}-"
    name = str(properties.get("AlarmName")).removeprefix(prefix)
    yield from holds(re.fullmatch(r"page|(page|notify|window)-[a-z0-9-]+", name), f"{logical} is called {name}")
    anchor = re.search(r"https://\S+#(\S+)$", str(properties.get("AlarmDescription")))
    yield from holds(anchor, f"{logical} does not say what to do")
    if anchor:
        yield from holds(anchor[1] in headings, f"docs/operations.md has no entry for {anchor[1]}")
        yield from holds(anchor[1] == name or name.startswith("window-"), f"{logical} leads to another's entry")
    if body["Type"] == "AWS::CloudWatch::Alarm":
        yield from holds(properties.get("TreatMissingData") in ("breaching", "notBreaching", "ignore"),
                         f"{logical} does not say what silence means")
        wanted = WATCHED[logical][5] if logical in WATCHED else "breaching" if logical == "PublicCheckAlarm" else "notBreaching"
        yield from expect(f"what silence means to {logical}", properties.get("TreatMissingData"), wanted)
    topics = {"page": [page], "both": [page, notify]}.get(ACTIONS.get(logical), [notify])
    for key in ("AlarmActions", "OKActions"):
        # Windows only feed other alarms.
        yield from expect(f"{key} of {logical}", properties.get(key), None if name.startswith("window-") else topics)


def _window(stack, logical, properties, threshold, period, failures):
    yield from expect(f"how fast {logical} is", properties.get("Threshold"), threshold)
    yield from expect(f"how {logical} compares", properties.get("ComparisonOperator"), COMPARES[">"])
    yield from expect(f"how often {logical} looks", properties.get("EvaluationPeriods"), 1)
    burn = f"IF(errors >= {failures}, errors / (FILL(requests, 0) + FILL(balancer, 0)) / 0.001, 0)"
    yield from expect(f"what {logical} reckons", at(properties, "Metrics/burn/Expression"), burn)
    errors = at(properties, "Metrics/errors/Expression")
    yield from expect(f"what {logical} calls errors", errors, "FILL(targets, 0) + FILL(balancer, 0)")
    for name, metric in (("requests", "RequestCount"), ("targets", "HTTPCode_Target_5XX_Count"),
                         ("balancer", "HTTPCode_ELB_5XX_Count")):
        yield from expect(f"{name} of {logical}", at(properties, f"Metrics/{name}/MetricStat"), {
            "Stat": "Sum", "Period": period, "Metric": {
                "Namespace": "AWS/ApplicationELB", "MetricName": metric,
                "Dimensions": [{"Name": "LoadBalancer", "Value": stack.parameters["LoadBalancerFullName"]}]}})


def _watched(each, alarm, properties):
    if alarm in WATCHED:
        metric, statistic, compares, threshold, minutes, _ = WATCHED[alarm]
        threshold = each.setting(threshold) if isinstance(threshold, str) else threshold
        yield from expect(f"what {alarm} watches", [properties.get("MetricName"), properties.get("Statistic")], [metric, statistic])
        yield from expect(f"how {alarm} compares", properties.get("ComparisonOperator"), COMPARES[compares])
        period = properties.get("Period")
    else:
        expression, threshold, minutes = RECKONED[alarm]
        expression = expression.format(max_capacity=each.setting("max_capacity"))
        yield from expect(f"what {alarm} reckons", at(properties, "Metrics/0/Expression"), expression)
        yield from expect(f"how {alarm} compares", properties.get("ComparisonOperator"), COMPARES[">"])
        period = next(metric["MetricStat"].get("Period") for metric in properties["Metrics"] if "MetricStat" in metric)
    yield from expect(f"the threshold of {alarm}", properties.get("Threshold"), threshold)
    yield from expect(f"the minutes of {alarm}", (period or 0) * (properties.get("EvaluationPeriods") or 0), 60 * minutes)


STAGES = [f"codepipeline-pipeline-{event}" for event in (
    "pipeline-execution-failed", "pipeline-execution-superseded", "stage-execution-canceled", "stage-execution-failed",
    "stage-execution-resumed", "stage-execution-started", "stage-execution-succeeded")]


def _stages(each):
    stack = each["pipeline"]
    told = part(each, "pipeline", "Notifications") or {}
    yield from expect("what is told of the pipeline", told.get("EventTypeIds"), STAGES)
    yield from expect("whom that is told", at(told, "Targets/0/TargetAddress"), stack.outputs["TopicArn"])
