"""Rules about what is around the service: the load balancer, the network, logs, roles."""

from __future__ import annotations

import functools
import ipaddress
import re

import iam
import templates
import wiring

from .rule import at, expect, holds, part, rule, within

APP = "birthday-demo"
ATTRIBUTES = {
    "routing.http.drop_invalid_header_fields.enabled": "true", "routing.http.desync_mitigation_mode": "strictest",
    "routing.http.xff_header_processing.mode": "append", "waf.fail_open.enabled": "true", "access_logs.s3.enabled": "false",
}
LIMIT = "Rules/requests-per-client"


@rule(13, "the load balancer is strict, speaks new TLS only, and limits whoever asks too much",
      *(f"platform LoadBalancer LoadBalancerAttributes/{name}" for name in (*ATTRIBUTES, "deletion_protection.enabled")),
      "platform HttpsListener Protocol", "platform HttpsListener Port", "platform HttpsListener SslPolicy",
      "platform HttpsListener Certificates", "platform HttpListener", "platform Firewall DefaultAction",
      f"platform Firewall {LIMIT}/Statement", f"platform Firewall {LIMIT}/Action/Block/CustomResponse/ResponseCode",
      f"platform Firewall {LIMIT}/VisibilityConfig/SampledRequestsEnabled",
      "platform Firewall VisibilityConfig/SampledRequestsEnabled", "platform FirewallAssociation")
def is_strict(kit):
    for each in kit.deployments:
        stack = each["platform"]
        balancer = stack.ref("LoadBalancer")
        listed = part(each, "platform", "LoadBalancer", "LoadBalancerAttributes") or []
        attributes = {attribute.get("Key"): attribute.get("Value") for attribute in listed}
        for name, wanted in (ATTRIBUTES | {"deletion_protection.enabled": each.setting("protected")}).items():
            yield from expect(f"{each.env}: {name}", attributes.get(name), wanted)
        https, http = part(each, "platform", "HttpsListener"), part(each, "platform", "HttpListener")
        yield from expect("the listener", [https.get("Protocol"), https.get("Port")], ["HTTPS", 443])
        yield from holds(re.fullmatch(r"ELBSecurityPolicy-TLS13-1-2-(Res-)?(PQ-)?20\d\d-\d\d", str(https.get("SslPolicy"))),
                         f"the policy of TLS is {https.get('SslPolicy')}")
        yield from expect("its certificate", https.get("Certificates"), [{"CertificateArn": stack.outputs["CertificateArn"]}])
        yield from expect("what HTTP leads to", http, {
            "LoadBalancerArn": balancer, "Port": 80, "Protocol": "HTTP", "DefaultActions": [{
                "Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}}]})
        firewall = part(each, "platform", "Firewall")
        yield from expect("what the firewall lets in", firewall.get("DefaultAction"), {"Allow": {}})
        yield from expect("its limit", at(firewall, f"{LIMIT}/Statement"), {"RateBasedStatement": {
            "AggregateKeyType": "IP", "EvaluationWindowSec": 300, "Limit": str(each.setting("requests_per_client"))}})
        code = at(firewall, f"{LIMIT}/Action/Block/CustomResponse/ResponseCode")
        yield from expect("its answer", code, 429)
        # Samples hold names, birth dates and tokens.
        for config in (firewall, at(firewall, LIMIT) or {}):
            yield from expect("its samples", at(config, "VisibilityConfig/SampledRequestsEnabled"), False)
        yield from expect("whom it guards", part(each, "platform", "FirewallAssociation"),
                          {"ResourceArn": balancer, "WebACLArn": stack.attribute("Firewall", "Arn")})
        yield from within("the limit, which an office shares", each.setting("requests_per_client"), 1000, 100000)


@rule(14, "the name leads to a balancer that is well, in IPv4 and IPv6",
      *(f"platform {record} {path}" for record in ("AddressV4", "AddressV6") for path in ("Name", "Type", "AliasTarget")),
      "platform LoadBalancer IpAddressType", "platform LoadBalancer Scheme", "platform LoadBalancer Subnets",
      "platform LoadBalancer LoadBalancerAttributes/zonal_shift.config.enabled",
      *(f"network PublicSubnet{n} Ipv6CidrBlock" for n in (1, 2, 3)), "network PublicRouteIpv6 DestinationIpv6CidrBlock")
def is_found(kit):
    for each in kit.deployments:
        stack = each["platform"]
        target = {"DNSName": stack.attribute("LoadBalancer", "DNSName"), "EvaluateTargetHealth": True,
                  "HostedZoneId": stack.attribute("LoadBalancer", "CanonicalHostedZoneID")}
        for record, kind in (("AddressV4", "A"), ("AddressV6", "AAAA")):
            found = part(each, "platform", record) or {}
            yield from expect(record, [found.get("Name"), found.get("Type"), found.get("AliasTarget")],
                              [each.setting("domain"), kind, target])
        balancer = part(each, "platform", "LoadBalancer")
        yield from expect("its addresses", balancer.get("IpAddressType"), "dualstack")
        yield from expect("its place", balancer.get("Scheme"), "internet-facing")
        yield from expect("its subnets", balancer.get("Subnets"), each["network"].outputs["PublicSubnets"].split(","))
        shift = at(balancer, "LoadBalancerAttributes/zonal_shift.config.enabled/Value")
        yield from expect("its zonal shift", shift, True)
        blocks = [part(each, "network", f"PublicSubnet{n + 1}", "Ipv6CidrBlock") for n in range(each.setting("zones"))]
        yield from holds(all(map(_is_ipv6, blocks)) and len(set(blocks)) == len(blocks), "a subnet has no IPv6 addresses")
        yield from expect("the way out in IPv6", part(each, "network", "PublicRouteIpv6", "DestinationIpv6CidrBlock"), "::/0")


def _is_ipv6(block):
    try:
        return ipaddress.ip_network(block).version == 6
    except ValueError:
        return False


LOGS = [f"{name} {logical}" for name in templates.names() for logical, body in wiring.load(name)["Resources"].items()
        if body["Type"] == "AWS::Logs::LogGroup"]
CONTEXT = "kms:EncryptionContext:aws:logs:arn"


@rule(16, "logs are encrypted, and erased one day",
      *(f"{log} {path}" for log in LOGS for path in ("RetentionInDays", "KmsKeyId")),
      *(f"{log} DeletionPolicy" for log in LOGS), *(f"{log} UpdateReplacePolicy" for log in LOGS),
      "network Key KeyPolicy/Statement/Logs", "platform AccessLogBucket LifecycleConfiguration/Rules",
      "pipeline Bucket LifecycleConfiguration/Rules")
def logs_end(kit):
    for each in kit.deployments:
        for key, stack in each.stacks.items():
            for logical, body in stack.resources("AWS::Logs::LogGroup").items():
                days = body["Properties"].get("RetentionInDays")
                yield from within(f"the days of {key} {logical}", days, 7, 400)
                if key != "pipeline":
                    yield from expect(f"the days of {key} {logical}", days, each.setting("log_days"))
                yield from holds(re.fullmatch(r"arn:aws:kms:.*:key/.*", str(body["Properties"].get("KmsKeyId"))),
                                 f"{key} {logical} is not encrypted with a key of ours")
                policies = [body.get("DeletionPolicy"), body.get("UpdateReplacePolicy")]
                yield from holds(set(policies) <= {"Delete", "Retain", "RetainExceptOnCreate"},
                                 f"what becomes of {key} {logical} is not said")
        if each.storage == "postgres":
            # Aurora would make it, without an end.
            own = f"/aws/rds/cluster/{each['data'].outputs['DatabaseCluster']}/postgresql"
            yield from expect("the database's log", part(each, "data", "LogGroup", "LogGroupName"), own)
        allowed = part(each, "network", "Key", "KeyPolicy/Statement/Logs") or {}
        groups = f"arn:aws:logs:{each['network'].region}:{wiring.ACCOUNT}:log-group:*"
        yield from expect("whose logs the key is for", allowed, {
            "Sid": "Logs", "Effect": "Allow", "Resource": "*", "Condition": {"ArnLike": {CONTEXT: groups}},
            "Principal": {"Service": f"logs.{each['network'].region}.amazonaws.com"},
            "Action": ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey",
                       "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]})
        yield from expect("access logs", each.setting("access_logs"), False)
    # Files of logs end as well.
    last = kit.last
    buckets = [last["platform"].with_(AccessLogs="true").resource("AccessLogBucket"), last["pipeline"].resource("Bucket")]
    for bucket in buckets:
        for erased in at(bucket, "Properties/LifecycleConfiguration/Rules") or [{}]:
            yield from expect("whether files are erased", erased.get("Status"), "Enabled")
            yield from within("the days of files", erased.get("ExpirationInDays"), 1, 90)
            parts = at(erased, "AbortIncompleteMultipartUpload/DaysAfterInitiation")
            yield from within("the days of parts of files", parts, 1, 7)
            yield from expect("their rule", erased.get("Id"), "erase")


@rule(21, "ways out cost little where they may fail, and fail in one zone only where they may not",
      "network S3Endpoint VpcEndpointType", "network S3Endpoint ServiceName", "network S3Endpoint RouteTableIds",
      "network S3Endpoint PolicyDocument/Statement", *(f"network TaskRoute{n} NatGatewayId" for n in (1, 2, 3)),
      *(f"network TaskRoute{n} DestinationCidrBlock" for n in (1, 2, 3)),
      *(f"network NatGateway{n} SubnetId" for n in (1, 2, 3)), *(f"network DataSubnet{n}Routes" for n in (1, 2, 3)))
def has_ways_out(kit):
    for each in kit.deployments:
        nat, zones = each.setting("nat"), range(1, each.setting("zones") + 1)
        yield from _ways_out(each["network"], nat, zones)
        yield from _ways_out(each["network"].with_(Nat="single"), "single", zones)
    yield from expect("gateways where people are", kit.last.setting("nat"), "per-zone")


def _ways_out(stack, nat, zones):
    gateways = len(stack.resources("AWS::EC2::NatGateway"))
    wanted = {"none": 0, "single": 1, "per-zone": len(zones)}[nat]
    yield from expect(f"gateways with {nat}", gateways, wanted)
    yield from expect("addresses of tasks", stack.outputs["AssignPublicIp"], "DISABLED" if gateways else "ENABLED")
    for n in zones if gateways else ():
        own = n if gateways > 1 else 1
        route = stack.part(f"TaskRoute{n}")
        yield from expect("the way out of tasks", [route.get("NatGatewayId"), route.get("DestinationCidrBlock")],
                          [stack.ref(f"NatGateway{own}"), "0.0.0.0/0"])
        yield from expect("where the gateway is", stack.part(f"NatGateway{own}").get("SubnetId"), stack.ref(f"PublicSubnet{own}"))
    tables = [stack.ref(name) for name in ("PublicRouteTable", *(f"TaskRouteTable{n}" for n in zones))]
    endpoint = stack.part("S3Endpoint")
    yield from expect("layers of images", [endpoint.get(key) for key in ("VpcEndpointType", "ServiceName", "RouteTableIds")],
                      ["Gateway", f"com.amazonaws.{stack.region}.s3", tables])
    yield from expect("what goes that way", at(endpoint, "PolicyDocument/Statement"), [{
        "Sid": "LayersOfImages", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::prod-{stack.region}-starport-layer-bucket/*"}])
    data = stack.ref("DataRouteTable")
    routed = {body["Properties"].get("RouteTableId") for body in stack.resources("AWS::EC2::Route").values()}
    yield from holds(data not in routed, "the data has a way out")
    for n in zones:
        yield from expect("routes of the data", stack.part(f"DataSubnet{n}Routes"),
                          {"SubnetId": stack.ref(f"DataSubnet{n}"), "RouteTableId": data})


OPEN = ("0.0.0.0/0", "::/0")
ROLES = [(name, logical) for name in templates.names() if name != "account"
         for logical, body in wiring.load(name)["Resources"].items() if body["Type"] == "AWS::IAM::Role"]
GROUPS = [(name, logical) for name in templates.names() for logical, body in wiring.load(name)["Resources"].items()
          if body["Type"] == "AWS::EC2::SecurityGroup"]


@rule(23, "every role may do its own work and no more, every group reaches what it needs and no more",
      *(f"{name} {logical} {path}" for name, logical in ROLES for path in (
          "Path", "PermissionsBoundary", "AssumeRolePolicyDocument/Statement/0/Condition/StringEquals")),
      f"{APP} TaskDefinition ExecutionRoleArn", f"{APP} TaskDefinition TaskRoleArn",
      f"{APP} MigrationTaskDefinition ExecutionRoleArn", "pipeline DeployProject ServiceRole",
      *(f"{name} {logical} SecurityGroupEgress" for name, logical in GROUPS),
      "account StacksIdentity PolicyDocument/Statement/RolesWithinTheBoundary/Condition",
      "account StacksIdentity PolicyDocument/Statement/PassRoles/Condition",
      "account DeployService PolicyDocument/Statement/PassRoles/Condition",
      "account DeployStacks PolicyDocument/Statement/StacksByTheRole/Condition",
      "account CloudFormationRole AssumeRolePolicyDocument/Statement/0/Condition")
def keeps_to_its_own(kit):
    known = {}
    for each in kit.deployments:
        for key, stack in each.stacks.items():
            name = each.listed(key)["template"].removesuffix(".yml")
            if name not in known:
                unchanged = stack.template is wiring.load(name)
                known[name] = _faults_of(name) if unchanged else list(iam.faults(name, stack.template))
            yield from known[name]
            yield from _trusts(name, stack)
            yield from _reaches(name, stack)
        yield from _roles(each)
        yield from expect("who deploys", part(each, "pipeline", "DeployProject", "ServiceRole") if "pipeline" in each.stacks
                          else each["account"].outputs["DeployRoleArn"], each["account"].outputs["DeployRoleArn"])
        yield from _account(each["account"])


@functools.cache
def _faults_of(name):
    return list(iam.faults(name, wiring.load(name)))


def _trusts(name, stack):
    for logical, body in stack.resources("AWS::IAM::Role").items():
        for statement in at(body, "Properties/AssumeRolePolicyDocument/Statement") or []:
            if "Service" in statement.get("Principal", {}):
                source = at(statement, "Condition/StringEquals/aws:SourceAccount")
                yield from expect(f"whom {name} {logical} is for", source, wiring.ACCOUNT)


def _roles(each):
    stack = each["service"]
    definitions = {"TaskDefinition": ("ExecutionRole", "TaskRole"), "MigrationTaskDefinition": ("MigrationExecutionRole", None)}
    for definition, roles in definitions.items():
        if stack.resource(definition):
            found = [part(each, "service", definition, key) for key in ("ExecutionRoleArn", "TaskRoleArn")]
            yield from expect(f"the roles of {definition}", found, [role and stack.attribute(role, "Arn") for role in roles])
    granted = {role: [statement for policy in part(each, "service", role, "Policies") or []
                      for statement in policy["PolicyDocument"]["Statement"]]
               for role in ("ExecutionRole", "TaskRole", "MigrationExecutionRole")}
    yield from expect(f"{each.storage}: what the service may do",
                      sorted(action for statement in granted["TaskRole"] for action in iam.listed(statement["Action"])),
                      {"bolt": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"], "postgres": []}[each.storage])
    if each.storage == "postgres":
        master = each["data"].outputs["MasterSecretArn"]
        read = [resource for statement in granted["ExecutionRole"] for resource in iam.listed(statement["Resource"])]
        yield from holds(master not in read, "the service's role reads the master's password")


def _reaches(name, stack):
    """Out to one port only, and to everywhere only for HTTPS; in from everywhere only at the balancer."""
    for logical, body in stack.resources("AWS::EC2::SecurityGroup").items():
        out = body["Properties"].get("SecurityGroupEgress")
        yield from holds(out, f"{name} {logical} reaches everything")
        for egress in out or []:
            address = egress.get("CidrIp") or egress.get("CidrIpv6")
            nowhere = (address, egress.get("IpProtocol")) == ("127.0.0.1/32", "-1")
            ports = (egress.get("FromPort"), egress.get("ToPort"))
            wanted = {(443, 443): OPEN, (5432, 5432): None, (2049, 2049): None, (8080, 8081): stack.parameters.get("VpcCidr")}
            there = ports in wanted and egress.get("IpProtocol") == "tcp" and (
                re.fullmatch(r"sg-[0-9a-f]{17}", str(egress.get("DestinationSecurityGroupId"))) if wanted[ports] is None
                else address is not None and address in iam.listed(wanted[ports]) + list(wanted[ports] if ports == (443, 443) else ()))
            yield from holds(nowhere or there, f"{name} {logical} reaches {egress}")
            yield from holds(egress.get("Description") not in (None, "other"), f"{name} {logical} does not say what for")
        for ingress in body["Properties"].get("SecurityGroupIngress", []):
            address = ingress.get("CidrIp") or ingress.get("CidrIpv6")
            public = logical == "LoadBalancerSecurityGroup" and ingress.get("FromPort") in (80, 443)
            yield from holds(address is None or public, f"{name} {logical} lets in {address}")


def _account(stack):
    """The conditions without which a template could give itself any right."""
    within_boundary = {"StringEquals": {"iam:PermissionsBoundary": stack.ref("Boundary")}}
    passed = ["backup.amazonaws.com", "codebuild.amazonaws.com", "codepipeline.amazonaws.com", "ecs-tasks.amazonaws.com",
              "vpc-flow-logs.amazonaws.com"]
    conditions = {
        "StacksIdentity RolesWithinTheBoundary": within_boundary,
        "StacksIdentity PassRoles": {"StringEquals": {"iam:PassedToService": passed}},
        "DeployService PassRoles": {"StringEquals": {"iam:PassedToService": ["backup.amazonaws.com", "ecs-tasks.amazonaws.com"]}},
        "DeployStacks StacksByTheRole": {
            "StringEquals": {"cloudformation:RoleArn": stack.attribute("CloudFormationRole", "Arn")}},
    }
    for where, wanted in conditions.items():
        logical, sid = where.split()
        found = at(stack.part(logical), f"PolicyDocument/Statement/{sid}/Condition")
        yield from expect(f"the condition of {where}", found, wanted)
