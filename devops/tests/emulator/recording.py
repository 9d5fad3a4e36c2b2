"""Who calls what: reads a request by AWS's own service models, and writes it down."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import re
import threading
import urllib.parse
from pathlib import Path

from botocore.exceptions import UnknownServiceError
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from werkzeug.exceptions import HTTPException

# Calls that the emulator makes itself, as CloudFormation or ECS make them on AWS. Moto wants 20 letters.
INTERNAL = "EMULATORSOWNCALLSKEY"
# The same, straight to moto: neither recorded nor answered by us.
STRAIGHT = "EMULATORSTRAIGHTCALL"

# Requests are signed for a service under a name that boto3 does not always use.
BOTO_NAMES = {
    "monitoring": "cloudwatch",
    "elasticloadbalancing": "elbv2",
    "elasticfilesystem": "efs",
    "tagging": "resourcegroupstaggingapi",
    "email": "ses",
}
# IAM's prefix is the signing name, but for these.
IAM_PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}
# IAM's action is the operation, but for these. An empty one needs no permission.
IAM_ACTIONS = {
    "sts:GetCallerIdentity": "",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:HeadObject": "s3:GetObject",
    "s3:CopyObject": "s3:PutObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
}
SIGNED = re.compile(r"Credential=([^/,]+)/\d+/([^/]+)/([^/]+)/aws4_request")
LONGEST = 4000  # characters of one argument that are worth writing down


@dataclasses.dataclass
class Call:
    service: str  # as boto3 names it
    operation: str  # as AWS names it: DescribeStacks
    region: str
    principal: str  # access key id
    arguments: dict | None  # None: not understood
    action: str = ""  # what IAM would ask for
    protocol: str = ""

    @property
    def internal(self):
        return self.principal in (INTERNAL, STRAIGHT)


def read(request) -> Call | None:
    """The call that a request is; None when it is none of AWS's."""
    signed = SIGNED.search(request.headers.get("Authorization", ""))
    if not signed:
        return None
    principal, region, name = signed.groups()
    service = BOTO_NAMES.get(name, name)
    try:
        model = get_service_model(service)
        operation, labels = get_service_router(service).match(request)
    except (UnknownServiceError, HTTPException, NotImplementedError):
        return Call(service, _operation_of(request), region, principal, None, action=f"{name}:?")
    protocol = determine_request_protocol(model, request.content_type)
    try:
        arguments = PROTOCOL_PARSERS[protocol](operation).parse({
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.get_data(),
            "url_path": request.path,
            "url_params": labels,
        })
    except Exception:  # noqa: BLE001, a stream or a body of another kind: the call counts all the same
        arguments = None
    action = f"{IAM_PREFIXES.get(name, name)}:{operation.name}"
    return Call(service, operation.name, region, principal, arguments, IAM_ACTIONS.get(action, action), protocol)


def _operation_of(request):
    target = request.headers.get("X-Amz-Target")
    if target:
        return target.rsplit(".", 1)[-1]
    action = urllib.parse.parse_qs(request.get_data(as_text=True)).get("Action")
    return action[0] if action else f"{request.method} {request.path}"


def plain(value):
    """JSON for a line of the record; what is too long to be of use is cut."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:80]}… ({len(value)} characters)"
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class Record:
    """The file of calls: one JSON object a line, in the order of arrival."""

    def __init__(self, path: Path | None):
        self.path, self._lock = path, threading.Lock()
        if path:
            path.touch()

    def add(self, call: Call, status: int):
        if not self.path or call.principal == STRAIGHT:
            return
        line = json.dumps({
            "service": call.service,
            "operation": call.operation,
            "action": call.action,
            "region": call.region,
            "principal": call.principal,
            "internal": call.internal,
            "arguments": plain(call.arguments),
            "status": status,
            "at": datetime.datetime.now(datetime.UTC).isoformat(),
        })
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
