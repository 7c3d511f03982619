//! Members: how an engine becomes one of a swarm, and has its certificate renewed.

use std::net::SocketAddr;
use std::time::Duration;

use purser::wire::proto;
use purser::wire::proto::IssueNodeCertificateRequest;
use purser::wire::proto::ca_client::CaClient;
use purser::wire::proto::issuance_status::State as Issuance;
use purser::wire::proto::node_ca_client::NodeCaClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use sha2::{Digest as _, Sha256};
use tonic::Status;
use tonic::transport::Channel;

use super::door::{Credentials, Dial};
use super::{Agent, Habits, wait};

/// A key of its own, PKCS#8, and a request for a certificate as engines make it: no subject, no
/// extensions.
pub fn make_request() -> (Vec<u8>, Vec<u8>) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    make_request_of(&params)
}

/// The same with whatever else the request says.
pub fn make_request_of(params: &CertificateParams) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let request = params.serialize_request(&key).expect("a request");
    let pem = request.pem().expect("a PEM text").replace("\r\n", "\n");
    (key.serialize_der(), pem.into_bytes())
}

/// Fetches the root certificate, and takes it only if the token's digest is of it.
pub async fn fetch_root(addr: SocketAddr, token: &str) -> Result<String, Status> {
    let channel = Dial::bare(addr).channel().await.map_err(unreachable)?;
    let answer = CaClient::new(channel)
        .get_root_ca_certificate(proto::GetRootCaCertificateRequest {})
        .await?
        .into_inner();
    let digest = token.split('-').nth(2).unwrap_or_default();
    if digest != base36(&Sha256::digest(&answer.certificate), 50) {
        return Err(Status::data_loss("the root is not that of the token"));
    }
    String::from_utf8(answer.certificate).map_err(|_| Status::data_loss("not a text"))
}

/// A big-endian number in base 36, padded to so many digits.
fn base36(bytes: &[u8], digits: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = Vec::new();
    for _ in 0..digits {
        let rest = number.iter_mut().fold(0u32, |rest, byte| {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).expect("a quotient of bytes");
            value % 36
        });
        text.push(char::from_digit(rest, 36).expect("a digit"));
    }
    text.iter().rev().collect()
}

pub(super) fn unreachable(error: std::io::Error) -> Status {
    Status::unavailable(format!("connecting: {error}"))
}

/// An engine that is a member of a swarm.
#[derive(Clone)]
pub struct Member {
    pub addr: SocketAddr,
    pub root: String,
    pub node_id: String,
    pub credentials: Credentials,
}

impl Member {
    /// Joins as `docker swarm join` does.
    pub fn join(addr: SocketAddr, token: &str) -> Result<Member, Status> {
        let (key, csr) = make_request();
        Member::join_with(addr, token, key, &csr, proto::node_spec::Availability::Active)
    }

    /// Joins with a key and request of the test's own.
    #[track_caller]
    pub fn join_with(
        addr: SocketAddr,
        token: &str,
        key: Vec<u8>,
        csr: &[u8],
        availability: proto::node_spec::Availability,
    ) -> Result<Member, Status> {
        wait(async {
            let root = fetch_root(addr, token).await?;
            let verify = Some((root.clone(), "swarm-ca"));
            let dial = Dial { verify, ..Dial::bare(addr) };
            let mut client = NodeCaClient::new(dial.channel().await.map_err(unreachable)?);
            let request = IssueNodeCertificateRequest {
                role: proto::NodeRole::Worker.into(),
                csr: csr.to_vec(),
                token: token.to_owned(),
                availability: availability.into(),
            };
            let issued = client.issue_node_certificate(request).await?.into_inner();
            assert_eq!(issued.node_membership, 1, "accepted");
            let chain = poll_chain(&mut client, &issued.node_id, csr).await?;
            let credentials = Credentials { chain, key };
            Ok(Member { addr, root, node_id: issued.node_id, credentials })
        })
    }

    /// How it connects once it is a member.
    pub fn dial(&self) -> Dial {
        Dial {
            verify: Some((self.root.clone(), "swarm-manager")),
            credentials: Some(self.credentials.clone()),
            ..Dial::bare(self.addr)
        }
    }

    /// Has a new key signed with the certificate that it has.
    pub fn renew(&self) -> Result<Member, Status> {
        wait(async {
            let mut client = NodeCaClient::new(self.dial().channel().await.map_err(unreachable)?);
            let (key, csr) = make_request();
            let request = IssueNodeCertificateRequest { csr: csr.clone(), ..Default::default() };
            let issued = client.issue_node_certificate(request).await?.into_inner();
            assert_eq!(issued.node_id, self.node_id);
            let chain = poll_chain(&mut client, &issued.node_id, &csr).await?;
            Ok(Member { credentials: Credentials { chain, key }, ..self.clone() })
        })
    }

    /// What an engine says of its trust: its root, and who signed its own certificate.
    pub(super) fn tls_info(&self) -> proto::NodeTlsInfo {
        let text = self.credentials.chain.clone() + &self.root;
        let blocks = x509_parser::pem::Pem::iter_from_buffer(text.as_bytes());
        let ders: Vec<Vec<u8>> = blocks.map(|block| block.expect("a PEM text").contents).collect();
        let parsed = |der| x509_parser::parse_x509_certificate(der).expect("a certificate").1;
        let (leaf, issuer) = (parsed(&ders[0]), parsed(&ders[1]));
        proto::NodeTlsInfo {
            trust_root: self.root.clone().into_bytes(),
            cert_issuer_subject: leaf.issuer().as_raw().to_vec(),
            cert_issuer_public_key: issuer.public_key().raw.to_vec(),
        }
    }

    /// Opens a session and does what it is told.
    pub fn start(&self) -> Agent {
        self.open(&Habits::default()).expect("a session")
    }

    /// Opens a session with habits of the test's own.
    pub fn open(&self, habits: &Habits) -> Result<Agent, Status> {
        wait(Agent::open(self.clone(), habits.clone()))
    }
}

/// Polls until the manager has signed this very request.
async fn poll_chain(
    client: &mut NodeCaClient<Channel>,
    node_id: &str,
    csr: &[u8],
) -> Result<String, Status> {
    loop {
        let request = proto::NodeCertificateStatusRequest { node_id: node_id.to_owned() };
        let answer = client.node_certificate_status(request).await?.into_inner();
        let state = answer.status.map_or(Issuance::Unknown, |status| status.state());
        let certificate = answer.certificate.unwrap_or_default();
        if matches!(state, Issuance::Issued | Issuance::Rotate) && certificate.csr == csr {
            return String::from_utf8(certificate.certificate)
                .map_err(|_| Status::data_loss("not a text"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
