//! `/swarm`: init, inspect, update, tokens, leave, and what is refused of each.

use super::api_table::{check, get, masked, post, post_text, request, version};
use super::kit::purser::Purser;
use serde_json::{Value, json};

const ALREADY: &str = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this \
    swarm and join another one.";
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm \
    join\" to connect this node to swarm and try again.";

#[test]
fn init_is_refused_in_the_engines_words() {
    let purser = Purser::serve("init");
    let client = purser.client();
    let init = |change: Value| {
        let mut wish = json!({"ListenAddr": "127.0.0.1:1"});
        let fields = change.as_object().expect("an object").clone();
        wish.as_object_mut().expect("an object").extend(fields);
        post("/swarm/init", &wish)
    };
    let listen =
        "listen address must be an IP address or network interface (with optional port number)";
    let advertise = "advertise address must be a non-zero IP address or network interface (with \
        optional port number)";
    let data_path = "data path address must be a non-zero IP address or network interface (without a \
        port number)";
    let settings = "error updating cluster settings: rpc error: code = InvalidArgument desc = ";
    let invalid = "rpc error: code = InvalidArgument desc = ";
    let hour = "minimum certificate expiry time is: 1h0m0s";
    let negative = "heartbeat time period cannot be a negative duration";
    let ca = |change: Value| json!({"Spec": {"CAConfig": change}});
    check(
        &client,
        vec![
            request("POST", "/swarm/init").fails(400, "invalid ListenAddr \"\": invalid empty address"),
            init(json!({"ListenAddr": ""})).fails(400, "invalid ListenAddr \"\": invalid empty address"),
            init(json!({"ListenAddr": "nope0:1"})).fails(400, listen),
            init(json!({"ListenAddr": "1.2.3.4:x"})).fails(400, listen),
            init(json!({"AdvertiseAddr": "nope0"})).fails(400, advertise),
            init(json!({"AdvertiseAddr": "0.0.0.0"})).fails(400, advertise),
            init(json!({"DataPathAddr": "0.0.0.0"})).fails(400, data_path),
            init(json!({"DataPathAddr": "127.0.0.1:1"})).fails(400, data_path),
            init(json!({"DataPathPort": 80}))
                .fails(500, "Datapath port number is not in valid range (1024-49151) : 80"),
            init(json!({"DataPathPort": 49152}))
                .fails(500, "Datapath port number is not in valid range (1024-49151) : 49152"),
            init(json!({"SubnetSize": 33})).fails(500, "subnet size is out of range: 33"),
            init(json!({"DefaultAddrPool": ["10.0.0.0/8"], "SubnetSize": 7})).fails(
                500,
                "invalid CIDR: \"10.0.0.0/8\". Subnet size is too small for pool: 7",
            ),
            init(json!({"Availability": "foo"})).fails(500, "invalid Availability: \"foo\""),
            init(json!({"Spec": {"Name": "other"}})).fails(400, "swarm spec must be named \"default\""),
            init(ca(json!({"NodeCertExpiry": 1}))).fails(500, format!("{settings}{hour}")),
            init(json!({"Spec": {"Dispatcher": {"HeartbeatPeriod": -1}}}))
                .fails(500, format!("{settings}{negative}")),
            init(ca(json!({"ExternalCAs": [{"Protocol": "zz"}]})))
                .fails(400, "invalid protocol: \"zz\""),
            // What is not built.
            init(ca(json!({"ExternalCAs": [{"Protocol": "cfssl", "URL": "https://x"}]})))
                .fails(501, "certificate authorities outside of the swarm are not supported"),
            init(ca(json!({"SigningCACert": "x"})))
                .fails(400, format!("{invalid}a root certificate and its key have to be given together")),
            // None of these has left half a swarm behind.
            get("/swarm").fails(503, NO_SWARM),
            post("/swarm/join", &json!({})).fails(400, "at least 1 RemoteAddr is required to join"),
            post("/swarm/join", &json!({"RemoteAddrs": ["x"], "ListenAddr": "no such"})).fails(
                400,
                "listen address must be an IP address or network interface (with optional port number)",
            ),
            post("/swarm/join", &json!({"RemoteAddrs": ["x"], "AdvertiseAddr": "0.0.0.0"})).fails(
                400,
                "advertise address must be a non-zero IP address or network interface (with optional \
                 port number)",
            ),
            post("/swarm/join", &json!({"RemoteAddrs": ["127.0.0.1:2377"], "JoinToken": "x"})).fails(
                501,
                "purser cannot join another manager yet; have the engine of this host join as a node \
                 (docker -H unix:///var/run/docker.sock swarm join …)",
            ),
        ],
    );
}

#[test]
fn a_swarm_is_made_once_and_shown() {
    let purser = Purser::swarm("swarm");
    let client = purser.client();
    let swarm = client.get("/swarm").json();
    let quoted = |pointer: &str| swarm.pointer(pointer).expect("it is there").to_string();
    let text = client.get("/swarm").text();
    let mut shown = masked(&text);
    for pointer in [
        "/TLSInfo/TrustRoot",
        "/TLSInfo/CertIssuerSubject",
        "/TLSInfo/CertIssuerPublicKey",
        "/JoinTokens/Worker",
        "/JoinTokens/Manager",
    ] {
        shown = shown.replace(&quoted(pointer), "\"…\"");
    }
    let wanted = r#"{"ID":"<id>","Version":{"Index":0},"CreatedAt":"<ts>","UpdatedAt":"<ts>","Spec":{"Name":"default","Labels":{},"Orchestration":{"TaskHistoryRetentionLimit":5},"Raft":{"SnapshotInterval":10000,"KeepOldSnapshots":0,"LogEntriesForSlowFollowers":500,"ElectionTick":10,"HeartbeatTick":1},"Dispatcher":{"HeartbeatPeriod":5000000000},"CAConfig":{"NodeCertExpiry":7776000000000000},"TaskDefaults":{},"EncryptionConfig":{"AutoLockManagers":false}},"TLSInfo":{"TrustRoot":"…","CertIssuerSubject":"…","CertIssuerPublicKey":"…"},"RootRotationInProgress":false,"DefaultAddrPool":["10.0.0.0/8"],"SubnetSize":24,"DataPathPort":4789,"JoinTokens":{"Worker":"…","Manager":"…"}}"#;
    assert_eq!(shown, format!("{wanted}\n"));
    let [worker, manager] = ["/JoinTokens/Worker", "/JoinTokens/Manager"].map(|pointer| {
        let token = quoted(pointer);
        let parts: Vec<String> = token.trim_matches('"').split('-').map(str::to_owned).collect();
        let lens: Vec<usize> = parts.iter().map(String::len).collect();
        assert_eq!((&*parts[0], &*parts[1], &lens[2..]), ("SWMTKN", "1", &[50, 25][..]), "{token}");
        parts
    });
    assert_eq!(worker[2], manager[2], "both name the same root");
    assert_ne!(worker[3], manager[3]);
    assert!(!text.contains("PRIVATE"));
    let node = client.get("/nodes").json()[0]["ID"].to_string();
    let again = json!({"ListenAddr": "127.0.0.1:1"});
    check(
        &client,
        vec![
            post("/swarm/init", &again).fails(503, ALREADY),
            // Even one that is wrong in itself.
            request("POST", "/swarm/init").fails(503, ALREADY),
            post("/swarm/join", &json!({"RemoteAddrs": ["x"]})).fails(503, ALREADY),
            request("POST", "/swarm/join").fails(503, ALREADY),
            get("/swarm/unlockkey").shows(200, r#"{"UnlockKey":""}"#),
            post("/swarm/unlock", &json!({"UnlockKey": "SWMKEY-1-x"}))
                .fails(409, "swarm is not locked"),
            request("POST", "/swarm/unlock").fails(409, "swarm is not locked"),
            post_text("/swarm/unlock", "{").fails(400, "invalid JSON: unexpected EOF"),
        ],
    );
    // A cluster of this manager alone is what it is already.
    let forced = client.post("/swarm/init", &json!({"ForceNewCluster": true}));
    assert_eq!((forced.status, forced.text()), (200, format!("{node}\n")));
    assert_eq!(client.get("/swarm").json(), swarm);
    // Settings that come with it hold from then on.
    let spec = json!({"Orchestration": {"TaskHistoryRetentionLimit": 2}});
    let forced = client.post("/swarm/init", &json!({"ForceNewCluster": true, "Spec": spec}));
    assert_eq!((forced.status, forced.text()), (200, format!("{node}\n")));
    let spec = client.get("/swarm").json()["Spec"].clone();
    assert_eq!(spec["Orchestration"]["TaskHistoryRetentionLimit"], 2);
    assert_eq!(spec["Dispatcher"], swarm["Spec"]["Dispatcher"], "what was left out is the default");
}

#[test]
fn init_takes_settings_and_zero_means_the_default() {
    let purser = Purser::serve("settings");
    let client = purser.client();
    let wish = json!({"ListenAddr": "127.0.0.1:0", "AdvertiseAddr": "127.0.0.1:4711",
        "Availability": "drain", "DefaultAddrPool": ["10.20.0.0/16"], "SubnetSize": 26,
        "DataPathPort": 5000, "AutoLockManagers": true,
        "Spec": {"Labels": {"a": "b"}, "Orchestration": {"TaskHistoryRetentionLimit": 0},
            "Raft": {"SnapshotInterval": 0, "ElectionTick": 0, "HeartbeatTick": 2},
            "Dispatcher": {"HeartbeatPeriod": 0}, "CAConfig": {"NodeCertExpiry": 0}}});
    let answer = client.post("/swarm/init", &wish);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let node = client.get("/nodes").json()[0].clone();
    assert_eq!(answer.json(), node["ID"], "the answer is the id of the node, as a JSON string");
    assert_eq!(node["Spec"]["Availability"], "drain");
    assert_eq!(node["ManagerStatus"]["Addr"], "127.0.0.1:4711");
    let swarm = client.get("/swarm").json();
    let spec = &swarm["Spec"];
    assert_eq!(spec["Labels"], json!({"a": "b"}));
    assert_eq!(spec["Raft"]["SnapshotInterval"], 10_000);
    assert_eq!(
        (&spec["Raft"]["ElectionTick"], &spec["Raft"]["HeartbeatTick"]),
        (&json!(10), &json!(2))
    );
    assert_eq!(spec["Dispatcher"], json!({"HeartbeatPeriod": 5_000_000_000_u64}));
    assert_eq!(spec["CAConfig"], json!({"NodeCertExpiry": 7_776_000_000_000_000_u64}));
    assert_eq!(spec["EncryptionConfig"], json!({"AutoLockManagers": false}));
    assert_eq!(swarm["DefaultAddrPool"], json!(["10.20.0.0/16"]));
    assert_eq!((&swarm["SubnetSize"], &swarm["DataPathPort"]), (&json!(26), &json!(5000)));
}

#[test]
fn updates_are_refused_in_the_engines_words() {
    let purser = Purser::swarm("swarm-up");
    let client = purser.client();
    let before = client.get("/swarm").json();
    let update = |query: &str, body: Value| post(format!("/swarm/update?{query}"), &body);
    let now = version(&client, "/swarm");
    let bad = |text: &str, why: &str| {
        format!("invalid swarm version '{text}': strconv.ParseUint: parsing \"{text}\": {why}")
    };
    let invalid = |body: Value, text: &str| {
        update(&now, body).fails(400, format!("rpc error: code = InvalidArgument desc = {text}"))
    };
    let ca = |change: Value| json!({"CAConfig": change});
    let hour = "minimum certificate expiry time is: 1h0m0s";
    check(
        &client,
        vec![
            update("", json!({})).fails(400, bad("", "invalid syntax")),
            update("version=x", json!({})).fails(400, bad("x", "invalid syntax")),
            update("version=18446744073709551616", json!({}))
                .fails(400, bad("18446744073709551616", "value out of range")),
            update(&format!("{now}&rotateWorkerToken=zz"), json!({}))
                .fails(400, "invalid value for rotateWorkerToken: zz"),
            update(&format!("{now}&rotateManagerToken=zz"), json!({}))
                .fails(400, "invalid value for rotateManagerToken: zz"),
            update(&format!("{now}&rotateManagerUnlockKey=zz"), json!({}))
                .fails(400, "invalid value for rotateManagerUnlockKey: zz"),
            update(&now, json!({"Name": "other"}))
                .fails(400, "swarm spec must be named \"default\""),
            invalid(ca(json!({"NodeCertExpiry": 3_599_999_999_999_u64})), hour),
            invalid(ca(json!({"NodeCertExpiry": -1})), hour),
            invalid(
                json!({"Dispatcher": {"HeartbeatPeriod": -1}}),
                "heartbeat time period cannot be a negative duration",
            ),
            update(&now, ca(json!({"ExternalCAs": [{"Protocol": "zz"}]})))
                .fails(400, "invalid protocol: \"zz\""),
            update("version=0", json!({}))
                .fails(500, "rpc error: code = Unknown desc = update out of sequence"),
        ],
    );
    assert_eq!(client.get("/swarm").json(), before);
}

/// The Engine sets what is left out to zero; here it stays, so that a client which sends a part of
/// the settings does not undo the rest.
#[test]
fn what_an_update_leaves_out_stays() {
    let purser = Purser::swarm("partial");
    let client = purser.client();
    let defaults = client.get("/swarm").json()["Spec"].clone();
    let update = |body: Value| {
        let now = version(&client, "/swarm");
        check(&client, vec![post(format!("/swarm/update?{now}"), &body).bare(200)]);
        client.get("/swarm").json()["Spec"].clone()
    };
    assert_eq!(update(json!({})), defaults);
    assert_eq!(update(json!({"Name": ""})), defaults);
    assert_eq!(update(json!({"Raft": {"ElectionTick": null}, "Labels": null})), defaults);
    let spec =
        update(json!({"Labels": {"a": "b"}, "Orchestration": {"TaskHistoryRetentionLimit": 0}}));
    assert_eq!(spec["Labels"], json!({"a": "b"}));
    assert_eq!(spec["Orchestration"], json!({"TaskHistoryRetentionLimit": 0}));
    assert_eq!(spec["Raft"], defaults["Raft"]);
    let spec = update(json!({"Labels": {"c": "d"}, "Raft": {"HeartbeatTick": 3}}));
    assert_eq!(spec["Labels"], json!({"c": "d"}), "labels are replaced whole");
    assert_eq!(spec["Raft"]["HeartbeatTick"], 3);
    assert_eq!(spec["Raft"]["ElectionTick"], 10);
    // What was shown can be sent back as it is.
    assert_eq!(update(spec.clone()), spec);
}

#[test]
fn tokens_rotate_one_by_one() {
    let purser = Purser::swarm("tokens");
    let client = purser.client();
    let tokens = || {
        let tokens = client.get("/swarm").json()["JoinTokens"].clone();
        ["Worker", "Manager"].map(|name| tokens[name].to_string())
    };
    let [worker, manager] = tokens();
    let rotate = |flags: &str| {
        let now = version(&client, "/swarm");
        let path = format!("/swarm/update?{flags}&{now}");
        check(&client, vec![request("POST", path).bare(200)]);
    };
    rotate("rotateWorkerToken=false&rotateManagerToken=0&rotateManagerUnlockKey=False");
    assert_eq!(tokens(), [worker.clone(), manager.clone()]);
    rotate("rotateWorkerToken=true");
    let [next_worker, same_manager] = tokens();
    assert!(next_worker != worker && same_manager == manager);
    assert_eq!(next_worker[..60], worker[..60], "the root's part stays");
    rotate("rotateManagerToken=1");
    let [same_worker, next_manager] = tokens();
    assert!(same_worker == next_worker && next_manager != manager);
}

#[test]
fn the_last_manager_leaves_only_when_forced_and_takes_all_with_it() {
    let purser = Purser::swarm("leave");
    let client = purser.client();
    super::api_table::make_secret(&client, "a", &json!({}));
    let before = client.get("/swarm").json()["ID"].clone();
    let last = "You are attempting to leave the swarm on a node that is participating as a manager. \
        Removing the last manager erases all current state of the swarm. Use `--force` to ignore \
        this message. ";
    check(
        &client,
        vec![
            request("POST", "/swarm/leave").fails(503, last),
            request("POST", "/swarm/leave?force=1").bare(200),
            request("POST", "/swarm/leave?force=1").fails(503, "This node is not part of a swarm"),
            get("/secrets").fails(503, NO_SWARM),
        ],
    );
    assert_eq!(client.get("/_ping").header("Swarm"), Some("inactive"));
    purser.init("127.0.0.1:0");
    assert_ne!(client.get("/swarm").json()["ID"], before);
    check(&client, vec![get("/secrets").shows(200, "[]")]);
}
