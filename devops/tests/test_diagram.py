"""docs/architecture.png: a picture of these templates, not of older ones."""

import shutil
import struct
import subprocess
import sys
import zlib

import pytest
import templates
from conftest import needs

sys.path.insert(0, str(templates.ROOT / "docs"))

import architecture  # noqa: E402, it is there now

LARGEST = 450 * 1024  # the hook against large files refuses 500 KB


def chunks(png):
    """The chunks of a PNG, as (type, content); each against its checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, rest = [], png[8:]
    while rest:
        length, kind = struct.unpack(">I4s", rest[:8])
        content, (checksum,) = rest[8 : 8 + length], struct.unpack(">I", rest[8 + length : 12 + length])
        assert zlib.crc32(kind + content) == checksum, f"the checksum of {kind} is wrong"
        found.append((kind.decode(), content))
        rest = rest[12 + length :]
    return found


def stamp(png):
    texts = dict(content.split(b"\0", 1) for kind, content in chunks(png) if kind == "tEXt")
    return texts[b"source"].decode()


def is_sound(png):
    """Whether it is a PNG with all its rows, large enough to be read."""
    found = chunks(png)
    assert found[0][0] == "IHDR" and found[-1] == ("IEND", b"")
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", found[0][1])
    assert width >= 1600 and height >= 1000
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    rows = zlib.decompress(b"".join(content for kind, content in found if kind == "IDAT"))
    assert not interlaced and len(rows) == height * (1 + -(-width * bits // 8))
    return True


def test_the_picture_is_of_these_templates():
    png = architecture.PICTURE.read_bytes()
    assert is_sound(png) and len(png) <= LARGEST
    assert stamp(png) == architecture.stamp(architecture.resources()), "the picture is old: run `make diagram`"


def test_all_types_are_drawn_or_left_out_for_a_reason():
    held = architecture.resources()
    architecture.check(held)
    types, pairs = {type_ for _, _, type_ in held}, {(template, type_) for template, _, type_ in held}
    reasons = architecture.LEFT_OUT
    general = {key for key in reasons if isinstance(key, str)}
    assert all(len(reason) > 10 for reason in reasons.values())
    assert not general & set(architecture.ICONS), "drawn and left out"
    assert general | set(architecture.ICONS) == types, "told of a type that no template holds"
    assert set(reasons) - general <= pairs, "told of a type that the template does not hold"
    assert set(architecture.LIFETIMES) == set(templates.names())


def test_parts_stand_in_the_boxes_of_their_templates():
    for name, part in architecture.PARTS.items():
        around = {
            box.template
            for box in architecture.BOXES.values()
            if box.template and box.left < part.x < box.right and box.top < part.y < box.bottom
        }
        outside = {"mail", "webhook"}  # where the topics' messages go
        assert around == (set() if name in outside else {part.template} - {""}), name


def test_stages_are_those_of_the_pipeline():
    environments = {"FirstEnv": "staging", "SecondEnv": "prod"}
    pipeline = templates.load("pipeline")["Resources"]["Pipeline"]["Properties"]
    built = [
        stage["Name"] if isinstance(stage["Name"], str) else next(iter(stage["Name"].values()))
        for stage in pipeline["Stages"]
    ]
    drawn = sorted(
        (part.x, part.label)
        for part in architecture.PARTS.values()
        if part.type == "AWS::CodeBuild::Project" and part.y == architecture.RELEASED
    )
    expected = [environments.get(name, name) for name in built if name != "source"]
    expected = ["smoke test" if name.endswith("-smoke") else name for name in expected]
    assert [label.split(",")[0] for _, label in drawn] == expected


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Changes a template, in a copy that the script then reads."""
    folder = tmp_path / "cloudformation"
    shutil.copytree(templates.TEMPLATES, folder)
    monkeypatch.setattr(templates, "TEMPLATES", folder)

    def change(name, old, new):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Type: AWS::ECS::Cluster\n", "Type: AWS::EKS::Cluster\n", "platform.yml holds AWS::EKS::Cluster, which is n"),
        ("Type: AWS::WAFv2::WebACLAssociation\n", "Type: AWS::KMS::Key\n", "platform.yml holds AWS::KMS::Key, which"),
        ("Type: AWS::WAFv2::WebACL\n", "Type: AWS::Route53::RecordSet\n", "platform.yml holds no AWS::WAFv2::WebACL"),
    ],
    ids=["unknown", "unknown-there", "gone"],
)
def test_what_does_not_fit_is_named(changed, tmp_path, old, new, message):
    changed("platform.yml", old, new)
    with pytest.raises(SystemExit, match=message):
        architecture.main(tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_a_resource_more_makes_the_picture_old(changed):
    before = architecture.stamp(architecture.resources())
    assert architecture.stamp(architecture.resources()) == before
    changed("platform.yml", "\n  AddressV6:\n", "\n  AddressV7:\n")
    assert architecture.stamp(architecture.resources()) != before


def test_draws(tmp_path):
    needs("dot", "graphviz")
    script, picture = templates.ROOT / "docs/architecture.py", tmp_path / "picture.png"
    done = subprocess.run([sys.executable, script, picture], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert is_sound(picture.read_bytes())
    assert stamp(picture.read_bytes()) == stamp(architecture.PICTURE.read_bytes())
