#!/usr/bin/env python3
"""Sums up what `go test -json` and pytest's --junitxml wrote, in this order of
arguments; fails unless all tests ran and passed."""

import json
import sys
import xml.etree.ElementTree as xml

passed = 0
failed, skipped, failing_packages = [], [], set()
with open(sys.argv[1], encoding="utf-8") as events:
    for event in map(json.loads, events):
        action, package, test = (event.get(key, "") for key in ("Action", "Package", "Test"))
        if test:
            passed += action == "pass"
            if action == "fail":
                failed.append(f"{package} {test}")
            elif action == "skip":
                skipped.append(f"{package} {test}")
        elif action == "fail":
            failing_packages.add(package)

# A package that does not build or dies fails without a test of its own.
failing_packages -= {name.split()[0] for name in failed}
failed += sorted(failing_packages)

try:
    cases = list(xml.parse(sys.argv[2]).iter("testcase"))
except (OSError, xml.ParseError) as error:
    cases = []
    failed.append(f"pytest, which left no results: {error}")
for case in cases:
    name = f"{case.get('classname')} {case.get('name')}"
    if case.find("failure") is not None or case.find("error") is not None:
        failed.append(name)
    elif case.find("skipped") is not None:
        skipped.append(name)
    else:
        passed += 1

for name in failed:
    print("failed:", name)
for name in skipped:
    print("skipped, which is not allowed here:", name)
print(f"{passed} passed, {len(failed)} failed")
sys.exit(bool(failed or skipped or not passed or not cases))
