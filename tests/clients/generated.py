"""A client that was generated from the API document, against a purser's unix socket.

Arguments: the directory that has the generated package `client`, and the socket.
"""

import base64
import sys

import httpx

sys.path.insert(0, sys.argv[1])

from client import Client  # noqa: E402
from client.api.secret import secret_create, secret_delete, secret_inspect, secret_list  # noqa: E402
from client.api.secret import secret_update  # noqa: E402
from client.api.service import service_create, service_delete, service_inspect  # noqa: E402
from client.api.service import service_list  # noqa: E402
from client.api.system import system_version  # noqa: E402
from client.models import ContainerSpec, ErrorResponse, FileTarget, Replicated  # noqa: E402
from client.models import SecretCreateRequest, SecretCreateRequestLabels  # noqa: E402
from client.models import SecretReference, ServiceSpec, ServiceMode, TaskSpec  # noqa: E402

api = Client(base_url="http://purser/v1.41", raise_on_unexpected_status=True)
api.set_httpx_client(
    httpx.Client(base_url="http://purser/v1.41", transport=httpx.HTTPTransport(uds=sys.argv[2]))
)


def done(answer, status):
    assert answer.status_code == status, answer
    return answer.parsed


done(system_version.sync_detailed(client=api), 200)

labels = SecretCreateRequestLabels.from_dict({"env": "prod"})
data = base64.b64encode(b"This is a secret").decode()
body = SecretCreateRequest(name="db-pass", labels=labels, data=data)
secret = done(secret_create.sync_detailed(client=api, body=body), 201).id
taken = done(secret_create.sync_detailed(client=api, body=body), 409)
assert isinstance(taken, ErrorResponse) and taken.message.endswith("secret db-pass already exists")

shown = done(secret_inspect.sync_detailed("db-pass", client=api), 200)
assert shown.id == secret and shown.spec.name == "db-pass", shown
assert shown.spec.labels.to_dict() == {"env": "prod"}, shown
assert [one.id for one in done(secret_list.sync_detailed(client=api), 200)] == [secret]
none = done(secret_list.sync_detailed(client=api, filters='{"name":["other"]}'), 200)
assert none == [], none

change = SecretCreateRequest(name="db-pass")
version = shown.version.index
done(secret_update.sync_detailed(secret, client=api, body=change, version=version), 200)
done(secret_update.sync_detailed(secret, client=api, body=change, version=version), 500)

grant = SecretReference(
    secret_id=secret,
    secret_name="db-pass",
    file=FileTarget(name="db-pass", uid="0", gid="0", mode=0o444),
)
task = TaskSpec(container_spec=ContainerSpec(image="redis:alpine", secrets=[grant]))
mode = ServiceMode(replicated=Replicated(replicas=2))
spec = ServiceSpec(name="web", task_template=task, mode=mode)
service = done(service_create.sync_detailed(client=api, body=spec), 201).id
shown = done(service_inspect.sync_detailed("web", client=api), 200)
assert shown.id == service and shown.spec.mode.replicated.replicas == 2, shown
assert shown.spec.task_template.container_spec.secrets[0].secret_id == secret, shown
assert [one.spec.name for one in done(service_list.sync_detailed(client=api), 200)] == ["web"]

used = done(secret_delete.sync_detailed(secret, client=api), 400)
assert used.message.endswith("is in use by the following service: web"), used
done(service_delete.sync_detailed(service, client=api), 200)
done(service_inspect.sync_detailed(service, client=api), 404)
done(secret_delete.sync_detailed(secret, client=api), 204)
done(secret_inspect.sync_detailed(secret, client=api), 404)
print("ok")
