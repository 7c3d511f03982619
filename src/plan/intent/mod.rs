//! What a request may do: one file a resource, each check in the order in which the Engine makes
//! it, so that a request with several faults is refused for the same one.

mod attachment;
mod config;
mod expansion;
mod grants;
mod network;
mod node;
mod payload;
mod report;
pub(crate) mod revision;
mod root;
mod secret;
mod service;
pub mod service_network;
pub mod service_spec;
mod swarm;
mod value;

pub use root::{is_ready as is_root_ready, under_way as root_rotation_under_way};

use self::value::Sent;
use super::Context;
use crate::domain::change::Change;
use crate::domain::config::ConfigSpec;
use crate::domain::intent::Intent;
use crate::domain::refusal::Refusal;
use crate::domain::revision::Owner;
use crate::domain::secret::SecretSpec;
use crate::domain::view::View;

/// What a request changes.
///
/// # Errors
/// Why it changes nothing.
pub fn decide(view: &View, intent: Intent, ctx: Context<'_>) -> Result<Vec<Change>, Refusal> {
    match intent {
        Intent::CreateSecret { id, spec, payload, payload_len } => {
            secret::create(view, id, spec, payload, payload_len)
        }
        Intent::UpdateSecret { id, version, spec, fingerprint, value } => {
            let SecretSpec { name, labels, .. } = spec;
            let sent = Sent { name, labels, version, fingerprint, value };
            value::update(view, Owner::Secret(id), sent, ctx)
        }
        Intent::RemoveSecret { id } => secret::remove(view, id),
        Intent::CreateConfig { id, spec, payload, payload_len } => {
            config::create(view, id, spec, payload, payload_len)
        }
        Intent::UpdateConfig { id, version, spec, fingerprint, value } => {
            let ConfigSpec { name, labels, .. } = spec;
            let sent = Sent { name, labels, version, fingerprint, value };
            value::update(view, Owner::Config(id), sent, ctx)
        }
        Intent::RemoveConfig { id } => config::remove(view, id),
        Intent::ChooseRevision { owner, version, number } => {
            value::choose(view, owner, (version, number), ctx)
        }
        Intent::PruneRevisions { owner, keep } => value::prune(view, owner, keep, ctx),
        Intent::CreateService { id, spec, registry_auth } => {
            service::create(view, id, spec, registry_auth, ctx)
        }
        Intent::UpdateService { id, version, spec, registry_auth, auth_from } => service::update(
            view,
            id,
            version,
            spec,
            service::Auth { sent: registry_auth, from: auth_from },
            ctx,
        ),
        Intent::RollBackService { id, version, spec, registry_auth, auth_from } => {
            let auth = service::Auth { sent: registry_auth, from: auth_from };
            service::roll_back(view, id, version, spec, auth, ctx)
        }
        Intent::RemoveService { id } => service::remove(view, id),
        Intent::CreateNetwork { id, spec } => network::create(view, id, spec),
        Intent::RemoveNetwork { id } => network::remove(view, id),
        Intent::UpdateNode { id, version, spec } => node::update(view, id, version, spec),
        Intent::RemoveNode { id, force } => node::remove(view, id, force, ctx),
        Intent::InitSwarm(new) => swarm::init(view, *new, ctx),
        Intent::UpdateSwarm(update) => swarm::update(view, *update),
        Intent::NoteClock { id, message } => Ok(node::note_clock(view, id, message)),
        Intent::FinishRootRotation => Ok(root::finish(view)),
        Intent::OfferUnlockKey(key) => swarm::offer_unlock_key(view, key),
        Intent::TakeUnlockKey(key) => swarm::take_unlock_key(view, &key),
        Intent::LeaveSwarm => swarm::leave(view),
        Intent::RotateNetworkKeys => Ok(swarm::rotate_network_keys(view, ctx)),
        Intent::AdmitNode { id, csr, chain, not_after, availability } => {
            node::admit(view, id, node::issued(view, csr, chain, not_after)?, availability)
        }
        Intent::RenewCertificate { id, csr, chain, not_after } => {
            node::renew(view, id, node::issued(view, csr, chain, not_after)?)
        }
        Intent::RegisterNode { id, description, addr, is_fresh } => {
            let mut changes = node::register(view, id, *description, addr)?;
            if is_fresh {
                changes.extend(node::give_up_unstarted(view, id, ctx));
            }
            Ok(changes)
        }
        Intent::LoseNodes { nodes } => Ok(node::lose(view, nodes, ctx)),
        Intent::ForgetSessions => Ok(node::forget_sessions(view, ctx)),
        Intent::ProvideNetworks => network::provide(view, ctx),
        Intent::ReportTasks { reports } => Ok(report::tasks(view, reports)),
        Intent::AttachNetwork { id, node, wish } => attachment::attach(view, id, node, wish, ctx),
        Intent::DetachNetwork { id, node } => attachment::detach(view, id, node),
    }
}
