//! Joining and renewing, as an engine sees it: the root, the token, the certificate, and who is
//! turned away.

use base64::Engine as _;
use purser::wire::proto;
use purser::wire::proto::dispatcher_client::DispatcherClient;
use purser::wire::proto::node_ca_client::NodeCaClient;
use purser::wire::proto::node_spec::Availability;
use purser::wire::proto::{IssueNodeCertificateRequest, NodeCertificateStatusRequest};
use rcgen::{CertificateParams, DnType};
use tonic::{Code, Status};
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

use crate::kit::agent::cluster::Cluster;
use crate::kit::agent::door::Dial;
use crate::kit::agent::{Member, fetch_root, make_request, make_request_of, wait};

fn der(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("a PEM text").1.contents
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    x509_parser::parse_x509_certificate(der).expect("a certificate").1
}

/// DNS names of a certificate, sorted.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().expect("one extension").expect("names");
    let dns = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => panic!("{other:?}"),
    });
    let mut dns: Vec<String> = dns.collect();
    dns.sort();
    dns
}

fn seconds(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

/// Asks for a certificate on a connection without one.
fn issue(cluster: &Cluster, token: &str, csr: &[u8]) -> Result<String, Status> {
    wait(async {
        let channel = Dial::bare(cluster.addr).channel().await.expect("the door is open");
        let request = IssueNodeCertificateRequest {
            csr: csr.to_vec(),
            token: token.to_owned(),
            ..Default::default()
        };
        let answer = NodeCaClient::new(channel).issue_node_certificate(request).await?;
        Ok(answer.into_inner().node_id)
    })
}

#[test]
fn the_root_is_that_of_the_tokens_and_looks_as_engines_expect() {
    let mut cluster = Cluster::new("root");
    let (worker, manager) = (cluster.token("Worker"), cluster.token("Manager"));
    for token in [&worker, &manager] {
        let parts: Vec<&str> = token.split('-').collect();
        assert_eq!(parts[..2], ["SWMTKN", "1"]);
        assert_eq!((parts.len(), parts[2].len(), parts[3].len()), (4, 50, 25));
    }
    assert_eq!(worker[..60], manager[..60], "the digest is of the same root");
    assert_ne!(worker[60..], manager[60..]);
    let root = wait(fetch_root(cluster.addr, &worker)).expect("the digest is of what is served");
    assert!(!root.contains('\r') && root.ends_with('\n'));

    let der = der(&root);
    let certificate = parse(&der);
    assert_eq!(certificate.subject().to_string(), "CN=swarm-ca");
    assert_eq!(certificate.issuer(), certificate.subject());
    assert!(certificate.verify_signature(None).is_ok(), "self-signed");
    let basic = certificate.basic_constraints().expect("one").expect("there");
    assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint.is_none());
    let usage = certificate.key_usage().expect("one").expect("there");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    let (from, to) = seconds(&certificate);
    assert_eq!((to - from) / (365 * 24 * 3600), 20);

    cluster.purser.kill();
    cluster.purser.start();
    let again = wait(fetch_root(cluster.addr, &worker));
    assert_eq!(again.ok(), Some(root), "and after a restart it is the same");
}

#[test]
fn of_a_request_only_the_key_counts() {
    let cluster = Cluster::new("csr");
    let mut params = CertificateParams::new(vec!["swarm-manager".into()]).expect("names");
    params.distinguished_name.push(DnType::OrganizationName, "another-cluster");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "swarm-manager");
    params.distinguished_name.push(DnType::CommonName, "another-node");
    let (key, mut csr) = make_request_of(&params);
    // Whatever stands around the block belongs to the bytes that are compared.
    csr.extend_from_slice(b"\n\n");
    let token = cluster.token("Worker");
    let member = Member::join_with(cluster.addr, &token, key, &csr, Availability::Drain)
        .expect("admitted, and its request returned byte for byte");

    let leaf = der(&member.credentials.chain);
    let certificate = parse(&leaf);
    let id = cluster.swarm()["ID"].as_str().expect("an id").to_owned();
    let subject = format!("O={id}, OU=swarm-worker, CN={}", member.node_id);
    assert_eq!(certificate.subject().to_string(), subject);
    let mut expected = vec!["swarm-worker".to_owned(), member.node_id.clone()];
    expected.sort();
    assert_eq!(names(&certificate), expected);
    let root = der(&member.root);
    assert!(certificate.verify_signature(Some(parse(&root).public_key())).is_ok());
    let basic = certificate.basic_constraints().expect("one").expect("there");
    assert!(basic.critical && !basic.value.ca);
    let usage = certificate.key_usage().expect("one").expect("there");
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    let extended = certificate.extended_key_usage().expect("one").expect("there").value;
    assert!(extended.server_auth && extended.client_auth);
    let has = |wanted: fn(&ParsedExtension<'_>) -> bool| {
        certificate.extensions().iter().any(|extension| wanted(extension.parsed_extension()))
    };
    assert!(has(|parsed| matches!(parsed, ParsedExtension::AuthorityKeyIdentifier(_))));
    let (from, to) = seconds(&certificate);
    assert_eq!(to - from, 90 * 24 * 3600 + 3600, "90 days, backdated an hour");
    assert_eq!(member.credentials.chain.matches("BEGIN").count(), 1);

    let node = cluster.node(&member.node_id);
    assert_eq!(node["Spec"]["Availability"], "drain", "as asked for");
    assert_eq!(node["Spec"]["Role"], "worker");
    assert_eq!(node["Status"]["State"], "unknown");
}

#[test]
fn hosts_without_the_workers_token_are_not_admitted() {
    let cluster = Cluster::new("token");
    let worker = cluster.token("Worker");
    let other = worker[..60].to_owned() + &"0".repeat(25);
    let (_, csr) = make_request();
    let cut = &worker[..worker.len() - 1];
    for token in ["", "SWMTKN-1-x-y", &other, cut, &worker.to_uppercase(), &format!("{worker} ")] {
        let status = issue(&cluster, token, &csr).expect_err("not a token of this swarm");
        assert_eq!(status.code(), Code::InvalidArgument, "{token:?}");
        let text = "A valid join token is necessary to join this cluster";
        assert_eq!(status.message(), text, "{token:?}");
    }
    let status = issue(&cluster, &cluster.token("Manager"), &csr).expect_err("not a worker's");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("use the worker token"), "{}", status.message());
    assert_eq!(cluster.node_count(), 1, "none of them left a node behind");

    cluster.update("&rotateWorkerToken=true", &serde_json::json!({}));
    assert!(issue(&cluster, &worker, &csr).is_err(), "replaced");
    assert!(issue(&cluster, &cluster.token("Worker"), &csr).is_ok());
    assert_eq!(cluster.node_count(), 2);
}

#[test]
fn requests_that_cannot_be_signed_are_refused() {
    let cluster = Cluster::new("badcsr");
    let token = cluster.token("Worker");
    let (_, csr) = make_request();
    let mut der = der(std::str::from_utf8(&csr).expect("PEM"));
    // The signature is the end of the request.
    let last = der.len() - 1;
    der[last] ^= 1;
    let text = base64::engine::general_purpose::STANDARD.encode(&der);
    let forged =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    let mut long = csr.clone();
    long.resize(17 * 1024, b'\n');
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "no CSR"),
        ("garbage", b"\0\xff", "parsed"),
        ("cut", &csr[..csr.len() / 2], "parsed"),
        ("forged", forged.as_bytes(), "not signed with its own key"),
        ("long", &long, "too long"),
    ];
    for (name, csr, text) in cases {
        let status = issue(&cluster, &token, csr).expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
        assert!(status.message().contains(text), "{name}: {}", status.message());
    }
    assert_eq!(cluster.node_count(), 1);
}

#[test]
fn the_status_of_a_certificate_is_known_by_its_node() {
    let cluster = Cluster::new("status");
    let status = |id: &str| {
        wait(async {
            let channel = Dial::bare(cluster.addr).channel().await.expect("the door is open");
            let request = NodeCertificateStatusRequest { node_id: id.to_owned() };
            NodeCaClient::new(channel).node_certificate_status(request).await.map(|_| ())
        })
    };
    assert_eq!(status("").map_err(|error| error.code()), Err(Code::InvalidArgument));
    for unknown in ["x", &"0".repeat(25), &"A".repeat(25)] {
        assert_eq!(status(unknown).map_err(|error| error.code()), Err(Code::NotFound));
    }
    let member = cluster.join().expect("admitted");
    assert!(status(&member.node_id).is_ok(), "anybody may ask, a joining host among them");
}

#[test]
fn who_calls_is_told_by_the_certificate_alone() {
    let cluster = Cluster::new("forward");
    let (one, other) = (cluster.join().expect("admitted"), cluster.join().expect("admitted"));
    let org = cluster.swarm()["ID"].as_str().expect("an id").to_owned();
    let manager = cluster.client.get("/nodes").json()[0]["ID"].as_str().map(str::to_owned);
    fn forge<T>(message: T, id: &str, ou: &str, org: &str) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let fields = [("forwarded_cert", "true"), ("forwarded_cert_cn", id)];
        let more = [("forwarded_cert_ou", ou), ("forwarded_cert_org", org)];
        let addr = [("remote_addr", "10.1.2.3:4")];
        for (key, value) in fields.into_iter().chain(more).chain(addr) {
            request.metadata_mut().insert(key, value.parse().expect("a value"));
        }
        request
    }
    for (id, ou) in [
        (other.node_id.as_str(), "swarm-worker"),
        (manager.as_deref().expect("the manager's node"), "swarm-manager"),
    ] {
        let status = wait(async {
            let stranger = Dial::bare(cluster.addr).channel().await.expect("the door is open");
            let request = forge(proto::SessionRequest::default(), id, ou, &org);
            DispatcherClient::new(stranger).session(request).await.map(|_| ())
        });
        assert_eq!(status.map_err(|error| error.code()), Err(Code::PermissionDenied));
        let node = wait(async {
            let channel = one.dial().channel().await.expect("the door is open");
            let request = forge(proto::SessionRequest::default(), id, ou, &org);
            let stream = DispatcherClient::new(channel).session(request).await?;
            stream.into_inner().message().await
        });
        let node = node.expect("a session").expect("a message").node.expect("a node");
        assert_eq!(node.id, one.node_id, "not the forged one");
        assert_eq!(cluster.node(&one.node_id)["Status"]["Addr"], "127.0.0.1");
        let renewed = wait(async {
            let channel = one.dial().channel().await.expect("the door is open");
            let (_, csr) = make_request();
            let message = IssueNodeCertificateRequest { csr, ..Default::default() };
            NodeCaClient::new(channel).issue_node_certificate(forge(message, id, ou, &org)).await
        });
        assert_eq!(renewed.expect("signed").into_inner().node_id, one.node_id);
    }
}

#[test]
fn strangers_may_only_join() {
    let cluster = Cluster::new("stranger");
    let id = "0".repeat(25);
    let code = |status: Result<(), Status>| status.map_err(|error| error.code());
    let denied = Err(Code::PermissionDenied);
    wait(async {
        let channel = Dial::bare(cluster.addr).channel().await.expect("the door is open");
        let mut client = DispatcherClient::new(channel.clone());
        let session_id = id.clone();
        let session = proto::SessionRequest { session_id: session_id.clone(), description: None };
        assert_eq!(code(client.session(session).await.map(|_| ())), denied);
        let beat = proto::HeartbeatRequest { session_id: session_id.clone() };
        assert_eq!(code(client.heartbeat(beat).await.map(|_| ())), denied);
        let assignments = proto::AssignmentsRequest { session_id: session_id.clone() };
        assert_eq!(code(client.assignments(assignments).await.map(|_| ())), denied);
        let report = proto::UpdateTaskStatusRequest { session_id, updates: Vec::new() };
        assert_eq!(code(client.update_task_status(report).await.map(|_| ())), denied);
        let mut logs = proto::log_broker_client::LogBrokerClient::new(channel.clone());
        let listen = proto::ListenSubscriptionsRequest {};
        assert_eq!(code(logs.listen_subscriptions(listen).await.map(|_| ())), denied);
        let lines = tokio_stream::iter([proto::PublishLogsMessage::default()]);
        assert_eq!(code(logs.publish_logs(lines).await.map(|_| ())), denied);
        let mut ca = proto::ca_client::CaClient::new(channel);
        let key = proto::GetUnlockKeyRequest {};
        assert_eq!(code(ca.get_unlock_key(key).await.map(|_| ())), denied);
    });
}

#[test]
fn a_renewal_gives_a_new_certificate_and_leaves_the_session_alone() {
    let cluster = Cluster::new("renew");
    let agent = cluster.engine();
    let renewed = agent.member.renew().expect("signed");
    assert_ne!(renewed.credentials.chain, agent.member.credentials.chain);
    let leaf = der(&renewed.credentials.chain);
    assert!(parse(&leaf).subject().to_string().ends_with(&renewed.node_id));
    agent.until("it is told of its new certificate", |seen| {
        let node = seen.messages.last()?.node.as_ref()?;
        let certificate = node.certificate.as_ref()?;
        (certificate.certificate == renewed.credentials.chain.as_bytes()).then_some(())
    });
    agent.beat().expect("the session goes on");
    assert!(agent.seen().session_end.is_none());

    // An engine that renewed offers no protocol any more.
    let mut member = renewed;
    for _ in 0..2 {
        let dial = Dial { alpn: &[], ..member.dial() };
        let habits = crate::kit::agent::Habits { dial: Some(dial), ..Default::default() };
        let next = member.open(&habits).expect("a session without a negotiated protocol");
        next.until("it is told its assignments", |seen| seen.assignments.first().map(|_| ()));
        member = member.renew().expect("signed once more");
    }
    assert_eq!(cluster.node_count(), 2, "it is the same node");
}

#[test]
fn a_renewal_without_a_certificate_is_a_join() {
    let cluster = Cluster::new("norenew");
    let member = cluster.join().expect("admitted");
    let (_, csr) = make_request();
    let status = issue(&cluster, "", &csr).expect_err("no token, no certificate");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = wait(async {
        let channel = member.dial().channel().await.expect("the door is open");
        let request = IssueNodeCertificateRequest { csr: b"x".to_vec(), ..Default::default() };
        NodeCaClient::new(channel).issue_node_certificate(request).await.map(|_| ())
    });
    assert_eq!(status.map_err(|error| error.code()), Err(Code::InvalidArgument));
}
