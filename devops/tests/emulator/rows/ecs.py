"""ECS and its scaling."""

from __future__ import annotations

from ..kinds import KINDS, Kind, made_up

KINDS["AWS::ECS::Cluster"] = Kind(
    service="ecs", create="create_cluster", id="{p[ClusterName]}", name="ClusterName", longest=255,
    rename={"ClusterSettings": "settings"}, attributes={"Arn": "{answer[cluster][clusterArn]}"},
    update="update_cluster", delete="delete_cluster", key={"cluster": "{id}"},
)


def _providers(work):
    operation = "put_cluster_capacity_providers"
    work.call(operation, **work.api(operation, {"DefaultCapacityProviderStrategy": [], **work.p}))
    return work.p["Cluster"]


KINDS["AWS::ECS::ClusterCapacityProviderAssociations"] = Kind(
    service="ecs", create=_providers, update=lambda work: _providers(work) and None,
)


def _family(work):
    properties = {"Family": made_up(work.stack.name, work.resource.logical, 255), **work.p}
    if not properties.get("Tags"):
        properties.pop("Tags", None)
    answer = work.call("register_task_definition", **work.api("register_task_definition", properties))
    return answer["taskDefinition"]["taskDefinitionArn"]


KINDS["AWS::ECS::TaskDefinition"] = Kind(
    service="ecs", create=_family, attributes={"TaskDefinitionArn": lambda work: work.id},
    delete=lambda work: work.call("deregister_task_definition", taskDefinition=work.id),
)


def _delete_service(work):
    cluster = work.p.get("Cluster", "default")
    work.call("update_service", cluster=cluster, service=work.id, desiredCount=0)
    work.call("delete_service", cluster=cluster, service=work.id, force=True)


def _service_arguments(work):
    return {name: value for name, value in work.p.items() if name not in ("ForceNewDeployment", "Tags")}


def _create_service(work):
    # ECS starts one task when none is asked for; the scalable target brings it to its minimum.
    properties = {"DesiredCount": 1, **_service_arguments(work)}
    if work.p.get("Tags"):
        properties["Tags"] = work.p["Tags"]
    service = work.call("create_service", **work.api("create_service", properties))["service"]
    work.resource.attributes |= {"Name": service["serviceName"], "ServiceArn": service["serviceArn"]}
    return service["serviceArn"]


CHANGEABLE = ("Cluster", "DesiredCount", "TaskDefinition", "CapacityProviderStrategy", "DeploymentConfiguration",
              "NetworkConfiguration", "PlatformVersion", "HealthCheckGracePeriodSeconds", "EnableExecuteCommand",
              "EnableECSManagedTags", "LoadBalancers", "PropagateTags", "AvailabilityZoneRebalancing")


def _change_service(work):
    properties = {name: value for name, value in work.p.items() if name in CHANGEABLE}
    work.call("update_service", **work.api("update_service", {**properties, "Service": work.id}))


KINDS["AWS::ECS::Service"] = Kind(
    service="ecs", create=_create_service, update=_change_service, delete=_delete_service, name="ServiceName",
    longest=255,
)

KINDS["AWS::ApplicationAutoScaling::ScalableTarget"] = Kind(
    service="application-autoscaling", create="register_scalable_target", update="register_scalable_target",
    id="{p[ResourceId]}|{p[ScalableDimension]}|{p[ServiceNamespace]}", without=("ScheduledActions",),
    delete="deregister_scalable_target", attributes={"Id": "{id}"},
    key={"ServiceNamespace": "{p[ServiceNamespace]}", "ResourceId": "{p[ResourceId]}",
         "ScalableDimension": "{p[ScalableDimension]}"},
)


def _target(work):
    if "ScalingTargetId" in work.p:
        return dict(zip(("ResourceId", "ScalableDimension", "ServiceNamespace"), work.p["ScalingTargetId"].split("|"),
                        strict=True))
    return {name: work.p[name] for name in ("ResourceId", "ScalableDimension", "ServiceNamespace")}


def _policy(work):
    properties = {name: value for name, value in work.p.items() if name != "ScalingTargetId"} | _target(work)
    return work.call("put_scaling_policy", **work.api("put_scaling_policy", properties))["PolicyARN"]


KINDS["AWS::ApplicationAutoScaling::ScalingPolicy"] = Kind(
    service="application-autoscaling", create=_policy, update=lambda work: _policy(work) and None,
    attributes={"Arn": lambda work: work.id},
    delete=lambda work: work.call("delete_scaling_policy", PolicyName=work.p["PolicyName"], **_target(work)),
)
