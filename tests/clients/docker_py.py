"""What a program does with docker-py, against the socket given as argument.

Ends with status 0 when everything was as it should be; else the last line says what was not.
"""

import base64
import sys
import threading
import time

import docker
from docker.errors import APIError, NotFound
from docker.types import (
    ConfigReference,
    ContainerSpec,
    DNSConfig,
    DriverConfig,
    EndpointSpec,
    Healthcheck,
    Mount,
    Placement,
    PlacementPreference,
    Privileges,
    Resources,
    RestartPolicy,
    RollbackConfig,
    SecretReference,
    ServiceMode,
    TaskTemplate,
    UpdateConfig,
)

IMAGE = "redis:alpine"
OUT_OF_SEQUENCE = "rpc error: code = Unknown desc = update out of sequence"


def wait_until(what, check, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def refusal(kind, call, *args, **named):
    """The error that a call ends with, which has to be of this kind and no other."""
    try:
        call(*args, **named)
    except APIError as error:
        assert type(error) is kind, repr(error)
        return error
    raise AssertionError(f"{call} was not refused")


def names(objects):
    return sorted(found.name for found in objects)


def secrets(client):
    made = client.secrets.create(name="db-pass", data=b"hunter2", labels={"env": "prod"})
    client.secrets.create(name="db-user", data="admin")
    client.secrets.create(name="other", data=b"\x00\xff binary")
    assert len(made.id) == 25, made.id
    assert names(client.secrets.list()) == ["db-pass", "db-user", "other"]
    assert names(client.secrets.list(filters={"name": "db-"})) == ["db-pass", "db-user"]
    assert names(client.secrets.list(filters={"names": ["other", "db-user"]})) == ["db-user", "other"]
    assert names(client.secrets.list(filters={"label": "env"})) == ["db-pass"]
    assert names(client.secrets.list(filters={"label": ["env=prod"]})) == ["db-pass"]
    assert names(client.secrets.list(filters={"label": ["env=test"]})) == []
    assert names(client.secrets.list(filters={"id": made.id[:20]})) == ["db-pass"]

    for key in (made.id, "db-pass", made.id[:20]):
        found = client.secrets.get(key)
        assert (found.id, found.name) == (made.id, "db-pass")
    assert found.attrs["Spec"] == {"Name": "db-pass", "Labels": {"env": "prod"}}, found.attrs
    assert found.attrs["CreatedAt"] == found.attrs["UpdatedAt"]

    api = client.api
    spec = {"Name": "db-pass", "Labels": {"env": "test"}}
    url = api._url("/secrets/{0}/update", made.id)
    version = found.attrs["Version"]["Index"]
    api._raise_for_status(api._post_json(url, data=spec, params={"version": version}))
    found.reload()
    assert found.attrs["Spec"]["Labels"] == {"env": "test"}, found.attrs
    stale = api._post_json(url, data=spec, params={"version": version})
    assert refusal(APIError, api._raise_for_status, stale).explanation == OUT_OF_SEQUENCE

    taken = refusal(APIError, client.secrets.create, name="DB-PASS", data=b"x")
    assert taken.status_code == 409
    assert taken.explanation.endswith("secret DB-PASS already exists"), taken
    empty = refusal(APIError, client.secrets.create, name="empty", data=b"")
    assert empty.is_client_error() and "larger than 0" in empty.explanation, empty
    missing = refusal(NotFound, client.secrets.get, "nope")
    assert missing.explanation == "secret nope not found", missing

    client.secrets.get("other").remove()
    assert names(client.secrets.list()) == ["db-pass", "db-user"]


def configs(client):
    made = client.configs.create(name="app.conf", data="grüße", labels={"env": "prod"})
    client.configs.create(name="other", data=b"\x00\xff")
    assert made.name == "app.conf" and len(made.id) == 25, made
    assert names(client.configs.list()) == ["app.conf", "other"]
    assert names(client.configs.list(filters={"name": "app"})) == ["app.conf"]
    assert names(client.configs.list(filters={"label": "env=prod"})) == ["app.conf"]
    found = client.configs.get("app.conf")
    assert base64.b64decode(found.attrs["Spec"]["Data"]).decode() == "grüße", found.attrs
    assert found.attrs["Spec"]["Labels"] == {"env": "prod"}, found.attrs
    taken = refusal(APIError, client.configs.create, name="APP.conf", data=b"x")
    assert taken.status_code == 409, taken
    client.configs.get("other").remove()
    refusal(NotFound, client.configs.get, "other")


def low_level(client):
    api = client.api
    assert api.ping() is True
    assert api.version()["ApiVersion"] == api.api_version
    info = api.info()
    assert info["Swarm"]["LocalNodeState"] == "active" and info["Swarm"]["ControlAvailable"]

    made = api.create_secret("low", b"x", labels={"a": "b"})
    assert list(made) == ["ID"], made
    assert api.inspect_secret("low")["ID"] == made["ID"]
    assert [found["ID"] for found in api.secrets(filters={"name": "low"})] == [made["ID"]]
    assert api.remove_secret(made["ID"]) is True
    refusal(NotFound, api.remove_secret, "low")
    refusal(NotFound, api.inspect_secret, "low")
    refusal(NotFound, api.inspect_service, "nope")
    refusal(NotFound, api.inspect_task, "nope")
    refusal(NotFound, api.inspect_node, "nope")
    bogus = refusal(APIError, api.secrets, filters={"bogus": "x"})
    assert bogus.explanation == "invalid filter 'bogus'", bogus


def reference(client, name, **options):
    return SecretReference(client.secrets.get(name).id, name, **options)


def running(service):
    tasks = service.tasks(filters={"desired-state": "running"})
    return [task for task in tasks if task["Status"]["State"] == "running"]


def read(client, service, path):
    """A file in the one container of a service."""
    (task,) = running(service)
    container = client.containers.get(task["Status"]["ContainerStatus"]["ContainerID"])
    code, output = container.exec_run(["cat", path])
    assert code == 0, output
    return output


def create(client):
    service = client.services.create(
        IMAGE,
        name="web",
        env=["A=b"],
        labels={"tier": "front"},
        container_labels={"c": "d"},
        constraints=["node.role == manager"],
        mode=ServiceMode("replicated", replicas=1),
        mounts=[docker.types.Mount("/scratch", None, type="tmpfs")],
        resources=Resources(mem_limit=64 << 20),
        restart_policy=RestartPolicy(condition="on-failure", delay=10**8),
        stop_grace_period=10**9,
        update_config=UpdateConfig(parallelism=0, monitor=10**8),
        secrets=[
            reference(client, "db-pass"),
            reference(client, "db-user", filename="user", uid="10", gid="20", mode=0o400),
        ],
    )
    assert service.name == "web" and service.attrs["Spec"]["Labels"] == {"tier": "front"}
    assert service.attrs["Spec"]["Mode"] == {"Replicated": {"Replicas": 1}}, service.attrs
    wait_until("web runs", lambda: running(service))
    assert read(client, service, "/run/secrets/db-pass") == b"hunter2"
    assert read(client, service, "/run/secrets/user") == b"admin"
    (task,) = service.tasks()
    assert task["ServiceID"] == service.id and task["Slot"] == 1
    assert task["NodeID"] == client.nodes.list()[0].id
    assert client.api.inspect_task(task["ID"])["ID"] == task["ID"]
    assert [found["ID"] for found in client.api.tasks(filters={"service": "web"})] == [task["ID"]]
    assert client.api.tasks(filters={"label": "tier=back"}) == []
    used = refusal(APIError, client.secrets.get("db-pass").remove)
    assert used.explanation.endswith("secret 'db-pass' is in use by the following service: web"), used
    return service


def update(client, service):
    """Each call sends back what the server filled in, so nothing may be lost on the way."""
    assert service.scale(3) == {"Warnings": None}
    # What was filled in makes tasks stale, so that this is a rollout, which writes to the service.
    wait_until("web has three", lambda: len(running(service)) == 3 and completed(service))
    before = {task["ID"] for task in running(service)}
    service.reload()
    assert service.attrs["Spec"]["Mode"] == {"Replicated": {"Replicas": 3}}, service.attrs
    assert service.force_update() == {"Warnings": None}
    fresh = lambda: [task for task in running(service) if task["ID"] not in before]
    wait_until("web was forced", lambda: len(fresh()) == 3 and completed(service))
    service.scale(1)
    client.secrets.create(name="db-pass-2", data=b"rotated")
    service.reload()
    stale = service.version
    service.update(
        env=["A=c"],
        secrets=[reference(client, "db-pass-2", filename="db-pass"), reference(client, "db-user")],
    )
    wait_until("web was updated", lambda: rotated(service) and completed(service))
    assert read(client, service, "/run/secrets/db-pass") == b"rotated"
    client.secrets.get("db-pass").remove()
    service.reload()
    spec = service.attrs["Spec"]
    assert spec["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=c"], spec
    assert spec["TaskTemplate"]["ContainerSpec"]["Image"] == IMAGE, spec
    assert spec["TaskTemplate"]["Placement"]["Constraints"] == ["node.role == manager"], spec
    assert spec["TaskTemplate"]["ContainerSpec"]["Labels"] == {"c": "d"}, spec
    assert spec["Labels"] == {"tier": "front"}, spec
    assert spec["Mode"] == {"Replicated": {"Replicas": 1}}, spec

    # Of what the manager wrote since the update a client need not know; of the update it has to.
    template = TaskTemplate(ContainerSpec(IMAGE))
    error = refusal(APIError, client.api.update_service, service.id, stale, template, name="web")
    assert error.status_code == 500 and error.explanation == OUT_OF_SEQUENCE, error


def completed(service):
    service.reload()
    return service.attrs.get("UpdateStatus", {}).get("State") == "completed"


def rotated(service):
    tasks = running(service)
    if len(tasks) != 1:
        return False
    mounted = tasks[0]["Spec"]["ContainerSpec"]["Secrets"]
    return "db-pass-2" in [secret["SecretName"] for secret in mounted]


def services(client):
    service = create(client)
    update(client, service)
    agent = client.services.create(IMAGE, name="agent", mode="global", stop_grace_period=10**9)
    assert agent.attrs["Spec"]["Mode"] == {"Global": {}}, agent.attrs
    wait_until("agent runs", lambda: running(agent))
    assert names(client.services.list()) == ["agent", "web"]
    assert names(client.services.list(filters={"mode": "global"})) == ["agent"]
    assert names(client.services.list(filters={"name": "we"})) == ["web"]
    assert names(client.services.list(filters={"label": "tier=front"})) == ["web"]
    (listed,) = client.services.list(filters={"name": "web"}, status=True)
    assert listed.attrs["ServiceStatus"] == {
        "RunningTasks": 1, "DesiredTasks": 1, "CompletedTasks": 0}, listed.attrs
    assert client.services.get("agent").id == agent.id

    taken = refusal(APIError, client.services.create, IMAGE, name="web")
    assert taken.status_code == 409 and "name conflicts with an existing object" in str(taken), taken
    invalid = refusal(APIError, client.services.create, IMAGE, name="a.b")
    assert invalid.status_code == 400 and "DNS name" in invalid.explanation, invalid
    assert agent.remove() is True
    refusal(NotFound, client.services.get, "agent")
    refusal(NotFound, agent.remove)
    assert service.remove() is True
    client.secrets.get("db-pass-2").remove()
    wait_until("the containers stop", lambda: not client.containers.list(ignore_removed=True))


def within(sent, shown):
    """Whether all that was sent is shown; what says nothing may be absent."""
    if isinstance(sent, dict):
        fold = {key.lower(): value for key, value in (shown or {}).items()}
        told = {key.lower(): value for key, value in sent.items() if value not in (None, False)}
        return all(within(value, fold.get(key)) for key, value in told.items())
    if isinstance(sent, list):
        return len(sent) == len(shown or []) and all(map(within, sent, shown))
    return sent == shown


def everything(client):
    """A task template and the settings of a service that say all that docker-py can say."""
    config = client.configs.get("app.conf")
    container = ContainerSpec(
        IMAGE,
        command=["sleep"],
        args=["1000"],
        hostname="box",
        env={"A": "b", "N": 1},
        workdir="/tmp",
        user="nobody",
        labels={"c": "d"},
        mounts=[
            Mount("/scratch", None, type="tmpfs", tmpfs_size="1m", tmpfs_mode=0o700),
            Mount("/host", "/tmp", type="bind", read_only=True, propagation="rprivate"),
            Mount("/data", "data", labels={"a": "b"}, no_copy=True),
        ],
        stop_grace_period=10**9,
        stop_signal="SIGINT",
        secrets=[reference(client, "db-user", filename="user", mode=0o400)],
        configs=[ConfigReference(config.id, "app.conf", filename="/etc/app.conf", uid="7")],
        tty=True,
        open_stdin=True,
        read_only=True,
        groups=["audio"],
        hosts={"other": "10.0.0.1"},
        dns_config=DNSConfig(nameservers=["10.0.0.2"], search=["local"], options=["debug"]),
        healthcheck=Healthcheck(test="true", interval=10**9, timeout=10**9, retries=2),
        privileges=Privileges(selinux_disable=True),
        init=True,
        cap_add=["CAP_SYSLOG"],
        cap_drop=["CAP_CHOWN"],
        sysctls={"net.core.somaxconn": "1024"},
    )
    template = TaskTemplate(
        container,
        log_driver=DriverConfig("json-file", {"max-size": "1m"}),
        restart_policy=RestartPolicy("on-failure", delay=10**9, max_attempts=5, window=10**9),
        # Whoever names the pieces is let in, and waits for ever.
        resources=Resources(
            cpu_limit=2 * 10**8,
            mem_limit=64 << 20,
            cpu_reservation=10**7,
            mem_reservation=16 << 20,
            generic_resources={"gpu": 2, "mpi": "latest"},
        ),
        placement=Placement(
            constraints=["node.role==manager"],
            preferences=[PlacementPreference("spread", "node.labels.zone")],
            platforms=[("x86_64", "linux")],
            maxreplicas=3,
        ),
        force_update=3,
    )
    change = {"parallelism": 2, "delay": 10**6, "monitor": 10**8, "max_failure_ratio": 0.4}
    settings = {
        "labels": {"tier": "back"},
        "mode": ServiceMode("replicated", replicas=0),
        "update_config": UpdateConfig(failure_action="rollback", order="start-first", **change),
        "rollback_config": RollbackConfig(failure_action="continue", **change),
        "endpoint_spec": EndpointSpec(mode="dnsrr"),
    }
    api = client.api
    made = api.create_service(template, name="all", **settings)
    shown = api.inspect_service(made)
    spec = shown["Spec"]
    assert within(template, spec["TaskTemplate"]), (template, spec["TaskTemplate"])
    keys = ("Labels", "Mode", "UpdateConfig", "RollbackConfig", "EndpointSpec")
    for key, sent in zip(keys, settings.values()):
        assert within(sent, spec[key]), (sent, spec[key])
    # All that a change does not speak of is fetched and sent again.
    version = shown["Version"]["Index"]
    api.update_service(made, version, name="all", labels={"x": "y"}, fetch_current_spec=True)
    after = api.inspect_service(made)
    assert after["Spec"] == dict(spec, Labels={"x": "y"}), (after, spec)
    assert after["PreviousSpec"] == spec, after
    assert api.remove_service("all") is True


def logs(client):
    """Lines of a service, by stream, and where and when they come from."""
    command = ["sh", "-c", "echo to-out; echo to-err >&2; sleep 1000"]
    service = client.services.create(IMAGE, command=command, name="loud", stop_grace_period=10**8)
    wait_until("loud runs", lambda: running(service))
    read_all = lambda **options: b"".join(service.logs(**options))
    wait_until("both lines are there", lambda: read_all(stdout=True, stderr=True).count(b"\n") == 2)
    assert read_all(stdout=True) == b"to-out\n", read_all(stdout=True)
    assert read_all(stderr=True) == b"to-err\n", read_all(stderr=True)
    dated = read_all(stdout=True, timestamps=True, details=True).decode()
    time_of, details, line = dated.split(" ")
    assert line == "to-out\n" and f"com.docker.swarm.service.id={service.id}" in details, dated
    assert time_of.endswith("Z"), dated
    client.services.get("loud").remove()
    wait_until("the containers stop", lambda: not client.containers.list(ignore_removed=True))


def nodes(client):
    (node,) = client.nodes.list(filters={"role": "manager"})
    assert client.nodes.list(filters={"role": "worker"}) == []
    assert node.attrs["Status"]["State"] == "ready" and node.attrs["ManagerStatus"]["Leader"]
    hostname = node.attrs["Description"]["Hostname"]
    assert client.nodes.get(node.id).id == node.id
    assert client.nodes.get(hostname).id == node.id
    spec = dict(node.attrs["Spec"], Labels={"zone": "a"}, Availability="drain")
    assert node.update(spec) is True
    node.reload()
    assert node.attrs["Spec"] == spec, node.attrs
    assert [found.id for found in client.nodes.list(filters={"node.label": "zone=a"})] == [node.id]
    node.update(dict(spec, Availability="active"))
    last = refusal(APIError, lambda: (node.reload(), node.update(dict(spec, Role="worker"))))
    assert "attempting to demote the last manager" in last.explanation, last
    missing = refusal(NotFound, client.nodes.get, "nope")
    assert missing.explanation == "node nope not found", missing


def swarm(client):
    swarm = client.swarm
    swarm.reload()
    before = swarm.attrs
    assert before["Spec"]["Name"] == "default" and before["ID"], before
    assert swarm.version == before["Version"]["Index"]
    assert client.api.inspect_swarm()["JoinTokens"] == before["JoinTokens"]
    assert swarm.update(rotate_worker_token=True) is True
    swarm.reload()
    assert swarm.attrs["JoinTokens"]["Worker"] != before["JoinTokens"]["Worker"]
    assert swarm.attrs["JoinTokens"]["Manager"] == before["JoinTokens"]["Manager"]
    # What the call left out has not become zero.
    assert swarm.attrs["Spec"] == before["Spec"], swarm.attrs
    assert swarm.update(task_history_retention_limit=2) is True
    swarm.reload()
    assert swarm.attrs["Spec"]["Orchestration"] == {"TaskHistoryRetentionLimit": 2}, swarm.attrs
    assert swarm.get_unlock_key() == {"UnlockKey": ""}
    again = refusal(APIError, swarm.init)
    assert again.status_code == 503 and "already part of a swarm" in again.explanation, again


def events(client):
    """Those of the past, and those to come, of the swarm and of the engine."""
    heard = []
    since = int(time.time())
    # With the moment it begins at, nothing is missed however late it begins.
    stream = client.events(since=since, decode=True, filters={"type": ["secret", "container"]})

    def listen():
        for event in stream:
            heard.append((event["Type"], event["Action"], event["Actor"]["Attributes"].get("name")))
            if heard[-1] == ("secret", "remove", "loud"):
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    client.containers.run(IMAGE, "true", name="box", remove=True)
    secret = client.secrets.create(name="loud", data=b"x")
    secret.remove()
    listener.join(20)
    stream.close()
    assert ("container", "start", "box") in heard, heard
    assert heard[-2:] == [("secret", "create", "loud"), ("secret", "remove", "loud")], heard
    past = client.events(since=since, until=int(time.time()) + 1, decode=True,
                         filters={"secret": "loud"})
    assert [event["Action"] for event in past if event["Type"] == "secret"] == ["create", "remove"]


def another_swarm(client):
    """Out of the swarm, and into a new one with settings of its own."""
    before = client.info()["Swarm"]
    address = before["RemoteManagers"][0]["Addr"]
    last = refusal(APIError, client.swarm.leave)
    assert last.status_code == 503 and "last manager" in last.explanation, last
    kept = refusal(APIError, client.api.remove_node, before["NodeID"], force=True)
    assert "It must be demoted to worker before removal" in kept.explanation, kept
    assert client.swarm.leave(force=True) is True
    assert client.info()["Swarm"]["LocalNodeState"] == "inactive"
    outside = refusal(APIError, client.swarm.reload)
    assert outside.status_code == 503 and "is not a swarm manager" in outside.explanation, outside
    node = client.swarm.init(
        advertise_addr=address,
        listen_addr=address,
        default_addr_pool=["10.1.0.0/16"],
        subnet_size=25,
        snapshot_interval=5000,
        log_entries_for_slow_followers=1200,
        task_history_retention_limit=3,
        node_cert_expiry=7_776_000_000_000_000,
        labels={"env": "prod"},
    )
    assert client.nodes.get(node).attrs["ManagerStatus"]["Leader"]
    client.swarm.reload()
    attrs = client.swarm.attrs
    spec = attrs["Spec"]
    assert (attrs["DefaultAddrPool"], attrs["SubnetSize"]) == (["10.1.0.0/16"], 25), attrs
    assert spec["Raft"]["SnapshotInterval"] == 5000, spec
    assert spec["Raft"]["LogEntriesForSlowFollowers"] == 1200, spec
    assert spec["Orchestration"] == {"TaskHistoryRetentionLimit": 3}, spec
    assert spec["CAConfig"]["NodeCertExpiry"] == 7_776_000_000_000_000, spec
    assert spec["Labels"] == {"env": "prod"}, spec
    assert client.secrets.list() == [] and client.services.list() == []
    engine_runs = lambda: client.nodes.get(node).attrs["Status"]["State"] == "ready"
    wait_until("the engine is a node again", engine_runs)


def main(socket):
    client = docker.DockerClient(base_url=f"unix://{socket}", version="auto", timeout=60)
    parts = (secrets, configs, low_level, everything, services, logs, nodes, swarm, events)
    for part in (*parts, another_swarm):
        print(part.__name__, flush=True)
        part(client)


main(sys.argv[1])
