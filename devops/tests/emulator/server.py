"""The HTTP server: our answers where moto has none or a wrong one, moto's for all else."""

from __future__ import annotations

import io
import threading
import traceback

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError
from moto.core.exceptions import ServiceException
from moto.core.request import Request
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from . import recording


class Fault(ServiceException):
    """An error that AWS answers with: Fault(code, message)."""


class Aws:
    """Calls of the emulator to itself, as CloudFormation, ECS and so on call AWS behind the scenes."""

    def __init__(self, url, key):
        self.url, self.key = url, key
        self._clients, self._lock = {}, threading.Lock()

    def client(self, service, region):
        with self._lock:  # making clients is not safe in threads; using them is
            if (service, region) not in self._clients:
                self._clients[service, region] = boto3.client(
                    service, region_name=region, endpoint_url=self.url,
                    aws_access_key_id=self.key, aws_secret_access_key="of-no-meaning",
                    config=Config(retries={"total_max_attempts": 1}, read_timeout=300, max_pool_connections=20,
                                  s3={"addressing_style": "path"}),
                )
            return self._clients[service, region]

    def __call__(self, service, region, operation, /, **arguments):
        answer = getattr(self.client(service, region), operation)(**arguments)
        answer.pop("ResponseMetadata", None)
        return answer


class Emulator:
    """What our answers need: the account, the control file, ways to call on."""

    def __init__(self, url, account, control):
        self.url, self.account, self.control = url, account, control
        self.aws = Aws(url, recording.INTERNAL)  # recorded, and answered by us where we have an answer
        self.moto = Aws(url, recording.STRAIGHT)

    def forward(self, call):
        """What moto answers to a call."""
        return self.moto(call.service, call.region, xform_name(call.operation), **(call.arguments or {}))


class Application:
    """WSGI. `answers` maps (service, operation) to a function of the emulator and the call that gives what boto3 would
    give, or raises Fault. (service, "*") stands for all operations of a service that are not named."""

    def __init__(self, emulator, answers, record):
        self.emulator, self.answers, self.record = emulator, answers, record
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))

        def fresh():  # whoever reads a request uses up its body
            return {**environ, "wsgi.input": io.BytesIO(body)}

        call = recording.read(Request(fresh()))
        answer = None
        if call and call.principal != recording.STRAIGHT:
            answer = self.answers.get((call.service, call.operation)) or self.answers.get((call.service, "*"))
        if answer:
            status, headers, content = self._ours(answer, call)
            self.record.add(call, status)
            start_response(f"{status} {'OK' if status < 300 else 'Refused'}", [*headers.items()])
            return [content.encode() if isinstance(content, str) else content]

        def started(status, headers, *more):
            if call:
                self.record.add(call, int(status.split()[0]))
            return start_response(status, headers, *more)

        return self.moto(fresh(), started)

    def _ours(self, answer, call):
        try:
            result = answer(self.emulator, call)
        except ServiceException as fault:
            result = fault
        except ClientError as error:  # of moto, when we asked on
            result = Fault(error.response["Error"]["Code"], error.response["Error"]["Message"])
        except ParamValidationError as error:
            result = Fault("ValidationException", str(error))
        except Exception as error:  # noqa: BLE001, a mistake of ours: told to the caller, and in full on stderr
            traceback.print_exc()
            result = Fault("InternalFailure", f"mistake in the emulator: {error!r}")
        model = get_service_model(call.service)
        serializer = get_serializer_class(call.service, call.protocol)(model.operation_model(call.operation))
        serialized = serializer.serialize(result)
        return serialized["status_code"], serialized["headers"], serialized["body"]
