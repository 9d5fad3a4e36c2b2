"""How requests come in: load balancers, names, the firewall."""

from __future__ import annotations

from ..kinds import KINDS, Kind


def _attributes(operation, argument, property_name):
    def put(work):
        if work.p.get(property_name):
            work.call(operation, **{argument: work.id, "Attributes": work.p[property_name]})

    return put


def _change_balancer(work):
    changed = {name for name in work.p if work.p[name] != work.old.get(name)}
    if "SecurityGroups" in changed:
        work.call("set_security_groups", LoadBalancerArn=work.id, SecurityGroups=work.p["SecurityGroups"])
    if "Subnets" in changed:
        work.call("set_subnets", LoadBalancerArn=work.id, Subnets=work.p["Subnets"])


KINDS["AWS::ElasticLoadBalancingV2::LoadBalancer"] = Kind(
    service="elbv2", create="create_load_balancer", id="{answer[LoadBalancers][0][LoadBalancerArn]}", name="Name",
    longest=32, without=("LoadBalancerAttributes", "MinimumLoadBalancerCapacity"),
    then=_attributes("modify_load_balancer_attributes", "LoadBalancerArn", "LoadBalancerAttributes"),
    update=_change_balancer, delete="delete_load_balancer", key={"LoadBalancerArn": "{id}"},
    attributes={
        "LoadBalancerArn": "{id}",
        "DNSName": "{answer[LoadBalancers][0][DNSName]}",
        "CanonicalHostedZoneID": "{answer[LoadBalancers][0][CanonicalHostedZoneId]}",
        "LoadBalancerName": "{answer[LoadBalancers][0][LoadBalancerName]}",
        "LoadBalancerFullName": lambda work: work.id.split(":loadbalancer/")[1],
        "SecurityGroups": lambda work: work.p.get("SecurityGroups", []),
    },
)
KINDS["AWS::ElasticLoadBalancingV2::TargetGroup"] = Kind(
    service="elbv2", create="create_target_group", id="{answer[TargetGroups][0][TargetGroupArn]}", name="Name",
    longest=32, without=("TargetGroupAttributes", "Targets"),
    then=_attributes("modify_target_group_attributes", "TargetGroupArn", "TargetGroupAttributes"),
    update="modify_target_group", delete="delete_target_group", key={"TargetGroupArn": "{id}"},
    attributes={
        "TargetGroupArn": "{id}",
        "TargetGroupName": "{answer[TargetGroups][0][TargetGroupName]}",
        "TargetGroupFullName": lambda work: work.id.rsplit(":", 1)[1],
    },
)
KINDS["AWS::ElasticLoadBalancingV2::Listener"] = Kind(
    service="elbv2", create="create_listener", id="{answer[Listeners][0][ListenerArn]}",
    without=("ListenerAttributes",), attributes={"ListenerArn": "{id}"},
    update="modify_listener", delete="delete_listener", key={"ListenerArn": "{id}"},
)
KINDS["AWS::ElasticLoadBalancingV2::ListenerRule"] = Kind(
    service="elbv2", create="create_rule", id="{answer[Rules][0][RuleArn]}", attributes={"RuleArn": "{id}"},
    update="modify_rule", delete="delete_rule", key={"RuleArn": "{id}"},
)

# -- names ----------------------------------------------------------------------------------------


def _record(action):
    def change(work):
        names = ("Name", "Type", "TTL", "AliasTarget", "SetIdentifier", "Weight", "Region", "Failover", "HealthCheckId",
                 "MultiValueAnswer")
        record = {name: work.p[name] for name in names if name in work.p}
        if "ResourceRecords" in work.p:
            record["ResourceRecords"] = [{"Value": value} for value in work.p["ResourceRecords"]]
        if "AliasTarget" in record:
            record["AliasTarget"] = {"EvaluateTargetHealth": False, **record["AliasTarget"]}
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
        work.call("change_resource_record_sets", HostedZoneId=work.p["HostedZoneId"],
                  ChangeBatch=work.api("change_resource_record_sets", batch, "ChangeBatch"))
        return work.p["Name"]

    return change


KINDS["AWS::Route53::RecordSet"] = Kind(
    service="route53", create=_record("CREATE"), update=_record("UPSERT"), delete=_record("DELETE"),
)


def _health_check(work):
    config = work.api("create_health_check", work.p["HealthCheckConfig"], "HealthCheckConfig")
    answer = work.call("create_health_check", CallerReference=work.fill("{random}"), HealthCheckConfig=config)
    return answer["HealthCheck"]["Id"]


def _change_health_check(work):
    changed = {name: value for name, value in work.p["HealthCheckConfig"].items()
               if name not in ("Type", "RequestInterval", "MeasureLatency")}
    work.call("update_health_check", **work.api("update_health_check", {**changed, "HealthCheckId": work.id}))


KINDS["AWS::Route53::HealthCheck"] = Kind(
    service="route53", create=_health_check, update=_change_health_check, delete="delete_health_check",
    key={"HealthCheckId": "{id}"}, attributes={"HealthCheckId": lambda work: work.id},
)

# -- the firewall ---------------------------------------------------------------------------------


def _acl_key(work):
    name, identity, scope = work.id.split("|")
    return {"Name": name, "Id": identity, "Scope": scope}


def _with_token(operation):
    def change(work):
        key = _acl_key(work)
        token = work.call("get_web_acl", **key)["LockToken"]
        properties = {}
        if operation == "update_web_acl":
            properties = {name: value for name, value in work.p.items() if name not in ("Tags", "Name", "Scope")}
            properties = work.api(operation, properties)
        work.call(operation, **key, **properties, LockToken=token)

    return change


KINDS["AWS::WAFv2::WebACL"] = Kind(
    service="wafv2", create="create_web_acl", id="{answer[Summary][Name]}|{answer[Summary][Id]}|{p[Scope]}",
    name="Name", longest=128, update=_with_token("update_web_acl"), delete=_with_token("delete_web_acl"),
    attributes={"Arn": "{answer[Summary][ARN]}", "Id": "{answer[Summary][Id]}"},
)
KINDS["AWS::WAFv2::WebACLAssociation"] = Kind(
    service="wafv2", create="associate_web_acl", id="{p[WebACLArn]}|{p[ResourceArn]}",
    delete="disassociate_web_acl", key={"ResourceArn": "{p[ResourceArn]}"},
)
KINDS["AWS::WAFv2::LoggingConfiguration"] = Kind(id="{p[ResourceArn]}")
