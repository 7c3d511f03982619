//! Which actor may submit which intent: nodes and hosts by what they are, clients by a policy of the
//! operator's ([`policy`]).

pub mod policy;
pub mod rights;

use crate::domain::actor::Actor;
use crate::domain::intent::Intent;
use crate::domain::refusal::{Reason, Refusal};

/// Checks that the actor may ask for this.
///
/// # Errors
/// It may not.
pub fn check(actor: &Actor, intent: &Intent) -> Result<(), Refusal> {
    let allowed = match (actor, intent) {
        (Actor::Manager, _) => true,
        (
            Actor::Node(node),
            Intent::RegisterNode { id, .. } | Intent::RenewCertificate { id, .. },
        ) => node == id,
        (Actor::Node(node), Intent::ReportTasks { reports }) => {
            reports.iter().all(|report| report.node == *node)
        }
        (
            Actor::Node(caller),
            Intent::AttachNetwork { node, .. } | Intent::DetachNetwork { node, .. },
        ) => caller == node,
        (Actor::Joiner(_), Intent::AdmitNode { .. }) => true,
        (Actor::Client(_), intent) => is_for_clients(intent),
        (Actor::Node(_) | Actor::Joiner(_), _) => false,
    };
    if allowed {
        return Ok(());
    }
    Err(Refusal::store(Reason::Forbidden, format!("{} is not for this caller", intent.word())))
}

fn is_for_clients(intent: &Intent) -> bool {
    match intent {
        Intent::CreateSecret { .. }
        | Intent::UpdateSecret { .. }
        | Intent::RemoveSecret { .. }
        | Intent::ChooseRevision { .. }
        | Intent::PruneRevisions { .. }
        | Intent::CreateConfig { .. }
        | Intent::UpdateConfig { .. }
        | Intent::RemoveConfig { .. }
        | Intent::CreateService { .. }
        | Intent::UpdateService { .. }
        | Intent::RollBackService { .. }
        | Intent::RemoveService { .. }
        | Intent::CreateNetwork { .. }
        | Intent::RemoveNetwork { .. }
        | Intent::UpdateNode { .. }
        | Intent::RemoveNode { .. }
        | Intent::InitSwarm(_)
        | Intent::UpdateSwarm(_)
        | Intent::OfferUnlockKey(_)
        | Intent::TakeUnlockKey(_)
        | Intent::LeaveSwarm => true,
        Intent::AdmitNode { .. }
        | Intent::RenewCertificate { .. }
        | Intent::RegisterNode { .. }
        | Intent::LoseNodes { .. }
        | Intent::NoteClock { .. }
        | Intent::ForgetSessions
        | Intent::FinishRootRotation
        | Intent::RotateNetworkKeys
        | Intent::ProvideNetworks
        | Intent::ReportTasks { .. }
        | Intent::AttachNetwork { .. }
        | Intent::DetachNetwork { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{NodeId, TaskId};

    #[test]
    fn a_node_speaks_only_for_itself() {
        let (one, other) = (NodeId::derive([1; 17]), NodeId::derive([2; 17]));
        let renew = |id| Intent::RenewCertificate {
            id,
            csr: Vec::new(),
            chain: String::new(),
            not_after: 0,
        };
        let client = Actor::Client(Default::default());
        let joiner = Actor::Joiner(([127, 0, 0, 1], 1).into());
        assert!(check(&Actor::Node(one), &renew(one)).is_ok());
        assert!(check(&Actor::Node(one), &renew(other)).is_err());
        assert!(check(&Actor::Node(one), &Intent::LeaveSwarm).is_err());
        assert!(check(&client, &renew(one)).is_err());
        let detach = |node| Intent::DetachNetwork { id: TaskId::derive([3; 17]), node };
        assert!(check(&Actor::Node(one), &detach(one)).is_ok());
        assert!(check(&Actor::Node(one), &detach(other)).is_err());
        assert!(check(&client, &detach(one)).is_err());
        assert!(check(&joiner, &Intent::LeaveSwarm).is_err());
    }
}
