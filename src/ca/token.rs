//! Join tokens: `SWMTKN-1-<digest of the root, 50 digits>-<secret, 25 digits>`, base 36.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::domain::cluster::{Cluster, JoinSecrets, JoinTokens};
use crate::domain::id::{Entropy, Stream, base36};
use crate::domain::node::NodeRole;

const PREFIX: &str = "SWMTKN-1-";
const DIGEST_DIGITS: usize = 50;
const SECRET_DIGITS: usize = 25;
/// Random bytes of a token's secret.
const SECRET_LEN: usize = 16;

/// Draws the secret part of a token.
pub fn make_secret(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; SECRET_LEN];
    entropy.fill(Stream::Key, &mut bytes);
    digits(&bytes, SECRET_DIGITS)
}

/// Draws the secret parts of both tokens.
pub fn make_secrets(entropy: &dyn Entropy) -> JoinSecrets {
    JoinSecrets { worker: make_secret(entropy), manager: make_secret(entropy) }
}

/// The token with this secret for joining a cluster with this root. The digest is over exactly the
/// bytes that a joining host will be given.
pub fn format_token(root_pem: &str, secret: &str) -> String {
    let digest = digits(&Sha256::digest(root_pem.as_bytes()), DIGEST_DIGITS);
    format!("{PREFIX}{digest}-{secret}")
}

/// Both tokens of a cluster.
pub fn tokens(cluster: &Cluster) -> JoinTokens {
    JoinTokens {
        worker: format_token(&cluster.root_ca, &cluster.join_secrets.worker),
        manager: format_token(&cluster.root_ca, &cluster.join_secrets.manager),
    }
}

/// The role that a token invites to; `None` for a token that is not this cluster's. Takes the same
/// time for any token.
pub fn role_of(cluster: &Cluster, token: &str) -> Option<NodeRole> {
    let tokens = tokens(cluster);
    let is_worker = token.as_bytes().ct_eq(tokens.worker.as_bytes());
    let is_manager = token.as_bytes().ct_eq(tokens.manager.as_bytes());
    match (bool::from(is_worker), bool::from(is_manager)) {
        (true, _) => Some(NodeRole::Worker),
        (_, true) => Some(NodeRole::Manager),
        _ => None,
    }
}

fn digits(bytes: &[u8], count: usize) -> String {
    let mut text = vec![0; count];
    base36(bytes, &mut text);
    String::from_utf8(text).expect("base-36 digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_lengths_that_engines_check() {
        let token = format_token("root\n", &"0".repeat(SECRET_DIGITS));
        let parts: Vec<&str> = token.split('-').collect();
        assert_eq!(parts[..2], ["SWMTKN", "1"]);
        assert_eq!(parts[2].len(), DIGEST_DIGITS);
        assert_eq!(parts[3].len(), SECRET_DIGITS);
    }

    const EXPECTED: &str =
        "SWMTKN-1-22jyp2hzoj7mkvyfoolduv30v8slh75qgw0oltki1ev2ksr3iy-f5lxx1zz5pnorynqglhzmsp33";

    struct Same(u8);
    impl Entropy for Same {
        fn fill(&self, _: Stream, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    #[test]
    fn tokens_are_numbers_in_base_36() {
        // Worked out with another program; hosts that were invited with such a token still join.
        let token = format_token("root\n", &make_secret(&Same(0xff)));
        assert_eq!(token, EXPECTED);
        assert_eq!(make_secret(&Same(0)), "0".repeat(SECRET_DIGITS), "padded");
    }

    #[test]
    fn only_whole_tokens_of_this_cluster_have_a_role() {
        let mut cluster = cluster();
        let JoinTokens { worker, manager } = tokens(&cluster);
        assert_eq!(role_of(&cluster, &worker), Some(NodeRole::Worker));
        assert_eq!(role_of(&cluster, &manager), Some(NodeRole::Manager));
        for wrong in ["", "SWMTKN-1-", &worker[1..], &worker[..84], &worker.to_uppercase()] {
            assert_eq!(role_of(&cluster, wrong), None, "{wrong}");
        }
        cluster.root_ca.push('\n');
        assert_eq!(role_of(&cluster, &worker), None, "the digest is of another root");
    }

    fn cluster() -> Cluster {
        let id = crate::domain::id::ClusterId::derive([1; 17]);
        Cluster {
            id,
            meta: Default::default(),
            spec: Default::default(),
            root_ca: "root\n".into(),
            tls_info: Default::default(),
            join_secrets: JoinSecrets {
                worker: make_secret(&Same(1)),
                manager: make_secret(&Same(2)),
            },
            manager: crate::domain::id::NodeId::derive([1; 17]),
            listen_addr: "0.0.0.0:2377".into(),
            advertise_addr: "10.0.0.1:2377".into(),
            default_addr_pool: Vec::new(),
            subnet_size: 24,
            data_path_port: 4789,
            network_keys: None,
            root_rotation: None,
            cross_signed: String::new(),
            autolock: Default::default(),
            barred: Default::default(),
        }
    }
}
