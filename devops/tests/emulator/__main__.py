"""Starts the emulator: python devops/tests/emulator --port N [--calls FILE] [--control FILE]

Prints one line of JSON when it is ready: its url, and the id of a hosted zone for hello.example.com.
"""

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

ZONE = "example.com"


def main():
    parser = argparse.ArgumentParser(description="AWS on 127.0.0.1, as far as the deploy kit needs it")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--calls", type=Path, help="file that gets one line of JSON for each call")
    parser.add_argument("--control", type=Path, help="file of JSON that tests steer the emulator with")
    args = parser.parse_args()

    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the package, not its inside
    from emulator.control import Control

    control = Control(args.control)
    account = control("account", "123456789012")
    # Moto reads these when it is imported.
    os.environ["MOTO_ACCOUNT_ID"] = account
    os.environ["MOTO_ACM_VALIDATION_WAIT"] = "-1"  # certificates are issued at once

    from emulator import change_sets, cloudformation, ecs, recording, rows, server, services  # noqa: F401, fill tables
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, code="-", size="-"):
            if str(code).startswith("5"):
                super().log_request(code, size)

    emulator = server.Emulator(f"http://127.0.0.1:{args.port}", account, control)
    emulator.cloudformation = cloudformation.CloudFormation(emulator)
    emulator.ecs, emulator.alarms, emulator.restores = ecs.Ecs(emulator), services.Alarms(), {}
    answers = {**services.ANSWERS, **ecs.ANSWERS, **cloudformation.ANSWERS}
    application = server.Application(emulator, answers, recording.Record(args.calls))
    http = make_server("127.0.0.1", args.port, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=http.serve_forever, daemon=True).start()

    zone = emulator.moto("route53", "us-east-1", "create_hosted_zone", Name=ZONE, CallerReference="start")
    print(json.dumps({"url": emulator.url, "zone": zone["HostedZone"]["Id"].rsplit("/", 1)[1]}), flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
