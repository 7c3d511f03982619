//! Attaching: having the local engine join the swarm as the manager's own node, and leave with it.

use serde_json::{Value, json};

use super::Engine;
use super::client::ClientError;
use crate::domain::id::NodeId;

/// What the engine needs for joining.
#[derive(Clone)]
pub struct Invitation {
    /// The node that it is to become.
    pub node: NodeId,
    /// Address and port of the nodes' door.
    pub door: String,
    /// A join token.
    pub token: String,
}

/// The engine cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It cannot be asked, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It is a member of another swarm, which is its user's to end.
    #[error(
        "the engine is already in another swarm; have it leave (docker -H {0} swarm leave) and \
         start again"
    )]
    Elsewhere(String),
    /// It cannot be in any swarm.
    #[error("the engine runs with live-restore, with which it can be in no swarm")]
    LiveRestore,
}

/// Where the engine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// In no swarm.
    Free,
    /// It is the node that it should be.
    Ours,
    /// It was in a swarm of this door that is no more.
    Stale,
    /// In another swarm.
    Elsewhere,
}

impl Engine {
    /// True when the engine is the node that it should be.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn is_attached(&self, node: NodeId, door: &str) -> Result<bool, ClientError> {
        Ok(standing(&self.info().await?, node, door) == Standing::Ours)
    }

    /// Has the engine join, unless it has joined already. A membership that is left over from an
    /// earlier swarm of the same door is given up first.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub async fn attach(&self, invitation: &Invitation) -> Result<(), AttachError> {
        let info = self.info().await?;
        if info.get("LiveRestoreEnabled").and_then(Value::as_bool) == Some(true) {
            return Err(AttachError::LiveRestore);
        }
        match standing(&info, invitation.node, &invitation.door) {
            Standing::Ours => return Ok(()),
            Standing::Elsewhere => {
                let socket = self.client().socket().display();
                return Err(AttachError::Elsewhere(format!("unix://{socket}")));
            }
            Standing::Stale => self.leave().await?,
            Standing::Free => {}
        }
        // The listen address matters to managers only; it has to be one all the same.
        let wish = json!({
            "ListenAddr": "0.0.0.0:2377",
            "RemoteAddrs": [invitation.door],
            "JoinToken": invitation.token,
            "Availability": "active",
        });
        self.client().json("POST", "/swarm/join", Some(&wish)).await?;
        Ok(())
    }

    /// Has the engine leave.
    ///
    /// # Errors
    /// It cannot be asked, or refuses.
    pub async fn leave(&self) -> Result<(), ClientError> {
        self.client().json("POST", "/swarm/leave?force=1", None).await.map(|_| ())
    }

    /// Has the engine leave, if it is the node of this swarm.
    ///
    /// # Errors
    /// It cannot be asked, or refuses.
    pub async fn detach(&self, node: NodeId, door: &str) -> Result<(), ClientError> {
        match standing(&self.info().await?, node, door) {
            Standing::Ours | Standing::Stale => self.leave().await,
            Standing::Free | Standing::Elsewhere => Ok(()),
        }
    }
}

fn standing(info: &Value, node: NodeId, door: &str) -> Standing {
    let swarm = info.get("Swarm");
    let text =
        |key: &str| swarm.and_then(|swarm| swarm.get(key)).and_then(Value::as_str).unwrap_or("");
    if matches!(text("LocalNodeState"), "" | "inactive") {
        return Standing::Free;
    }
    if text("NodeID") == node.as_str() {
        return Standing::Ours;
    }
    let controls = swarm.and_then(|swarm| swarm.get("ControlAvailable")).and_then(Value::as_bool);
    let managers = swarm.and_then(|swarm| swarm.get("RemoteManagers")).and_then(Value::as_array);
    let only_this_door = managers.is_some_and(|managers| {
        managers.iter().all(|manager| manager.get("Addr").and_then(Value::as_str) == Some(door))
    });
    match controls == Some(true) || !only_this_door {
        true => Standing::Elsewhere,
        false => Standing::Stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_never_taken_out_of_a_swarm_that_is_not_ours() {
        let node = NodeId::derive([1; 17]);
        let at = |swarm: Value| standing(&json!({ "Swarm": swarm }), node, "10.0.0.1:2377");
        assert_eq!(at(json!({"LocalNodeState": "inactive"})), Standing::Free);
        let ours = json!({"LocalNodeState": "active", "NodeID": node.as_str()});
        assert_eq!(at(ours), Standing::Ours);
        let stale = json!({"LocalNodeState": "active", "NodeID": "x", "ControlAvailable": false,
            "RemoteManagers": [{"Addr": "10.0.0.1:2377"}]});
        assert_eq!(at(stale), Standing::Stale);
        let worker = json!({"LocalNodeState": "active", "NodeID": "x", "ControlAvailable": false,
            "RemoteManagers": [{"Addr": "10.0.0.9:2377"}]});
        assert_eq!(at(worker), Standing::Elsewhere);
        let manager = json!({"LocalNodeState": "active", "NodeID": "x", "ControlAvailable": true,
            "RemoteManagers": [{"Addr": "10.0.0.1:2377"}]});
        assert_eq!(at(manager), Standing::Elsewhere);
        let locked = json!({"LocalNodeState": "locked", "NodeID": ""});
        assert_eq!(at(locked), Standing::Elsewhere);
    }
}
