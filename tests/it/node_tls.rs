//! The nodes' door at the level of TLS: versions, names, protocols, and who does not get in.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use purser::wire::proto::SessionRequest;
use purser::wire::proto::dispatcher_client::DispatcherClient;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

use crate::kit::agent::cluster::Cluster;
use crate::kit::agent::door::{Credentials, Dial};
use crate::kit::agent::{Habits, PATIENCE, fetch_root, wait};
use crate::kit::eventually;

const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

#[test]
fn both_versions_of_tls_and_both_names_are_served() {
    let cluster = Cluster::new("tls");
    let member = cluster.join().expect("admitted");
    for (versions, expected) in
        [(ONLY_12, ProtocolVersion::TLSv1_2), (ONLY_13, ProtocolVersion::TLSv1_3)]
    {
        let dial = Dial { versions, ..member.dial() };
        let agreed = wait(dial.agree()).expect("a handshake");
        assert_eq!(agreed.version, Some(expected));
        assert_eq!(agreed.alpn.as_deref(), Some(&b"h2"[..]), "old and new engines offer it");
        let parsed = x509_parser::parse_x509_certificate(&agreed.server).expect("a certificate").1;
        let nodes =
            cluster.client.get("/nodes?filters=%7B%22role%22%3A%5B%22manager%22%5D%7D").json();
        let id = nodes[0]["ID"].as_str().expect("the manager's node");
        let subject = parsed.subject().to_string();
        assert!(subject.ends_with(&format!("OU=swarm-manager, CN={id}")), "{subject}");
        let habits = Habits { dial: Some(dial), ..Habits::default() };
        let agent = member.open(&habits).expect("a session");
        agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    }
    for (name, is_known) in [("swarm-ca", true), ("swarm-manager", true), ("swarm-worker", false)] {
        let verify = Some((member.root.clone(), name));
        let dial = Dial { verify, credentials: None, ..member.dial() };
        assert_eq!(wait(dial.agree()).is_ok(), is_known, "{name}");
    }
}

#[test]
fn no_protocol_needs_to_be_offered() {
    let cluster = Cluster::new("alpn");
    let member = cluster.join().expect("admitted");
    let dial = Dial { alpn: &[], ..member.dial() };
    assert_eq!(wait(dial.agree()).expect("a handshake").alpn, None);
    let agent = member.open(&Habits { dial: Some(dial), ..Habits::default() }).expect("a session");
    agent.beat().expect("it beats");
    // A joining host without one is served as well.
    let bare = Dial { alpn: &[], ..Dial::bare(cluster.addr) };
    let answer = wait(async {
        let channel = bare.channel().await.expect("the door is open");
        purser::wire::proto::ca_client::CaClient::new(channel)
            .get_root_ca_certificate(purser::wire::proto::GetRootCaCertificateRequest {})
            .await
    });
    assert_eq!(answer.expect("the root").into_inner().certificate, member.root.as_bytes());
}

/// Credentials that say what a node's say, signed by a root that only looks like the cluster's.
fn forge(cluster: &str, unit: &str, node: &str) -> Credentials {
    let root_key = KeyPair::generate().expect("a key");
    let mut root = CertificateParams::default();
    root.distinguished_name = DistinguishedName::new();
    root.distinguished_name.push(DnType::CommonName, "swarm-ca");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(root, root_key);
    let mut leaf = CertificateParams::new(vec![unit.to_owned(), node.to_owned()]).expect("names");
    leaf.distinguished_name = DistinguishedName::new();
    leaf.distinguished_name.push(DnType::OrganizationName, cluster);
    leaf.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    leaf.distinguished_name.push(DnType::CommonName, node);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let chain = leaf.signed_by(&key, &issuer).expect("signed").pem();
    Credentials { chain, key: key.serialize_der() }
}

#[test]
fn certificates_of_other_authorities_are_refused() {
    let (cluster, other) = (Cluster::new("ca1"), Cluster::new("ca2"));
    let (member, foreign) = (cluster.join().expect("admitted"), other.join().expect("admitted"));
    let id = cluster.swarm()["ID"].as_str().expect("an id").to_owned();
    let cases = [
        ("of another swarm", foreign.credentials),
        ("forged", forge(&id, "swarm-worker", &member.node_id)),
        ("forged manager", forge(&id, "swarm-manager", &member.node_id)),
    ];
    for (name, credentials) in cases {
        for versions in [ONLY_12, ONLY_13] {
            let credentials = Some(credentials.clone());
            let dial = Dial { credentials, versions, ..member.dial() };
            let called = wait(async {
                let channel = dial.channel().await.ok()?;
                DispatcherClient::new(channel).session(SessionRequest::default()).await.ok()
            });
            assert!(called.is_none(), "{name}");
        }
    }
    assert_eq!(cluster.node_state(&member.node_id), "unknown", "nobody spoke for it");
    assert!(cluster.purser.log().contains("TLS handshake failed"), "the operator can see why");
}

#[test]
fn slow_and_garbled_handshakes_are_in_nobodys_way() {
    let cluster = Cluster::new("slow");
    let connect = || TcpStream::connect(cluster.addr).expect("the door is open");
    let mut held: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
    for (at, stream) in held.iter_mut().enumerate() {
        let _ = match at % 4 {
            0 => Ok(()),
            1 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n"),
            2 => stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]),
            _ => stream.write_all(&[0xff; 4096]),
        };
    }
    let token = cluster.token("Worker");
    let quick = async {
        tokio::time::timeout(Duration::from_secs(5), fetch_root(cluster.addr, &token)).await
    };
    assert!(wait(quick).is_ok_and(|root| root.is_ok()), "in a moment, while they hang");
    let agent = cluster.engine();
    agent.until("assignments", |seen| seen.assignments.first().map(|_| ()));
    drop(held);
    agent.beat().expect("and after they are gone");
}

#[test]
fn garbage_within_tls_ends_only_its_own_connection() {
    let cluster = Cluster::new("garbage");
    let agent = cluster.engine();
    // Another protocol is not served, and refused before a byte of it.
    let other = Dial { alpn: &[b"http/1.1"], ..Dial::bare(cluster.addr) };
    assert!(wait(other.agree()).is_err());
    // A message that is none: gRPC answers with an error, and the next call is fine.
    let status = wait(async {
        let channel = Dial::bare(cluster.addr).channel().await.expect("the door is open");
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.expect("it is connected");
        let path = "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate";
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
        let codec = tonic_prost::ProstCodec::<
            purser::wire::proto::Peer,
            purser::wire::proto::IssueNodeCertificateResponse,
        >::default();
        // Field 2 of a peer is a text; as a request for a certificate it stands for one.
        let peer = purser::wire::proto::Peer { node_id: "x".into(), addr: "y".into() };
        client.unary(tonic::Request::new(peer), path, codec).await.map(|_| ())
    });
    assert!(status.is_err());
    agent.beat().expect("others do not notice");
    agent.assert_no_faults();
}

#[test]
fn no_node_and_no_address_takes_all_places() {
    let cluster = Cluster::new("places");
    let (greedy, other) = (cluster.join().expect("admitted"), cluster.engine());
    let open = |dial: &Dial, count: usize| {
        (0..count).filter_map(|_| wait(dial.channel()).ok()).collect::<Vec<_>>()
    };
    let closed = || cluster.purser.log().matches("too many connections; one was closed").count();
    let held = open(&greedy.dial(), 40);
    eventually("what is too many is closed", PATIENCE, || (closed() >= 24).then_some(()));
    assert_eq!(closed(), 24, "a node has sixteen");
    drop(held);
    let held = open(&Dial::bare(cluster.addr), 300);
    eventually("what is too many is closed", PATIENCE, || (closed() >= 24 + 44).then_some(()));
    other.beat().expect("others do not notice");
    let agent = cluster.join().map(|member| member.open(&Habits::default()));
    assert!(agent.is_err(), "of this address no further host joins");
    drop(held);
    eventually("places are free again", PATIENCE, || cluster.join().ok());
}
