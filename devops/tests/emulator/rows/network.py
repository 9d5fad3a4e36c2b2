"""EC2: networks."""

from __future__ import annotations

from ..kinds import KINDS, Kind


def _vpc(work):
    for name in ("EnableDnsSupport", "EnableDnsHostnames"):
        if name in work.p:
            work.call("modify_vpc_attribute", VpcId=work.id, **{name: {"Value": work.p[name]}})


def _described(work):
    return work.call("describe_vpcs", VpcIds=[work.id])["Vpcs"][0]


def _default_group(work):
    found = work.call("describe_security_groups", Filters=[
        {"Name": "vpc-id", "Values": [work.id]}, {"Name": "group-name", "Values": ["default"]},
    ])
    return found["SecurityGroups"][0]["GroupId"]


def _default_acl(work):
    found = work.call("describe_network_acls", Filters=[
        {"Name": "vpc-id", "Values": [work.id]}, {"Name": "default", "Values": ["true"]},
    ])
    return found["NetworkAcls"][0]["NetworkAclId"]


def _blocks(key, block):
    return lambda work: [entry[block] for entry in _described(work).get(key, [])]


KINDS["AWS::EC2::VPC"] = Kind(
    service="ec2", create="create_vpc", id="{answer[Vpc][VpcId]}", delete="delete_vpc", key={"VpcId": "{id}"},
    without=("EnableDnsSupport", "EnableDnsHostnames"), then=_vpc, update=lambda work: None,
    attributes={
        "VpcId": "{id}",
        "DefaultSecurityGroup": _default_group,
        "DefaultNetworkAcl": _default_acl,
        "Ipv6CidrBlocks": _blocks("Ipv6CidrBlockAssociationSet", "Ipv6CidrBlock"),
        "CidrBlockAssociations": _blocks("CidrBlockAssociationSet", "AssociationId"),
    },
)


def _vpc_block(work):
    answer = work.call("associate_vpc_cidr_block", **work.api("associate_vpc_cidr_block", work.p))
    association = answer.get("Ipv6CidrBlockAssociation") or answer["CidrBlockAssociation"]
    return association["AssociationId"]


KINDS["AWS::EC2::VPCCidrBlock"] = Kind(
    service="ec2", create=_vpc_block, delete="disassociate_vpc_cidr_block", key={"AssociationId": "{id}"},
)

KINDS["AWS::EC2::InternetGateway"] = Kind(
    service="ec2", create="create_internet_gateway", id="{answer[InternetGateway][InternetGatewayId]}",
    delete="delete_internet_gateway", key={"InternetGatewayId": "{id}"},
)

KINDS["AWS::EC2::EgressOnlyInternetGateway"] = Kind(
    service="ec2", create="create_egress_only_internet_gateway",
    id="{answer[EgressOnlyInternetGateway][EgressOnlyInternetGatewayId]}",
    delete="delete_egress_only_internet_gateway", key={"EgressOnlyInternetGatewayId": "{id}"},
)

KINDS["AWS::EC2::VPCGatewayAttachment"] = Kind(
    service="ec2", create="attach_internet_gateway", id="IGW|{p[VpcId]}",
    delete="detach_internet_gateway", key={"InternetGatewayId": "{p[InternetGatewayId]}", "VpcId": "{p[VpcId]}"},
)


def _subnet(work):
    for name in ("MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation", "EnableDns64"):
        if name in work.p:
            work.call("modify_subnet_attribute", SubnetId=work.id, **{name: {"Value": work.p[name]}})


KINDS["AWS::EC2::Subnet"] = Kind(
    service="ec2", create="create_subnet", id="{answer[Subnet][SubnetId]}", delete="delete_subnet",
    key={"SubnetId": "{id}"}, then=_subnet, update=lambda work: None,
    without=("MapPublicIpOnLaunch", "AssignIpv6AddressOnCreation", "EnableDns64", "PrivateDnsNameOptionsOnLaunch"),
    attributes={
        "SubnetId": "{id}",
        "AvailabilityZone": "{answer[Subnet][AvailabilityZone]}",
        "VpcId": "{p[VpcId]}",
        "Ipv6CidrBlocks": lambda work: [work.p["Ipv6CidrBlock"]] if "Ipv6CidrBlock" in work.p else [],
    },
)

KINDS["AWS::EC2::RouteTable"] = Kind(
    service="ec2", create="create_route_table", id="{answer[RouteTable][RouteTableId]}",
    delete="delete_route_table", key={"RouteTableId": "{id}"}, attributes={"RouteTableId": "{id}"},
)


def _destination(properties):
    name = next(name for name in properties if name.startswith("Destination"))
    return {name: properties[name]}


def _route(work):
    work.call("create_route", **work.api("create_route", work.p))
    return "|".join([work.p["RouteTableId"], *_destination(work.p).values()])


def _replace_route(work):
    work.call("replace_route", **work.api("replace_route", work.p))


def _delete_route(work):
    work.call("delete_route", RouteTableId=work.p["RouteTableId"], **_destination(work.p))


KINDS["AWS::EC2::Route"] = Kind(service="ec2", create=_route, update=_replace_route, delete=_delete_route)

KINDS["AWS::EC2::SubnetRouteTableAssociation"] = Kind(
    service="ec2", create="associate_route_table", id="{answer[AssociationId]}", attributes={"Id": "{id}"},
    delete="disassociate_route_table", key={"AssociationId": "{id}"},
)

KINDS["AWS::EC2::EIP"] = Kind(
    service="ec2", create="allocate_address", id="{answer[PublicIp]}",
    attributes={"AllocationId": "{answer[AllocationId]}", "PublicIp": "{id}"},
    delete=lambda work: work.call("release_address", AllocationId=work.resource.attributes["AllocationId"]),
)

KINDS["AWS::EC2::NatGateway"] = Kind(
    service="ec2", create="create_nat_gateway", id="{answer[NatGateway][NatGatewayId]}",
    attributes={"NatGatewayId": "{id}"}, delete="delete_nat_gateway", key={"NatGatewayId": "{id}"},
)

KINDS["AWS::EC2::VPCEndpoint"] = Kind(
    service="ec2", create="create_vpc_endpoint", id="{answer[VpcEndpoint][VpcEndpointId]}", attributes={"Id": "{id}"},
    update="modify_vpc_endpoint", key={"VpcEndpointId": "{id}"},
    delete=lambda work: work.call("delete_vpc_endpoints", VpcEndpointIds=[work.id]),
)


def _flow_log(work):
    renamed = {"ResourceIds": [work.p["ResourceId"]]}
    renamed |= {name: value for name, value in work.p.items() if name not in ("ResourceId", "Tags")}
    answer = work.call("create_flow_logs", **work.api("create_flow_logs", renamed))
    if answer.get("Unsuccessful"):
        raise ValueError(answer["Unsuccessful"][0]["Error"]["Message"])
    return answer["FlowLogIds"][0]


KINDS["AWS::EC2::FlowLog"] = Kind(
    service="ec2", create=_flow_log, attributes={"Id": "{id}"},
    delete=lambda work: work.call("delete_flow_logs", FlowLogIds=[work.id]),
)


# -- security groups ------------------------------------------------------------------------------

PEERS = {
    "CidrIp": lambda p: {"IpRanges": [_described_peer("CidrIp", p)]},
    "CidrIpv6": lambda p: {"Ipv6Ranges": [_described_peer("CidrIpv6", p)]},
    "SourceSecurityGroupId": lambda p: {"UserIdGroupPairs": [_described_peer("SourceSecurityGroupId", p, "GroupId")]},
    "DestinationSecurityGroupId": lambda p: {
        "UserIdGroupPairs": [_described_peer("DestinationSecurityGroupId", p, "GroupId")]},
    "SourcePrefixListId": lambda p: {"PrefixListIds": [_described_peer("SourcePrefixListId", p, "PrefixListId")]},
    "DestinationPrefixListId": lambda p: {
        "PrefixListIds": [_described_peer("DestinationPrefixListId", p, "PrefixListId")]},
}
EVERYTHING = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def _described_peer(name, properties, api=None):
    return {api or name: properties[name],
            **({"Description": properties["Description"]} if "Description" in properties else {})}


def _permission(properties):
    result = {"IpProtocol": str(properties["IpProtocol"])}
    for name in ("FromPort", "ToPort"):
        if name in properties:
            result[name] = int(properties[name])
    for name, peer in PEERS.items():
        if name in properties:
            result |= peer(properties)
    return result


def _group(work):
    group = work.call(
        "create_security_group", Description=work.p["GroupDescription"], GroupName=work.p["GroupName"],
        **({"VpcId": work.p["VpcId"]} if "VpcId" in work.p else {}),
    )["GroupId"]
    _set_rules(work, group, {}, work.p)
    return group


def _set_rules(work, group, old, new):
    for way, property_name in (("ingress", "SecurityGroupIngress"), ("egress", "SecurityGroupEgress")):
        before, after = old.get(property_name, []), new.get(property_name, [])
        if way == "egress" and not old and after:  # rules of our own take the place of the one that allows all
            work.call("revoke_security_group_egress", GroupId=group, IpPermissions=[EVERYTHING])
        for rule in before:
            if rule not in after:
                work.call(f"revoke_security_group_{way}", GroupId=group, IpPermissions=[_permission(rule)])
        for rule in after:
            if rule not in before:
                work.call(f"authorize_security_group_{way}", GroupId=group, IpPermissions=[_permission(rule)])


KINDS["AWS::EC2::SecurityGroup"] = Kind(
    service="ec2", create=_group, name="GroupName", longest=255,
    update=lambda work: _set_rules(work, work.id, work.old, work.p),
    delete="delete_security_group", key={"GroupId": "{id}"},
    attributes={"GroupId": lambda work: work.id, "VpcId": lambda work: work.p["VpcId"], "Id": lambda work: work.id},
)


def _rule(way):
    def create(work):
        work.call(f"authorize_security_group_{way}", GroupId=work.p["GroupId"], IpPermissions=[_permission(work.p)])
        return work.fill("sgr-{random}")

    def delete(work):
        work.call(f"revoke_security_group_{way}", GroupId=work.p["GroupId"], IpPermissions=[_permission(work.p)])

    return Kind(service="ec2", create=create, delete=delete, attributes={"Id": lambda work: work.id})


KINDS["AWS::EC2::SecurityGroupIngress"] = _rule("ingress")
KINDS["AWS::EC2::SecurityGroupEgress"] = _rule("egress")
