"""Delivery: CodeBuild, CodePipeline, connections, notifications."""

from __future__ import annotations

from ..kinds import KINDS, Kind

NOT_PASSED = ("Triggers", "Visibility", "ResourceAccessRole", "AutoRetryLimit")


def _project(work):
    properties = {name: value for name, value in work.p.items() if name not in NOT_PASSED}
    arguments = work.api("create_project", properties)
    for part in ("source", "artifacts"):
        if arguments[part]["type"] == "CODEPIPELINE":  # moto wants a place even so
            arguments[part].setdefault("location", "pipeline")
    project = work.call("create_project", **arguments)["project"]
    work.resource.attributes["Arn"] = project["arn"]
    return project["name"]


KINDS["AWS::CodeBuild::Project"] = Kind(
    service="codebuild", create=_project, name="Name", longest=150, delete="delete_project", key={"name": "{id}"},
)
KINDS["AWS::CodeBuild::ReportGroup"] = Kind(
    id="arn:aws:codebuild:{region}:{account}:report-group/{p[Name]}", name="Name", longest=128,
    attributes={"Arn": "{id}"},
)


def _pipeline(operation):
    def put(work):
        properties = {name: value for name, value in work.p.items()
                      if name not in ("Tags", "RestartExecutionOnUpdate", "DisableInboundStageTransitions")}
        pipeline = work.api(operation, {**properties, "version": 1}, "pipeline")
        work.call(operation, pipeline=pipeline)
        return pipeline["name"]

    return put


KINDS["AWS::CodePipeline::Pipeline"] = Kind(
    service="codepipeline", create=_pipeline("create_pipeline"), name="Name", longest=100,
    update=lambda work: _pipeline("update_pipeline")(work) and None, delete="delete_pipeline", key={"name": "{id}"},
    attributes={"Version": lambda work: "1",
                "Arn": lambda work: f"arn:aws:codepipeline:{work.region}:{work.account}:{work.id}"},
)
KINDS["AWS::CodePipeline::Webhook"] = Kind(id="arn:aws:codepipeline:{region}:{account}:webhook:{random}")

# Moto has none of these.
for _service in ("CodeConnections", "CodeStarConnections"):
    KINDS[f"AWS::{_service}::Connection"] = Kind(
        id=f"arn:aws:{_service.lower().replace('codestar', 'codestar-')}:{{region}}:{{account}}:connection/{{random}}",
        attributes={"ConnectionArn": "{id}", "ConnectionStatus": "PENDING", "OwnerAccountId": "{account}"},
    )
KINDS["AWS::CodeStarNotifications::NotificationRule"] = Kind(
    id="arn:aws:codestar-notifications:{region}:{account}:notificationrule/{random}", attributes={"Arn": "{id}"},
)
