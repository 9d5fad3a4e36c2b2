"""What a template says once its parameters are known: its functions and conditions."""

from __future__ import annotations

import base64
import ipaddress
import re


class Refused(Exception):
    """CloudFormation does not take the call: a ValidationError unless another code is given."""

    def __init__(self, message, code="ValidationError"):
        super().__init__(message)
        self.code, self.message = code, message


class Unknown(str):
    """A value that a change set cannot know before it is executed.

    `sure` says that it will be another one: the name of something that is replaced.
    """

    TEXT = "{{changeSet:KNOWN_AFTER_APPLY}}"

    def __new__(cls, sure=True):
        self = super().__new__(cls, cls.TEXT)
        self.sure = sure
        return self


NO_VALUE = object()  # AWS::NoValue: whatever holds it does as if it were not there
VARIABLE = re.compile(r"\$\{(!?)([^}]+)\}")


def unknown_in(value):
    """The first Unknown inside, or None. Text made with one holds its text."""
    if isinstance(value, Unknown):
        return value
    if isinstance(value, str):
        return Unknown() if Unknown.TEXT in value else None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for found in map(unknown_in, inner) if found is not None), None)


class Scope:
    """A template with its parameters: says what is active and what a value becomes.

    `ref` and `attribute` answer for resources; they come from who makes them.
    """

    def __init__(self, template, parameters, pseudo, ref=None, attribute=None):
        self.template, self.parameters, self.pseudo = template, parameters, pseudo
        self.ref, self.attribute = ref, attribute
        self._conditions = {}

    # -- what is there --------------------------------------------------------------------

    def condition(self, name):
        if name not in self._conditions:
            body = self.template.get("Conditions", {})
            if name not in body:
                raise Refused(f"Template format error: Unresolved condition dependency {name}")
            self._conditions[name] = self.holds(body[name])
        return self._conditions[name]

    def active(self, logical):
        """Does the resource exist with these parameters?"""
        name = self.template["Resources"][logical].get("Condition")
        return name is None or self.condition(name)

    def holds(self, test):
        """Is a condition function or a rule's assertion true?"""
        (name, args), *_ = test.items()
        if name == "Condition":
            return self.condition(args)
        if name == "Fn::And":
            return all([self.holds(arg) for arg in args])
        if name == "Fn::Or":
            return any([self.holds(arg) for arg in args])
        if name == "Fn::Not":
            return not self.holds(args[0])
        if name == "Fn::Equals":
            first, second = (self.value(arg) for arg in args)
            return as_text(first) == as_text(second)
        if name == "Fn::Contains":
            texts, text = (self.value(arg) for arg in args)
            return as_text(text) in [as_text(member) for member in texts]
        if name == "Fn::EachMemberIn":
            members, texts = (self.value(arg) for arg in args)
            return all(member in texts for member in members)
        if name == "Fn::EachMemberEquals":
            members, text = (self.value(arg) for arg in args)
            return all(member == text for member in members)
        raise Refused(f"Template format error: {name} is no condition")

    # -- what a value becomes -------------------------------------------------------------

    def value(self, value):
        if isinstance(value, list):
            inner = (self.value(member) for member in value)
            return [member for member in inner if member is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, args), *_ = value.items()
            if name == "Ref":
                return self._ref(args)
            if name.startswith("Fn::"):
                function = getattr(self, "_" + name[4:].lower(), None)
                if function is None:
                    raise Refused(f"Template error: {name} is not supported here")
                return function(args)
        inner = ((key, self.value(member)) for key, member in value.items())
        return {key: member for key, member in inner if member is not NO_VALUE}

    def _ref(self, name):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.parameters:
            return self.parameters[name]
        return self.ref(name)

    def _getatt(self, args):
        logical, name = args
        return self.attribute(logical, self.value(name))

    def _if(self, args):
        name, yes, no = args
        return self.value(yes if self.condition(name) else no)

    def _join(self, args):
        separator, members = args[0], self.value(args[1])
        found = unknown_in(members)
        return found if found is not None else separator.join(as_text(member) for member in members)

    def _split(self, args):
        separator, whole = args[0], self.value(args[1])
        found = unknown_in(whole)
        return found if found is not None else as_text(whole).split(separator)

    def _select(self, args):
        index, members = self.value(args[0]), self.value(args[1])
        if isinstance(members, Unknown):
            return members
        if not 0 <= int(index) < len(members):
            raise Refused(f"Template error: Fn::Select cannot select nonexistent value at index {index}")
        return members[int(index)]

    def _sub(self, args):
        text, own = (args[0], self.value(args[1])) if isinstance(args, list) else (args, {})
        found = []

        def replace(match):
            literal, name = match.groups()
            name = name.strip()
            if literal:
                return "${" + name + "}"
            if name in own:
                value = own[name]
            elif "." in name:
                value = self.attribute(*name.split(".", 1))
            else:
                value = self._ref(name)
            if isinstance(value, Unknown):
                found.append(value)
            if isinstance(value, list | dict):
                raise Refused(f"Template error: variable {name} in Fn::Sub expression does not resolve to a string")
            return as_text(value)

        whole = VARIABLE.sub(replace, text)
        return found[0] if found else whole

    def _getazs(self, args):
        region = self.value(args) or self.pseudo["AWS::Region"]
        return [f"{region}{letter}" for letter in "abc"]

    def _cidr(self, args):
        block, count, *bits = self.value(args)
        if isinstance(block, Unknown):
            return block
        network = ipaddress.ip_network(block)
        prefix = network.max_prefixlen - int(bits[0] if bits else 8)
        subnets = network.subnets(new_prefix=prefix) if prefix >= network.prefixlen else iter(())
        blocks = [str(subnet) for subnet, _ in zip(subnets, range(int(count)), strict=False)]
        if len(blocks) < int(count):
            raise Refused(f"Template error: Fn::Cidr cannot create {count} blocks of /{prefix} in {block}")
        return blocks

    def _findinmap(self, args):
        found = self.template.get("Mappings", {})
        for key in self.value(args):
            if key not in found:
                raise Refused(f"Template error: Unable to get mapping for {'::'.join(map(str, args))}")
            found = found[key]
        return found

    def _base64(self, args):
        return base64.b64encode(as_text(self.value(args)).encode()).decode()

    # -- who needs whom -------------------------------------------------------------------

    def needs(self, value):
        """The resources that a value mentions, counting only the branches taken."""
        if isinstance(value, list):
            return set().union(*map(self.needs, value))
        if not isinstance(value, dict):
            return set()
        if len(value) == 1:
            (name, args), *_ = value.items()
            if name == "Ref":
                return {args} & set(self.template["Resources"])
            if name == "Fn::GetAtt":
                return {args[0]}
            if name == "Fn::If":
                return self.needs(args[1] if self.condition(args[0]) else args[2])
            if name == "Fn::Sub":
                text, own = args if isinstance(args, list) else (args, {})
                names = {name.strip().split(".")[0] for literal, name in VARIABLE.findall(text) if not literal}
                return (names - set(own)) & set(self.template["Resources"]) | self.needs(own)
        return set().union(*map(self.needs, value.values()))

    def order(self):
        """The active resources, each after those it needs."""
        resources = {name: body for name, body in self.template["Resources"].items() if self.active(name)}
        needs = {}
        for name, body in resources.items():
            after = body.get("DependsOn", [])
            after = {after} if isinstance(after, str) else set(after)
            missing = self.needs(body.get("Properties", {})) - set(resources)
            if missing:
                raise Refused("Template format error: Unresolved resource dependencies "
                              f"[{', '.join(sorted(missing))}] in the Resources block of the template")
            # To depend on something that a condition took away is no fault.
            needs[name] = self.needs(body.get("Properties", {})) | (after & set(resources))
        done = []
        while needs:
            ready = [name for name, wanted in needs.items() if wanted <= set(done)]
            if not ready:
                raise Refused(f"Circular dependency between resources: [{', '.join(needs)}]")
            done += ready
            needs = {name: wanted for name, wanted in needs.items() if name not in ready}
        return done


def as_text(value):
    """Parameters and most properties are text: true is "true"."""
    return str(value).lower() if isinstance(value, bool) else str(value)
