//! The root certificate and the certificates of nodes, message by message.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::kit::agent::cluster::Cluster;
use crate::kit::agent::door::Credentials;
use crate::kit::agent::{Habits, Member, PATIENCE};
use crate::kit::eventually;
use crate::kit::purser::Purser;

/// Asks for a new root.
fn rotate(cluster: &Cluster) {
    let swarm = cluster.client.get("/swarm").json();
    let rotations = swarm["Spec"]["CAConfig"]["ForceRotate"].as_u64().unwrap_or(0);
    let path = format!("/swarm/update?version={}", swarm["Version"]["Index"]);
    let answer = cluster.client.post(&path, &json!({"CAConfig": {"ForceRotate": rotations + 1}}));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn swarm(cluster: &Cluster) -> Value {
    cluster.client.get("/swarm").json()
}

#[test]
fn nodes_are_told_to_renew_and_then_what_to_trust() {
    let mut cluster = Cluster::new("root-steps");
    let member = cluster.join().expect("it is admitted");
    let agent = member.open(&Habits::default()).expect("a session");
    let first = swarm(&cluster);
    rotate(&cluster);
    let state = |seen: &crate::kit::agent::Seen| {
        let node = seen.messages.last()?.node.clone()?;
        Some(node.certificate?.status?.state)
    };
    agent.until("it is told to renew", |seen| (state(seen) == Some(5)).then_some(()));
    let shown = swarm(&cluster);
    assert_eq!(shown["RootRotationInProgress"], true);
    assert_eq!(shown["TLSInfo"]["TrustRoot"], first["TLSInfo"]["TrustRoot"], "trusted still");
    assert_ne!(
        shown["TLSInfo"]["CertIssuerPublicKey"], first["TLSInfo"]["CertIssuerPublicKey"],
        "issued is by the new one"
    );
    assert_eq!(shown["JoinTokens"], first["JoinTokens"]);

    // A restart in between changes nothing.
    cluster.purser.kill();
    cluster.purser.start();
    assert_eq!(swarm(&cluster)["RootRotationInProgress"], true);
    let member = member.renew().expect("it is signed");
    let certificates = member.credentials.chain.matches("BEGIN CERTIFICATE").count();
    assert_eq!(certificates, 2, "with the new root, signed by the old one");
    let agent = member.open(&Habits::default()).expect("a session");
    agent.until("it is told what to trust", |seen| {
        let message = seen.messages.last()?;
        let root = String::from_utf8(message.root_ca.clone()).ok()?;
        (Some(root.as_str()) != first["TLSInfo"]["TrustRoot"].as_str()).then_some(())
    });
    let last = swarm(&cluster);
    assert_eq!(last["RootRotationInProgress"], false);
    assert_eq!(last["TLSInfo"]["CertIssuerPublicKey"], shown["TLSInfo"]["CertIssuerPublicKey"]);
    assert_ne!(last["JoinTokens"]["Worker"], first["JoinTokens"]["Worker"]);
    // A host with the old token is not let in: what it is given is another root.
    let token = first["JoinTokens"]["Worker"].as_str().expect("a token");
    let stale = crate::kit::agent::Member::join(cluster.addr, token).err();
    assert_eq!(stale.map(|status| status.code()), Some(Code::DataLoss));
    cluster.engine().beat().expect("with the new one it is");
}

#[test]
fn what_is_no_root_is_refused_and_changes_nothing() {
    let cluster = Cluster::new("root-bad");
    let before = swarm(&cluster);
    let path = format!("/swarm/update?version={}", before["Version"]["Index"]);
    for (cert, key, why) in [
        ("x", "", "have to be given together"),
        ("", "x", "have to be given together"),
        ("x", "x", "is no key in PEM"),
    ] {
        let wish = json!({"CAConfig": {"SigningCACert": cert, "SigningCAKey": key}});
        let answer = cluster.client.post(&path, &wish);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.message().contains(why), "{}", answer.message());
    }
    assert_eq!(swarm(&cluster), before);
}

/// A root of the test's own, with which it can sign what the manager never would.
struct OwnRoot {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key_pem: String,
}

impl OwnRoot {
    fn make() -> OwnRoot {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the test's own");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let key_pem = key.serialize_pem();
        OwnRoot { issuer: Issuer::new(params, key), pem, key_pem }
    }

    /// A node's certificate that ended so many seconds ago.
    #[expect(clippy::disallowed_methods, reason = "the server under test goes by the real clock")]
    fn ended(&self, cluster: &str, node: &str, seconds: i64) -> Credentials {
        let mut params = CertificateParams::new(vec!["swarm-worker".into()]).expect("a name");
        params.distinguished_name = DistinguishedName::new();
        let names = [
            (DnType::OrganizationName, cluster),
            (DnType::OrganizationalUnitName, "swarm-worker"),
            (DnType::CommonName, node),
        ];
        for (kind, name) in names {
            params.distinguished_name.push(kind, name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = i64::try_from(now.expect("after 1970").as_secs()).expect("a time");
        let at = |moment| time::OffsetDateTime::from_unix_timestamp(moment).expect("a time");
        (params.not_before, params.not_after) = (at(now - seconds - 3600), at(now - seconds));
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Credentials { chain, key: key.serialize_der() }
    }
}

/// A cluster whose root the test has.
fn with_own_root(name: &str, args: &[&str]) -> (Cluster, OwnRoot) {
    let args = [&["--engine", "none"], args].concat();
    let purser = Purser::with_args(name, &args);
    purser.init("127.0.0.1:0");
    let cluster = Cluster::of(purser);
    let root = OwnRoot::make();
    let before = swarm(&cluster);
    let path = format!("/swarm/update?version={}", before["Version"]["Index"]);
    let wish = json!({"CAConfig": {"SigningCACert": root.pem, "SigningCAKey": root.key_pem}});
    let answer = cluster.client.post(&path, &wish);
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually("it has taken its place", PATIENCE, || {
        (swarm(&cluster)["RootRotationInProgress"] == false).then_some(())
    });
    (cluster, root)
}

#[test]
fn an_expired_certificate_is_good_for_the_next_one_only() {
    let (cluster, root) = with_own_root("root-expired", &[]);
    let id = swarm(&cluster)["ID"].as_str().expect("an id").to_owned();
    let member = cluster.join().expect("it is admitted");
    let with = |seconds: i64| {
        let credentials = root.ended(&id, &member.node_id, seconds);
        Member { credentials, ..member.clone() }
    };
    let expired = with(3600);
    let status = expired.open(&Habits::default()).err().expect("no session");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("has expired"), "{}", status.message());
    let renewed = expired.renew().expect("it is signed");
    let agent = renewed.open(&Habits::default()).expect("a session");
    agent.beat().expect("it is a member again");
    // Past the grace period it is nothing any more.
    assert!(with(169 * 3600).renew().is_err());
    // A node that was removed stays out, however it comes.
    cluster.remove_node(&member.node_id);
    let removed = with(3600).renew().err().map(|status| status.code());
    assert_eq!(removed, Some(Code::PermissionDenied));
}

#[test]
fn without_a_grace_period_an_expired_certificate_is_nothing() {
    let (cluster, root) = with_own_root("root-graceless", &["--expired-grace-hours", "0"]);
    let id = swarm(&cluster)["ID"].as_str().expect("an id").to_owned();
    let member = cluster.join().expect("it is admitted");
    let credentials = root.ended(&id, &member.node_id, 60);
    assert!(Member { credentials, ..member.clone() }.renew().is_err());
    member.renew().expect("with the one that has not ended it is signed");
}
