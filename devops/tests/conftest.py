"""What all tests of the deploy kit share."""

import os
import shutil

import pytest


def refuse(why):
    """Skips the test, or fails it where nothing may be missing (TEST_REQUIRE_ALL=1)."""
    if os.environ.get("TEST_REQUIRE_ALL") == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


def needs(program, package):
    """Says which Debian package to install where a program is missing."""
    if not shutil.which(program):
        refuse(f"{program} is missing: apt-get install {package}")
