"""Draws docs/architecture.png: what runs on AWS, and how a release gets there.

What is drawn comes from the templates in devops/cloudformation/: every type of resource
there is either drawn in the box of its template or left out for a reason, else this
stops and names it. The picture carries a stamp of the templates and of this file, by
which devops/tests/test_diagram.py knows an old picture.

    make diagram
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from diagrams import Cluster, Diagram, Edge, Node
from diagrams.aws import compute, cost, database, devtools, general, integration, management, network, security, storage
from diagrams.onprem.iac import Ansible
from diagrams.onprem.monitoring import Sentry
from diagrams.onprem.vcs import Github

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "devops/tests"))

import templates  # noqa: E402, it is there now

PICTURE = ROOT / "docs/architecture.png"

ICONS = {
    "AWS::Backup::BackupPlan": storage.Backup,
    "AWS::Backup::BackupVault": storage.Backup,
    "AWS::Backup::RestoreTestingPlan": storage.Backup,
    "AWS::Budgets::Budget": cost.Budgets,
    "AWS::CertificateManager::Certificate": security.CertificateManager,
    "AWS::CloudWatch::Alarm": management.CloudwatchAlarm,
    "AWS::CloudWatch::CompositeAlarm": management.CloudwatchAlarm,
    "AWS::CloudWatch::Dashboard": management.Cloudwatch,
    "AWS::CodeBuild::Project": devtools.Codebuild,
    "AWS::CodePipeline::Pipeline": devtools.Codepipeline,
    "AWS::EC2::FlowLog": network.VPCFlowLogs,
    "AWS::EC2::InternetGateway": network.InternetGateway,
    "AWS::EC2::NatGateway": network.NATGateway,
    "AWS::EC2::Subnet": network.PrivateSubnet,
    "AWS::EC2::VPC": network.VPC,
    "AWS::EC2::VPCEndpoint": network.Endpoint,
    "AWS::ECR::Repository": compute.ECR,
    "AWS::ECS::Cluster": compute.ElasticContainerService,
    "AWS::ECS::Service": compute.ElasticContainerServiceService,
    "AWS::ECS::TaskDefinition": compute.Fargate,
    "AWS::EFS::FileSystem": storage.EFS,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": network.ALB,
    "AWS::Events::Rule": integration.EventbridgeRule,
    "AWS::KMS::Key": security.KMS,
    "AWS::Logs::LogGroup": management.CloudwatchLogs,
    "AWS::RDS::DBInstance": database.Aurora,
    "AWS::Route53::HealthCheck": network.Route53,
    "AWS::Route53::RecordSet": network.Route53,
    "AWS::S3::Bucket": storage.S3,
    "AWS::SNS::Subscription": integration.SimpleNotificationServiceSnsEmailNotification,
    "AWS::SNS::Topic": integration.SimpleNotificationServiceSnsTopic,
    "AWS::SecretsManager::Secret": security.SecretsManager,
    "AWS::WAFv2::WebACL": security.WAF,
}

LEFT_OUT = {
    "AWS::ApplicationAutoScaling::ScalableTarget": "said below the service, which it scales",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "said below the service, which it scales",
    "AWS::Backup::BackupSelection": "the arrow from the data to the vault",
    "AWS::Backup::RestoreTestingSelection": "the arrow from the data to the vault",
    "AWS::CodeBuild::ReportGroup": "a page of the console that shows a check's results",
    "AWS::CodeConnections::Connection": "the arrow from GitHub to the pipeline",
    "AWS::CodeStarNotifications::NotificationRule": "the arrow from the stages to their topic",
    "AWS::EC2::EIP": "part of the NAT gateways",
    "AWS::EC2::Route": "told by the kinds of subnets",
    "AWS::EC2::RouteTable": "told by the kinds of subnets",
    "AWS::EC2::SecurityGroup": "opens what the arrows show, and nothing else",
    "AWS::EC2::SecurityGroupIngress": "opens what the arrows show, and nothing else",
    "AWS::EC2::SubnetRouteTableAssociation": "told by the kinds of subnets",
    "AWS::EC2::VPCCidrBlock": "part of the VPC",
    "AWS::EC2::VPCGatewayAttachment": "part of the internet gateway",
    "AWS::EFS::AccessPoint": "the arrow from the tasks to the files",
    "AWS::EFS::MountTarget": "the arrow from the tasks to the files",
    "AWS::ElasticLoadBalancingV2::Listener": "part of the load balancer",
    "AWS::ElasticLoadBalancingV2::ListenerRule": "the arrows from the load balancer to the tasks",
    "AWS::ElasticLoadBalancingV2::TargetGroup": "the arrows from the load balancer to the tasks",
    "AWS::IAM::ManagedPolicy": "who may do what is in the templates; here it would be an arrow from all to all",
    "AWS::IAM::Role": "who may do what is in the templates; here it would be an arrow from all to all",
    "AWS::KMS::Alias": "a second name of the key",
    "AWS::RDS::DBCluster": "its writer and its reader are drawn",
    "AWS::RDS::DBClusterParameterGroup": "settings of the database",
    "AWS::RDS::DBSubnetGroup": "the data subnets are drawn",
    "AWS::S3::BucketPolicy": "part of the bucket",
    "AWS::SNS::TopicPolicy": "part of the topic",
    "AWS::WAFv2::WebACLAssociation": "the arrow from the firewall to the load balancer",
    # What is drawn in one template and would say nothing new in another.
    ("backup", "AWS::Events::Rule"): "tells the topic of failed jobs, as the rules of monitoring.yml do of others",
    ("backup", "AWS::KMS::Key"): "said below the vault",
    ("data-postgres", "AWS::Logs::LogGroup"): "the logs of the service are drawn",
    ("network", "AWS::Logs::LogGroup"): "part of the flow logs",
    ("pipeline", "AWS::KMS::Key"): "for its logs and its topic only",
    ("pipeline", "AWS::Logs::LogGroup"): "the logs of the service are drawn",
    ("pipeline", "AWS::S3::Bucket"): "holds which commit a run is about",
    ("pipeline", "AWS::SNS::Subscription"): "said below the topic",
}

# How long the stacks of a template live; the longer, the darker their boxes.
LIFETIMES = {
    "data-postgres": "never deleted",
    "data-bolt": "never deleted",
    "network": "years",
    "backup": "years",
    "account": "once per account",
    "pipeline": "rare",
    "platform": "months",
    "monitoring": "any day",
    "birthday-demo": "each release",
}
SHADES = {
    "never deleted": "#bfd2ea",
    "years": "#d3e1f1",
    "once per account": "#d3e1f1",
    "rare": "#d3e1f1",
    "months": "#e6eef7",
    "any day": "#f5f8fc",
    "each release": "#f5f8fc",
}

# Pixels, from the upper left corner.
HEIGHT = 1670  # from which Graphviz's own rows are counted, upwards
ICON, TEXT, LINE = 76, 23, 26
FONT, INK = "DejaVu Sans Condensed", "#1f2933"

# Columns and rows: what stands in a line is in a line.
CLIENT, DNS, WAF, LB, TASKS, SERVICE, RELEASE, WRITER, READER, VAULT, OUTSIDE = (
    88, 262, 412, 562, 748, 910, 1066, 1280, 1462, 1682, 1939,
)  # fmt: skip
NOTIFY, PAGE, FIRST, MAIN, LAST, GROUND, CHECKED, RELEASED = 150, 290, 552, 720, 888, 1098, 1385, 1532
ERRORS = 415  # between the boxes


class Part(NamedTuple):
    """An icon: of a type in a template, or of something that is in none."""

    template: str
    type: str
    x: int
    y: int
    label: str
    icon: type[Node] | None = None


PARTS = {
    "clients": Part("", "", CLIENT, MAIN, "clients", general.Users),
    "mail": Part("monitoring", "AWS::SNS::Subscription", OUTSIDE, NOTIFY, "mail"),
    "webhook": Part("monitoring", "AWS::SNS::Subscription", OUTSIDE, PAGE, "webhook",
                    integration.SimpleNotificationServiceSnsHttpNotification),
    "sentry": Part("", "", OUTSIDE, ERRORS, "Sentry", Sentry),

    "dashboard": Part("monitoring", "AWS::CloudWatch::Dashboard", DNS, NOTIFY, "dashboard"),
    "budget": Part("monitoring", "AWS::Budgets::Budget", WAF, NOTIFY, "budget"),
    "events": Part("monitoring", "AWS::Events::Rule", LB, NOTIFY, "failures"),
    "probe": Part("monitoring", "AWS::Route53::HealthCheck", DNS, PAGE, "check from\noutside"),
    "alarms": Part("monitoring", "AWS::CloudWatch::Alarm", TASKS, PAGE, "{count} alarms"),
    "burning": Part("monitoring", "AWS::CloudWatch::CompositeAlarm", RELEASE, PAGE, "symptoms,\nburn rates"),
    "notify": Part("monitoring", "AWS::SNS::Topic", READER, NOTIFY, "notify topic"),
    "page": Part("monitoring", "AWS::SNS::Topic", READER, PAGE, "page topic"),

    "dns": Part("platform", "AWS::Route53::RecordSet", DNS, MAIN, "Route 53\nA, AAAA"),
    "waf": Part("platform", "AWS::WAFv2::WebACL", WAF, MAIN, "WAF\nrate rule"),
    "lb": Part("platform", "AWS::ElasticLoadBalancingV2::LoadBalancer", LB, MAIN, "load balancer\nTLS 1.3"),
    "certificate": Part("platform", "AWS::CertificateManager::Certificate", LB, FIRST, "certificate"),
    "cluster": Part("platform", "AWS::ECS::Cluster", DNS, LAST, "ECS cluster"),
    "access": Part("platform", "AWS::S3::Bucket", WAF, LAST, "access logs\n(off)"),
    "tokens": Part("platform", "AWS::SecretsManager::Secret", LB, LAST, "write tokens"),

    "task-a": Part("birthday-demo", "AWS::ECS::TaskDefinition", TASKS, FIRST, "zone a"),
    "task-b": Part("birthday-demo", "AWS::ECS::TaskDefinition", TASKS, MAIN, "zone b"),
    "task-c": Part("birthday-demo", "AWS::ECS::TaskDefinition", TASKS, LAST, "zone c"),
    "service": Part("birthday-demo", "AWS::ECS::Service", SERVICE, FIRST, "service: rolls,\nscales on CPU"),
    "rollback": Part("birthday-demo", "AWS::CloudWatch::Alarm", RELEASE, FIRST, "{count} alarms\nroll back"),
    "logs": Part("birthday-demo", "AWS::Logs::LogGroup", SERVICE, LAST, "logs"),
    "migration": Part("birthday-demo", "AWS::ECS::TaskDefinition", RELEASE, LAST, "migration,\nfirst"),

    "writer": Part("data-postgres", "AWS::RDS::DBInstance", WRITER, MAIN, "Aurora writer"),
    "reader": Part("data-postgres", "AWS::RDS::DBInstance", READER, MAIN, "reader (prod)"),
    "password": Part("data-postgres", "AWS::SecretsManager::Secret", READER, FIRST, "app password"),
    "files": Part("data-bolt", "AWS::EFS::FileSystem", WRITER, LAST, "EFS"),

    "plan": Part("backup", "AWS::Backup::BackupPlan", VAULT, FIRST, "every night"),
    "vault": Part("backup", "AWS::Backup::BackupVault", VAULT, MAIN, "vault,\nown key"),
    "restore": Part("backup", "AWS::Backup::RestoreTestingPlan", VAULT, LAST, "restore test\nevery week"),
    "copy": Part("backup", "AWS::Backup::BackupVault", OUTSIDE, MAIN, "vault,\nown key"),

    "vpc": Part("network", "AWS::EC2::VPC", DNS, GROUND, "VPC in 2 or\n3 zones"),
    "internet": Part("network", "AWS::EC2::InternetGateway", WAF, GROUND, "internet\ngateway"),
    "public": Part("network", "AWS::EC2::Subnet", LB, GROUND, "public\nsubnets", network.PublicSubnet),
    "nat": Part("network", "AWS::EC2::NatGateway", TASKS, GROUND, "NAT\ngateways"),
    "private": Part("network", "AWS::EC2::Subnet", SERVICE, GROUND, "task\nsubnets"),
    "endpoint": Part("network", "AWS::EC2::VPCEndpoint", RELEASE, GROUND, "S3 endpoint"),
    "closed": Part("network", "AWS::EC2::Subnet", WRITER, GROUND, "data subnets,\nno way out"),
    "flow": Part("network", "AWS::EC2::FlowLog", READER, GROUND, "flow logs"),
    "key": Part("network", "AWS::KMS::Key", VAULT, GROUND, "key of the\nenvironment"),

    "github": Part("", "", CLIENT, RELEASED, "GitHub", Github),
    "proposed": Part("pipeline", "AWS::CodeBuild::Project", 425, CHECKED, "check"),
    "run": Part("pipeline", "AWS::CodePipeline::Pipeline", 275, RELEASED, "CodePipeline"),
    "merged": Part("pipeline", "AWS::CodeBuild::Project", 425, RELEASED, "check"),
    "staging": Part("pipeline", "AWS::CodeBuild::Project", 565, RELEASED, "staging"),
    "smoke": Part("pipeline", "AWS::CodeBuild::Project", 705, RELEASED, "smoke test"),
    "prod": Part("pipeline", "AWS::CodeBuild::Project", 845, RELEASED, "prod, in the\nwindow"),
    "results": Part("pipeline", "AWS::SNS::Topic", 845, CHECKED, "mail"),
    "playbook": Part("", "", RELEASE, RELEASED, "playbook", Ansible),
    "images": Part("account", "AWS::ECR::Repository", RELEASE, CHECKED, "ECR"),
    "cloudformation": Part("", "", 1355, RELEASED, "CloudFormation", management.Cloudformation),
}  # fmt: skip


class Box(NamedTuple):
    """A frame around parts: the stack of a template, or what its title says."""

    left: int
    top: int
    right: int
    bottom: int
    template: str = ""
    title: str = ""
    remark: str = ""


# The outer ones first.
BOXES = {
    "environment": Box(172, 18, 1780, 1220, title="Run path: an environment, staging or prod"),
    "delivery": Box(172, 1262, 1450, 1652, title="Delivery path: once per account"),
    "monitoring": Box(190, 68, 1762, 388, "monitoring"),
    "platform": Box(190, 442, 640, 988, "platform"),
    "birthday-demo": Box(661, 442, 1150, 988, "birthday-demo"),
    "data-postgres": Box(1174, 442, 1578, 788, "data-postgres"),
    "data-bolt": Box(1174, 800, 1578, 988, "data-bolt"),
    "backup": Box(1602, 442, 1762, 988, "backup"),
    "copies": Box(1804, 600, 2074, 820, "backup", remark=", in another region"),
    "network": Box(190, 1012, 1762, 1202, "network"),
    "pipeline": Box(190, 1305, 925, 1634, "pipeline"),
    "account": Box(945, 1305, 1305, 1462, "account"),
    "legend": Box(1484, 1262, 2074, 1652, title="Legend"),
    "told": Box(356, 106, 618, 226),
    "tasks": Box(703, 476, 793, 976),
}

NOTES = [
    (TASKS, 481, "tasks"),
    (950, MAIN - 32, "SQL over TLS"),
    (READER + 5, LAST - 38, "instead of\nAurora in the\nsmall shape"),
    (265, CHECKED - 32, "pull request"),
    (735, CHECKED - 25, "results of\nall stages"),
    (RELEASE + 82, 1228, "image layers"),
    (1500, 1228, "change sets, one by one"),
]

KINDS = {
    "requests": {"color": "#0b5fd8", "penwidth": "5"},
    "data, secrets": {"color": "#1a7f37", "penwidth": "3.5"},
    "releases": {"color": "#8250df", "penwidth": "3.5"},
    "metrics, errors, alarms": {"color": "#cf222e", "penwidth": "3.5", "style": "dashed"},
}
REQUESTS, DATA, RELEASES, ALARMS = KINDS

# The kind, then from where, by which corners, to where: parts, boxes and points. What ends at a point joins a line.
FLOWS = [
    (REQUESTS, "clients", "dns"),
    (REQUESTS, "dns", "waf"),
    (REQUESTS, "waf", "lb"),
    (REQUESTS, "lb", "task-b"),
    (REQUESTS, (674, MAIN), (674, FIRST), "task-a"),
    (REQUESTS, (674, MAIN), (674, LAST), "task-c"),
    (REQUESTS, "probe", (150, PAGE), (150, MAIN)),
    (DATA, "tokens", "birthday-demo"),
    (DATA, "password", "birthday-demo"),
    (DATA, "tasks", "logs"),
    (DATA, "tasks", "writer"),
    (DATA, "migration", (RELEASE, MAIN)),
    (DATA, (1162, MAIN), (1162, LAST), "files"),
    (DATA, "writer", "reader"),
    (DATA, "data-postgres", "vault"),
    (DATA, "data-bolt", (1590, LAST), (1590, MAIN)),
    (DATA, "plan", "vault"),
    (DATA, "vault", "restore"),
    (DATA, "vault", "copy"),
    (ALARMS, "rollback", "service"),
    (RELEASES, "service", "tasks"),
    (ALARMS, "birthday-demo", (RELEASE, ERRORS), "sentry"),
    (ALARMS, "platform", (LB, ERRORS), (TASKS, ERRORS), "alarms"),
    (ALARMS, "probe", "alarms"),
    (ALARMS, "alarms", "burning"),
    (ALARMS, "burning", "page"),
    (ALARMS, "alarms", (TASKS, NOTIFY)),
    (ALARMS, "told", "notify"),
    (ALARMS, "notify", "mail"),
    (ALARMS, "page", "webhook"),
    (ALARMS, (1835, NOTIFY), (1835, PAGE)),
    (RELEASES, "github", (CLIENT, CHECKED), "proposed"),
    (RELEASES, "github", "run"),
    (RELEASES, "run", "merged"),
    (RELEASES, "merged", "staging"),
    (RELEASES, "staging", "smoke"),
    (RELEASES, "smoke", "prod"),
    (ALARMS, "prod", "results"),
    (RELEASES, "prod", "playbook"),
    (RELEASES, "playbook", "account"),
    (RELEASES, "account", "endpoint"),
    (RELEASES, "endpoint", "birthday-demo"),
    (RELEASES, "playbook", "cloudformation"),
    (RELEASES, "cloudformation", "environment"),
]


def resources():
    """Every resource of the templates, as (template, logical id, type)."""
    return sorted(
        (name, identifier, resource["Type"])
        for name in templates.names()
        for identifier, resource in templates.load(name)["Resources"].items()
    )


def check(held):
    """Stops when what is drawn is not what the templates hold."""
    drawn = {(part.template, part.type) for part in PARTS.values() if part.template}
    there = {(template, type_) for template, _, type_ in held}
    for template, type_ in sorted(there - drawn):
        if type_ not in LEFT_OUT and (template, type_) not in LEFT_OUT:
            sys.exit(f"{template}.yml holds {type_}, which is neither drawn nor left out")
    for template, type_ in sorted(drawn - there):
        sys.exit(f"{template}.yml holds no {type_}, which is drawn")


def stamp(held):
    """What a picture is drawn from: this file and the types of the templates."""
    text = Path(__file__).read_text(encoding="utf-8") + "".join(f"{' '.join(one)}\n" for one in held)
    return hashlib.sha256(text.encode()).hexdigest()


def rectangle(name):
    """Left, top, right and bottom of a box, or of a part with its label."""
    if name in BOXES:
        return BOXES[name][:4]
    part = PARTS[name]
    half = ICON / 2 + 5
    return part.x - half, part.y - half, part.x + half, part.y + half + LINE * (part.label.count("\n") + 1)


def port(stop, other):
    """Where a line that comes straight from another point meets a part or a box."""
    if isinstance(stop, tuple):
        return stop
    left, top, right, bottom = rectangle(stop)
    x, y = other
    if left <= x <= right:
        return x, (top if y < top else bottom)
    return (left if x < left else right), y


def aim(stop, other):
    """Where a line to a stop leads: the middle of a part, the nearest border of a box."""
    if isinstance(stop, tuple):
        return stop
    return port(stop, aim(other, stop)) if stop in BOXES else (PARTS[stop].x, PARTS[stop].y)


def towards(start, end, distance):
    """The point at a distance from one on the level or upright way to another."""
    (x, y), (to_x, to_y) = start, end
    share = distance / (abs(to_x - x) + abs(to_y - y))
    return x + (to_x - x) * share, y + (to_y - y) * share


def spline(corners, head):
    """A line as Graphviz takes it, in Bezier curves: round at its corners, with a head of that length."""
    tip = towards(corners[-1], corners[-2], 5) if head else corners[-1]  # the pen goes on for a bit
    corners = [*corners[:-1], towards(tip, corners[-2], head)] if head else corners
    at = corners[0]
    path = [at]
    for corner, following in zip(corners[1:-1], corners[2:], strict=True):
        before, after = towards(corner, at, 12), towards(corner, following, 12)
        path += [at, before, before, corner, corner, after]
        at = after
    path += [at, corners[-1], corners[-1]]
    return " ".join([f"e,{tip[0]:g},{HEIGHT - tip[1]:g}"] * bool(head) + [f"{x:g},{HEIGHT - y:g}" for x, y in path])


def place(node, x, y, width=0, height=0, label="", **look):
    """A node around x and y, which is larger when its text is."""
    size = {"width": str(width / 72), "height": str(height / 72), "fixedsize": "false" if label else "true"}
    return node(label, pos=f"{x:g},{HEIGHT - y:g}", **{"shape": "none"} | size | look)


def write(x, y, text):
    """Text around x, whose first line begins at y."""
    height = LINE * (text.count("\n") + 1)
    return place(Node, x, y + height / 2, 0, height, text)


def title(box):
    """What is written in the upper left corner of a box; in a narrow one in two lines."""
    text = f"<B>{box.template and box.template + '.yml'}{box.title}</B>"
    if box.template:
        text += (" · " if box.right - box.left > 280 else '<BR ALIGN="LEFT"/>') + LIFETIMES[box.template] + box.remark
    width, height = box.right - box.left - 24, LINE * (text.count("<BR") + 1)
    cell = f'<TR><TD ALIGN="LEFT" BALIGN="LEFT">{text}<BR ALIGN="LEFT"/></TD></TR>'
    table = f'<<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="0" WIDTH="{width}">{cell}</TABLE>>'
    return place(Node, (box.left + box.right) / 2, box.top + 7 + height / 2, width, height, table)


def frame(name, box):
    """Draws a box; gives the node that lines to the box are tied to."""
    look = {"bb": f"{box.left},{HEIGHT - box.bottom},{box.right},{HEIGHT - box.top}", "label": ""}
    look |= {"pencolor": "#8796a8", "penwidth": "1.5"}
    if box.template:
        look |= {"bgcolor": SHADES[LIFETIMES[box.template]]}
    else:
        look |= {"bgcolor": "transparent", "style": "rounded,dashed"}
    with Cluster(name, graph_attr=look):
        return title(box) if box.template or box.title else place(Node, box.left, box.top)


def line(look, corners, start, end, head=13):
    """Draws a line through the corners, with an arrow's head of that length or without one."""
    arrow = {"arrowsize": "1.3"} if head else {"arrowhead": "none"}
    start >> Edge(pos=spline(corners, head), **look | arrow) >> end


def flow(kind, stops, nodes):
    """Draws a flow between the nodes of its first and its last stop."""
    corners = [port(stops[0], aim(stops[1], stops[0])), *stops[1:-1], port(stops[-1], aim(stops[-2], stops[-1]))]
    ends = [place(Node, *stop) if isinstance(stop, tuple) else nodes[stop] for stop in (stops[0], stops[-1])]
    line(KINDS[kind], corners, *ends, head=0 if isinstance(stops[-1], tuple) else 13)


def legend(box):
    """Writes what the lines and the shades mean."""
    x, y = box.left + 25, box.top + 65
    for kind, look in KINDS.items():
        line(look, [(x, y), (x + 85, y)], place(Node, x, y), place(Node, x + 85, y))
        place(Node, x + 295, y, 380, LINE, kind + "\\l")
        y += 38
    y += 15
    for shade in sorted(set(SHADES.values())):
        lifetimes = [lifetime for lifetime, its in SHADES.items() if its == shade]
        place(Node, x + 42, y, 84, 26, shape="box", style="rounded,filled", fillcolor=shade, color="#8796a8")
        place(Node, x + 295, y, 380, LINE, ", ".join(lifetimes) + "\\l")
        y += 38


class Picture(Diagram):
    """A diagram whose parts are where they were put: Graphviz is not asked to arrange them."""

    def __init__(self, filename):
        # 72 dots are an inch and an inch is 72 points, so a point is a pixel.
        paper = {"dpi": "72", "pad": "0.25", "bgcolor": "white"}
        text = {"fontname": FONT, "fontsize": str(TEXT), "fontcolor": INK, "labelloc": "c", "margin": "0"}
        super().__init__(filename=filename, show=False, graph_attr=paper, node_attr=text)

    def render(self):
        self.dot.render(format=self.outformat, engine="neato", neato_no_op=2)


def draw(held):
    """The picture, as PNG."""
    counts = Counter((template, type_) for template, _, type_ in held)
    with tempfile.TemporaryDirectory() as folder:
        with Picture(f"{folder}/picture"):
            nodes = {name: frame(name, box) for name, box in BOXES.items()}
            for name, part in PARTS.items():
                nodes[name] = place(part.icon or ICONS[part.type], part.x, part.y, ICON, ICON)
                write(part.x, part.y + ICON / 2 + 3, part.label.format(count=counts[part.template, part.type]))
            for note in NOTES:
                write(*note)
            for kind, *stops in FLOWS:
                flow(kind, stops, nodes)
            legend(BOXES["legend"])
        return Path(folder, "picture.png").read_bytes()


def stamped(png, text):
    """The PNG with a text chunk after its header."""
    body = b"tEXt" + b"source\0" + text.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


def main(picture=PICTURE):
    held = resources()
    check(held)
    if not shutil.which("dot"):
        sys.exit("dot is missing: apt-get install graphviz")
    Path(picture).write_bytes(stamped(draw(held), stamp(held)))


if __name__ == "__main__":
    main(*sys.argv[1:2])
