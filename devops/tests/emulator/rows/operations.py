"""Watching: logs, alarms, dashboards, topics, events, budgets."""

from __future__ import annotations

import json

from ..kinds import KINDS, Kind

# -- logs -----------------------------------------------------------------------------------------


def _retention(work):
    if "RetentionInDays" in work.p:
        work.call("put_retention_policy", logGroupName=work.id, retentionInDays=work.p["RetentionInDays"])


KINDS["AWS::Logs::LogGroup"] = Kind(
    service="logs", create="create_log_group", id="{p[LogGroupName]}", name="LogGroupName", longest=512,
    without=("RetentionInDays", "DataProtectionPolicy", "FieldIndexPolicies", "ResourcePolicyDocument",
             "BearerTokenAuthenticationEnabled", "DeletionProtectionEnabled"),
    then=_retention, update=lambda work: None, delete="delete_log_group", key={"logGroupName": "{id}"},
    attributes={"Arn": "arn:aws:logs:{region}:{account}:log-group:{id}:*"},
)


def _filter(work):
    work.call("put_metric_filter", **work.api("put_metric_filter", work.p))
    return work.p["FilterName"]


KINDS["AWS::Logs::MetricFilter"] = Kind(
    service="logs", create=_filter, update=lambda work: _filter(work) and None, name="FilterName", longest=512,
    delete="delete_metric_filter", key={"logGroupName": "{p[LogGroupName]}", "filterName": "{id}"},
)
KINDS["AWS::Logs::QueryDefinition"] = Kind(id="{random}", attributes={"QueryDefinitionId": "{id}"})
KINDS["AWS::Logs::ResourcePolicy"] = Kind(
    service="logs", create="put_resource_policy", update="put_resource_policy", id="{p[PolicyName]}",
    delete="delete_resource_policy", key={"policyName": "{id}"},
)

# -- CloudWatch -----------------------------------------------------------------------------------


def _alarm(operation, found):
    def put(work):
        work.call(operation, **work.api(operation, work.p))
        alarm = work.call("describe_alarms", AlarmNames=[work.p["AlarmName"]],
                          AlarmTypes=["MetricAlarm", "CompositeAlarm"])[found][0]
        work.resource.attributes["Arn"] = alarm["AlarmArn"]
        return alarm["AlarmName"]

    return Kind(
        service="cloudwatch", create=put, update=lambda work: put(work) and None, name="AlarmName", longest=255,
        delete=lambda work: work.call("delete_alarms", AlarmNames=[work.id]),
    )


KINDS["AWS::CloudWatch::Alarm"] = _alarm("put_metric_alarm", "MetricAlarms")
KINDS["AWS::CloudWatch::CompositeAlarm"] = _alarm("put_composite_alarm", "CompositeAlarms")


def _dashboard(work):
    body = work.p["DashboardBody"]
    json.loads(body)
    work.call("put_dashboard", DashboardName=work.p["DashboardName"], DashboardBody=body)
    return work.p["DashboardName"]


KINDS["AWS::CloudWatch::Dashboard"] = Kind(
    service="cloudwatch", create=_dashboard, update=lambda work: _dashboard(work) and None, name="DashboardName",
    longest=255, delete=lambda work: work.call("delete_dashboards", DashboardNames=[work.id]),
)

# -- SNS and SQS ----------------------------------------------------------------------------------

TOPIC_ATTRIBUTES = ("DisplayName", "KmsMasterKeyId", "TracingConfig", "SignatureVersion")


def _topic(work):
    attributes = {name: str(work.p[name]) for name in TOPIC_ATTRIBUTES if name in work.p}
    made = work.call("create_topic", Name=work.p["TopicName"], Attributes=attributes, Tags=work.p.get("Tags", []))
    arn = made["TopicArn"]
    for subscription in work.p.get("Subscription", []):
        work.call("subscribe", TopicArn=arn, **subscription)
    return arn


def _change_topic(work):
    for name in TOPIC_ATTRIBUTES:
        if work.p.get(name) != work.old.get(name):
            work.call("set_topic_attributes", TopicArn=work.id, AttributeName=name,
                      AttributeValue=str(work.p.get(name, "")))


KINDS["AWS::SNS::Topic"] = Kind(
    service="sns", create=_topic, update=_change_topic, name="TopicName", longest=256,
    delete="delete_topic", key={"TopicArn": "{id}"},
    attributes={"TopicArn": lambda work: work.id, "TopicName": lambda work: work.id.rsplit(":", 1)[1]},
)


def _subscription(work):
    rest = {name: value if isinstance(value, str) else json.dumps(value) for name, value in work.p.items()
            if name not in ("TopicArn", "Protocol", "Endpoint", "Region")}
    return work.call("subscribe", TopicArn=work.p["TopicArn"], Protocol=work.p["Protocol"],
                     Endpoint=work.p["Endpoint"], Attributes=rest, ReturnSubscriptionArn=True)["SubscriptionArn"]


KINDS["AWS::SNS::Subscription"] = Kind(
    service="sns", create=_subscription, delete="unsubscribe", key={"SubscriptionArn": "{id}"},
    attributes={"Arn": lambda work: work.id},
)


def _topic_policy(work):
    for topic in work.p["Topics"]:
        work.call("set_topic_attributes", TopicArn=topic, AttributeName="Policy",
                  AttributeValue=json.dumps(work.p["PolicyDocument"]))
    return work.fill("{stack}-{logical}-{random}")


KINDS["AWS::SNS::TopicPolicy"] = Kind(
    service="sns", create=_topic_policy, update=lambda work: _topic_policy(work) and None,
    attributes={"Id": lambda work: work.id},
)
KINDS["AWS::SQS::Queue"] = Kind(
    service="sqs", create=lambda work: work.call("create_queue", QueueName=work.p["QueueName"], Attributes={
        name: value if isinstance(value, str) else json.dumps(value) for name, value in work.p.items()
        if name not in ("QueueName", "Tags")})["QueueUrl"],
    name="QueueName", longest=80, delete="delete_queue", key={"QueueUrl": "{id}"},
    attributes={"Arn": lambda work: f"arn:aws:sqs:{work.region}:{work.account}:{work.id.rsplit('/', 1)[1]}",
                "QueueName": lambda work: work.id.rsplit("/", 1)[1], "QueueUrl": lambda work: work.id},
)


def _queue_policy(work):
    for queue in work.p["Queues"]:
        work.call("set_queue_attributes", QueueUrl=queue, Attributes={"Policy": json.dumps(work.p["PolicyDocument"])})
    return work.fill("{stack}-{logical}-{random}")


KINDS["AWS::SQS::QueuePolicy"] = Kind(
    service="sqs", create=_queue_policy, update=lambda work: _queue_policy(work) and None,
)

# -- events and budgets ---------------------------------------------------------------------------


def _rule(work):
    properties = {name: value for name, value in work.p.items() if name not in ("Targets", "Tags")}
    work.answer = work.call("put_rule", **work.api("put_rule", properties))
    work.resource.attributes["Arn"] = work.answer["RuleArn"]
    return properties["Name"]


def _targets(work):
    before = {target["Id"] for target in (work.old or {}).get("Targets", [])}
    after = {target["Id"] for target in work.p.get("Targets", [])}
    if before - after:
        work.call("remove_targets", Rule=work.id, Ids=sorted(before - after))
    if after:
        work.call("put_targets", Rule=work.id, Targets=work.api("put_targets", work.p["Targets"], "Targets"))


def _delete_rule(work):
    targets = [target["Id"] for target in work.p.get("Targets", [])]
    if targets:
        work.call("remove_targets", Rule=work.id, Ids=targets)
    work.call("delete_rule", Name=work.id)


KINDS["AWS::Events::Rule"] = Kind(
    service="events", create=_rule, update=lambda work: _rule(work) and None, then=_targets, delete=_delete_rule,
    name="Name",
)


def _budget(work):
    budget = {"BudgetName": work.fill("{stack}-{logical}-{random}"), **work.p["Budget"]}
    properties = {name: value for name, value in work.p.items() if name != "ResourceTags"}
    work.call("create_budget", AccountId=work.account, **work.api("create_budget", {**properties, "Budget": budget}))
    return budget["BudgetName"]


KINDS["AWS::Budgets::Budget"] = Kind(
    service="budgets", create=_budget,
    delete=lambda work: work.call("delete_budget", AccountId=work.account, BudgetName=work.id),
    attributes={"Id": lambda work: work.id},
)
