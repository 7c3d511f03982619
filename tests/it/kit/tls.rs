//! Certificates, and a purser whose API asks for them.

use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use super::purser::Purser;
use super::scratch::Scratch;

/// Whoever holds these may connect to servers, and servers may be reached with these.
pub const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;
pub const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;

/// The year in which a certificate is over.
pub const LONG_AGO: i32 = 2020;
pub const LATER: i32 = 2090;

/// An authority, with its certificate in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub file: PathBuf,
}

/// A certificate and its key, in files.
#[derive(Debug, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(dir: &Path, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let file = dir.join(format!("{name}.pem"));
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(&file, certificate.pem()).expect("a file");
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// A certificate for 127.0.0.1 and this common name, in files of that name beside the
    /// authority's; what was there is replaced.
    pub fn issue(&self, name: &str, usage: &ExtendedKeyUsagePurpose, ends: i32) -> Pair {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage.clone()];
        params.not_before = date_time_ymd(2015, 1, 1);
        params.not_after = date_time_ymd(ends, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |suffix: &str| self.file.with_file_name(format!("{name}{suffix}.pem"));
        let pair = Pair { cert: path(""), key: path("-key") };
        std::fs::write(&pair.cert, certificate.pem()).expect("a file");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&pair.key);
        std::io::Write::write_all(&mut file.expect("a file"), key.serialize_pem().as_bytes())
            .expect("a file");
        pair
    }
}

/// A purser with TLS, and those who may and may not use it.
pub struct Guarded {
    pub purser: Purser,
    pub authority: Authority,
    /// The server's own.
    pub server: Pair,
    /// `127.0.0.1:PORT`.
    pub addr: String,
    pub dir: Scratch,
}

impl Guarded {
    /// Starts one without an engine, outside of a swarm.
    pub fn serve(name: &str) -> Guarded {
        Guarded::with_args(name, &["--engine", "none"])
    }

    /// Starts one on all addresses, with these options besides those of TLS.
    pub fn with_args(name: &str, more: &[&str]) -> Guarded {
        let dir = Scratch::new("certificates");
        let authority = Authority::new(&dir, "authority");
        let server = authority.issue("server", &SERVER, LATER);
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("its address").port();
        drop(probe);
        let mut args = vec!["--api-addr".to_owned(), format!("0.0.0.0:{port}")];
        args.extend(options(&server, &authority));
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.extend(more);
        let purser = Purser::with_args(name, &args);
        Guarded { purser, authority, server, addr: format!("127.0.0.1:{port}"), dir }
    }

    /// The options of docker for a client with these.
    pub fn docker_args(&self, pair: &Pair) -> String {
        let (ca, cert, key) =
            (self.authority.file.display(), pair.cert.display(), pair.key.display());
        format!(
            "--tlsverify --tlscacert {ca} --tlscert {cert} --tlskey {key} -H tcp://{}",
            self.addr
        )
    }
}

/// The options of purser for TLS.
pub fn options(server: &Pair, clients: &Authority) -> Vec<String> {
    [("cert", &server.cert), ("key", &server.key), ("ca", &clients.file)]
        .into_iter()
        .flat_map(|(name, path)| [format!("--api-tls-{name}"), path.display().to_string()])
        .collect()
}
