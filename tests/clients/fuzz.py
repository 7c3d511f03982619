"""What schemathesis is told besides the API document: hooks and checks.

Drawn from the document alone, nearly every request names something that is not there, or has a
version or a body that is refused at the first look. So most requests are aimed: at objects that
exist, with the version they have, and with a body that could be true. What is drawn for everything
else stays.
"""

import json
import os
import random
import re
import urllib.error
import urllib.request

import schemathesis

URL = os.environ["FUZZ_URL"]
SEED = os.environ["FUZZ_SEED"]

# How many of the requests are aimed.
AIMED = 0.7

# The 500s that the Engine has for what is not the server's fault: beginnings of texts.
KNOWN_500 = (
    "rpc error: code = Unknown desc = update out of sequence",
    "rpc error: code = Unknown desc = constraint expected one operator",
    "rpc error: code = Unknown desc = key '",
    "rpc error: code = Unknown desc = value '",
    'rpc error: code = Unknown desc = plugin "',
    'runtime type "plugin" only supported in experimental',
    "unrecognized rollback option ",
    "service does not have a previous spec",
    "Invalid desired-state filter: ",
    "Invalid role filter: ",
    "Invalid membership filter: ",
    'tail value must be a positive integer or "all"',
    "negative tail values not supported",
    "Datapath port number is not in valid range",
    "subnet size is out of range: ",
    "invalid CIDR",
    "invalid Availability: ",
    "error updating cluster settings: rpc error: code = InvalidArgument",
    "invalid join token",
    "Service cannot be explicitly attached to the ingress network ",
)

# And one that names what it is about first.
NO_NETWORK = re.compile("network .* not found", re.DOTALL)

# Without a good answer from here: a swarm of one manager, without autolock and without an engine.
NEVER_GOOD = {"POST /swarm/join", "POST /swarm/unlock"}


def ask(path, body=None):
    """The decoded answer, and nothing when it is an error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
    except urllib.error.HTTPError:
        return None
    return json.loads(text) if text else None


def stock(kind, draw):
    """A new object of a kind; nothing when it cannot be made."""
    # One that was made before may be in use by now, and is not made again.
    body = {"Name": f"{kind}{draw.randrange(10**6)}", "Labels": {"a": "b"}}
    if kind in ("secrets", "configs"):
        body["Data"] = "eA=="
    elif kind == "services":
        body = plausible_service(body, draw)
    elif kind == "networks":
        body["Driver"] = "overlay"
    else:
        return None
    made = ask(f"/{kind}/create", body)
    return made and ask(f"/{kind}/{ident(made)}")


def driven(draw):
    """A new secret whose driver makes its values."""
    body = {"Name": f"made{draw.randrange(10**6)}", "Driver": {"Name": "generate"}}
    made = ask("/secrets/create", body)
    return made and ask(f"/secrets/{ident(made)}")


def changed(kind, draw):
    """A new object of a kind that has had another value before."""
    known = stock(kind, draw)
    if known:
        path = f"/{kind}/{ident(known)}"
        body = {"Name": name_of(known), "Data": "eQ=="}
        ask(f"{path}/update?version={known['Version']['Index']}", body)
        known = ask(path)
    return known


def ident(known):
    """The id of an object; networks spell it in their own way."""
    return known.get("ID") or known["Id"]


def name_of(known):
    return known.get("Spec", known).get("Name")


def pick(kind, draw):
    """An object of a kind; nothing when there is none."""
    found = ask(f"/{kind}") or []
    return draw.choice(found) if len(found) > 2 else stock(kind, draw)


def thin(value, draw):
    """Leaves most of it out, so that what is left may pass."""
    if isinstance(value, dict):
        return {key: thin(inner, draw) for key, inner in value.items() if draw.random() < 0.3}
    if isinstance(value, list):
        return [thin(inner, draw) for inner in value if draw.random() < 0.5]
    return value


def plausible_service(spec, draw):
    spec.setdefault("Name", f"services{draw.randrange(10)}")
    template = spec.get("TaskTemplate")
    spec["TaskTemplate"] = template = template if isinstance(template, dict) else {}
    container = template.get("ContainerSpec")
    template["ContainerSpec"] = container = container if isinstance(container, dict) else {}
    container["Image"] = "redis:alpine"
    template.pop("Runtime", None)
    for kind, word in (("secrets", "Secret"), ("configs", "Config")):
        known = ask(f"/{kind}") if draw.random() < 0.3 else None
        container.pop(kind.capitalize(), None)
        if known:
            granted = draw.choice(known)
            target = {"Name": "t", "UID": "0", "GID": "0", "Mode": 292}
            container[kind.capitalize()] = [
                {f"{word}ID": granted["ID"], f"{word}Name": granted["Spec"]["Name"], "File": target}
            ]
    return spec


def plausible(case, body, known, draw):
    """A body that could be granted."""
    body = thin(body, draw)
    kind = case.path.split("/")[1]
    if known and kind != "nodes":
        body["Name"] = known["Spec"]["Name"]
    if kind in ("secrets", "configs"):
        body.setdefault("Name", f"{kind}{draw.randrange(10)}")
        body["Data"] = "eA=="
        body.pop("Driver", None)
    elif kind == "services":
        body = plausible_service(body, draw)
        if known:
            body["Mode"] = known["Spec"]["Mode"]
    elif kind == "networks":
        body.setdefault("Name", f"networks{draw.randrange(10)}")
        body["Driver"] = "overlay"
        for key in ("IPAM", "ConfigOnly", "ConfigFrom", "EnableIPv4", "Ingress"):
            body.pop(key, None)
    elif kind == "nodes":
        body["Role"] = "manager" if known and "ManagerStatus" in known else "worker"
        body["Availability"] = draw.choice(["active", "pause", "drain"])
    elif case.path == "/swarm/update":
        body["Name"] = "default"
    elif case.path == "/purser/backup":
        body = {"passphrase": draw.choice(["twelve letters", "", "short"])}
    elif case.path == "/swarm/init":
        body = {"ListenAddr": os.environ["FUZZ_DOOR"], "AdvertiseAddr": os.environ["FUZZ_DOOR"]}
        body["ForceNewCluster"] = draw.random() < 0.8
    return body


def aim(case, draw):
    kind = case.path.split("/")[1]
    known = None
    if "{id}" in case.path:
        # The others are in use.
        fresh = case.method == "DELETE" and draw.random() < 0.8
        if case.path.endswith("/rotate"):
            known = driven(draw)
        elif case.path.endswith("/rollback"):
            known = changed(kind, draw)
        elif fresh:
            known = stock(kind, draw)
        known = known or pick(kind, draw)
        if known:
            whole = ident(known)
            case.path_parameters["id"] = draw.choice([whole, name_of(known) or whole, whole[:12]])
    elif case.path == "/swarm/update":
        known = ask("/swarm")
    if case.path.endswith(("/rotate", "/rollback", "/prune")):
        case.query["to"] = ""
        case.query["keep"] = draw.choice(["", "0", "5"])
        case.query["unusedFor"] = draw.choice(["", "30d"])
    if "dryRun" in case.query:
        case.query["dryRun"] = draw.choice(["true", "false", ""])
    if case.path.endswith(("/update", "/rotate", "/rollback")) and known:
        case.query["version"] = known["Version"]["Index"]
        case.query.pop("registryAuthFrom", None)
        case.query["rollback"] = draw.choice(["", "previous"])
        # Whatever is no boolean is refused.
        for flag in ("rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey"):
            if flag in case.query:
                case.query[flag] = draw.choice(["true", "false", "0"])
    if "filters" in case.query:
        key = draw.choice(["id", "name", "label", "names", "node", "service", "role", "mode"])
        case.query["filters"] = json.dumps({key: draw.choice([["a"], {"a": True}, [""], []])})
    if case.path.endswith("/logs"):
        case.query["stdout"] = "1"
        case.query["tail"] = draw.choice(["all", "0", "5"])
        case.query["since"] = draw.choice(["", "0", "1.5"])
    if isinstance(case.body, dict):
        case.body = plausible(case, case.body, known, draw)


def end_streams(case, draw):
    """A stream that goes on until its client leaves would be taken for one that hangs. What these
    parameters do has tests of its own."""
    if case.path == "/events":
        case.query["until"] = draw.choice(["1", "1.5", "0", "-1", "x"])
        # The type that older versions have for lines is read as that of one value.
        case.headers["Accept"] = draw.choice(["application/jsonl", "application/x-ndjson"])
    if case.path.endswith("/logs") or case.path == "/purser/audit":
        case.query["follow"] = draw.choice(["", "0", "no", "false", "none"])


def tame(value):
    """How many tasks a service may have is not what is tried here: a few do."""
    if isinstance(value, dict):
        for key, inner in value.items():
            counts = key in ("Replicas", "MaxConcurrent", "TotalCompletions")
            if counts and isinstance(inner, (int, float)) and inner > 3:
                value[key] = int(inner) % 4
            tame(inner)
    elif isinstance(value, list):
        for inner in value:
            tame(inner)


@schemathesis.hook
def before_call(context, case, **kwargs):
    # The same request is always changed in the same way.
    drawn = (case.method, case.path, case.path_parameters, case.query, case.body)
    draw = random.Random(f"{SEED} {drawn!r}")
    if not isinstance(case.query, dict):
        case.query = {}
    if draw.random() < AIMED:
        aim(case, draw)
    end_streams(case, draw)
    tame(case.body)


@schemathesis.check
def no_failure_of_the_servers_own(context, response, case):
    if response.status_code == 500:
        message = json.loads(response.text)["message"]
        is_known = message.startswith(KNOWN_500) or NO_NETWORK.fullmatch(message)
        assert is_known, f"no 500 of the Engine's: {message}"


@schemathesis.check
class every_operation_succeeds:
    """What was only ever refused was not tried."""

    def __init__(self):
        self.tried = set()
        self.good = set()

    def after_response(self, context, response, case):
        self.tried.add(case.operation.label)
        if response.status_code < 300:
            self.good.add(case.operation.label)

    def after_run(self, context):
        never = self.tried - self.good - NEVER_GOOD
        assert not never, f"only ever refused: {sorted(never)}"
