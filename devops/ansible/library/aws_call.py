#!/usr/bin/python
"""Ansible module: one call of the AWS API."""

from __future__ import annotations

import datetime
import re

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: aws_call
short_description: One call of the AWS API
description:
  - Calls one operation of one service through boto3, and gives its answer.
  - Operations that only read (describe, get, list, batch get) run in check mode too and are never
    a change. All others are a change, and are skipped in check mode.
options:
  service:
    description: Name of the service as boto3 has it, such as C(ecs).
    type: str
    required: true
  operation:
    description: Name of the operation in snake case, such as C(describe_services).
    type: str
    required: true
  arguments:
    description: Its arguments, as boto3 takes them.
    type: dict
    default: {}
  region:
    description: The region to call; that of the environment or of the profile when absent.
    type: str
  absent:
    description: >-
      Codes of errors that mean "there is none", such as C(ParameterNotFound). Then C(found) is
      false instead of a failure.
    type: list
    elements: str
    default: []
author: birthday-demo
"""

EXAMPLES = """
- name: Look at the service
  aws_call:
    service: ecs
    operation: describe_services
    arguments: {cluster: birthday-demo-prod, services: [birthday-demo]}
  register: service
"""

RETURN = """
found:
  description: False when the call ended with one of the errors of C(absent).
  type: bool
result:
  description: The answer, without its metadata; times as ISO 8601.
  type: dict
"""

ARGUMENTS = {
    "service": {"type": "str", "required": True},
    "operation": {"type": "str", "required": True},
    "arguments": {"type": "dict", "default": {}},
    "region": {"type": "str"},
    "absent": {"type": "list", "elements": "str", "default": []},
}

READS = re.compile(r"^(describe|get|list|batch_get)_")

NO_CREDENTIALS = (
    "No AWS credentials were found. Log in, for example with `aws sso login` and AWS_PROFILE, or set "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)


def plain(value):
    """The answer as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != "ResponseMetadata"}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        import boto3
        import botocore.config
        import botocore.exceptions as errors
    except ImportError:
        module.fail_json(msg="boto3 is missing for this Python: run `make setup` and put .venv/bin first on PATH.")

    service, operation = module.params["service"], module.params["operation"]
    reads = bool(READS.match(operation))
    if module.check_mode and not reads:
        module.exit_json(changed=True, skipped=True, found=False, result={}, msg="not called in check mode")
    what = f"{service} {operation}"
    try:
        config = botocore.config.Config(retries={"mode": "standard", "max_attempts": 8}, connect_timeout=10)
        client = boto3.client(service, region_name=module.params["region"], config=config)
        answer = getattr(client, operation)(**module.params["arguments"])
    except errors.ClientError as error:
        code = error.response["Error"]["Code"]
        if code in module.params["absent"]:
            module.exit_json(changed=False, found=False, result={})
        module.fail_json(msg=f"{what}: {error}", code=code)
    except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.ProfileNotFound) as error:
        module.fail_json(msg=f"{what}: {NO_CREDENTIALS} ({error})", code="NoCredentials")
    except errors.NoRegionError:
        module.fail_json(msg=f"{what}: no region: give `region`, or set AWS_REGION.", code="NoRegion")
    except (errors.BotoCoreError, AttributeError) as error:
        module.fail_json(msg=f"{what}: {error}", code=type(error).__name__)
    module.exit_json(changed=not reads, found=True, result=plain(answer))


if __name__ == "__main__":
    main()
