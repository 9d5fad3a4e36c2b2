#!/usr/bin/env python3
"""Uses the service while it is deployed, and counts what fails.

Puts one birth date and asks for it, several times a second, each time on a
connection of its own, as new clients do. Ends when the file "stop" appears in the
folder, and leaves "seen.json" there.
"""

import argparse
import http.client
import json
import os
import time
import urllib.error
import urllib.request

PAUSE = 0.2  # seconds between requests
TIMEOUT = 10  # seconds for one


def ask(url, token, method):
    """One request; gives what is wrong with its answer, or nothing."""
    body = b'{"dateOfBirth": "1990-05-17"}' if method == "PUT" else None
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        return f"{method} was answered {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return f"{method}: {error}"
    return None


def watch(url, token, folder, seconds):
    requests, faults, gap = 0, [], 0.0
    end = time.monotonic() + seconds
    answered = time.monotonic()
    while time.monotonic() < end and not os.path.exists(os.path.join(folder, "stop")):
        fault = ask(url, token, "GET" if requests % 2 else "PUT")
        requests += 1
        now = time.monotonic()
        gap = max(gap, now - answered)
        if fault is None:
            answered = now
        else:
            faults.append(f"{time.strftime('%H:%M:%S', time.gmtime())} {fault}")
        time.sleep(PAUSE)
    return {"requests": requests, "failed": len(faults), "faults": faults[:10], "longest_gap_seconds": round(gap, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="of the reserved name")
    parser.add_argument("--folder", required=True, help="of stop and seen.json")
    parser.add_argument("--seconds", type=float, required=True, help="the longest it may take")
    arguments = parser.parse_args()
    seen = watch(arguments.url, os.environ["PROBE_TOKEN"], arguments.folder, arguments.seconds)
    path = os.path.join(arguments.folder, "seen.json")
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(seen, file)
    os.rename(path + ".part", path)


if __name__ == "__main__":
    main()
