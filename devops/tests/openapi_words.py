"""What openapi.yaml says in words, as no schema can: hooks for schemathesis, which reads schemas only.

They explain an answer that differs from the schemas where the words ask for that very answer:

- `tz` is any string to a schema; it must be a name of the embedded time zones;
- `dateOfBirth` is a date; it must be one before today;
- PUT needs a body or the query; a schema can require each or none;
- the query of PUT is read only without a body; what it holds beside one does not matter, nor what type no body has;
- a username has at most 64 code points after normalization; a schema counts those before it.
  In the place of letters and marks, schemathesis may send what is neither: it knows them by rough ranges.

All other failures stay failures, and so does an answer that names another fault than the words.
"""

import datetime
import itertools
import json
import sys
import unicodedata
import urllib.parse
import zipfile
from pathlib import Path

import schemathesis
from schemathesis.core.parameters import ParameterLocation

ZONES = set(zipfile.ZipFile(Path(__file__).resolve().parents[2] / "app/birthday/zoneinfo.zip").namelist())


class Sent:
    """A request as it went over the wire."""

    def __init__(self, request):
        url = urllib.parse.urlsplit(request.url)
        self.method = request.method
        self.username = urllib.parse.unquote(url.path.rpartition("/")[2])
        self.query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        body = request.body or b""
        self.body = body if isinstance(body, bytes) else body.encode()

    def date(self):
        """The one birth date in it, or None."""
        if self.body.lstrip().startswith(b"{"):
            return json.loads(self.body).get("dateOfBirth")
        values = urllib.parse.parse_qs(self.body.decode()) if self.body else self.query
        return values.get("dateOfBirth", [None])[0]

    def faults(self):
        """What the words refuse in it, though the schemas do not."""
        faults = set()
        if not is_username(self.username):
            faults.add("INVALID_USERNAME")
        if self.method == "GET" and not ZONES.issuperset(self.query.get("tz", [])):
            faults.add("INVALID_TIMEZONE")
        if self.method == "PUT" and not is_birth_date(self.date()):
            faults.add("INVALID_DATE")
        return faults


def is_username(text):
    kinds = [unicodedata.category(c)[0] for c in unicodedata.normalize("NFC", text)]
    return 1 <= len(kinds) <= 64 and kinds[0] == "L" and set(kinds) <= {"L", "M"}


def is_birth_date(text):
    try:
        return datetime.date.fromisoformat(text) < datetime.datetime.now(datetime.UTC).date()
    except (TypeError, ValueError):
        return False


def refused_by_words(sent, case, response):
    return response.status_code == 400 and set(response.json()["errors"]) == sent.faults() != set()


def accepted_by_words(sent, case, response):
    """A PUT in which all that is wrong is what nobody reads."""
    wrong = {location for location, component in case.meta.components.items() if component.mode.is_negative}
    unread = ParameterLocation.QUERY if sent.body else ParameterLocation.BODY
    return sent.method == "PUT" and response.status_code == 204 and wrong == {unread} and not sent.faults()


EXPLAINED = {"positive_data_acceptance": refused_by_words, "negative_data_rejection": accepted_by_words}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    sent = Sent(response.request)
    return not any(EXPLAINED[check](sent, case, response) for check in failure.checks if check in EXPLAINED)


def ranges(kinds):
    """The code points of these general categories, as they stand in a class of a regular expression."""
    points = (point for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point))[0] in kinds)
    for _, run in itertools.groupby(enumerate(points), lambda pair: pair[1] - pair[0]):
        run = [point for _, point in run]
        yield f"{chr(run[0])}-{chr(run[-1])}"


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Writes out [\\p{L}\\p{M}] in what is answered: schemathesis takes it for some alphabets of Europe. Usernames
    that it sends are of those, as it is slow with more."""
    letters = f"[{''.join(ranges('LM'))}]"

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key == "pattern" and isinstance(value, str):
                node[key] = value.replace(r"[\p{L}\p{M}]", letters)
            elif isinstance(value, dict | list) and key != "parameters":
                walk(value)

    walk(raw_schema)
