//! Why a request is not done: the one vocabulary of refusals, free of any transport.
//!
//! The HTTP door and the nodes' door each turn a refusal into their own status in one function.

/// A request that changes nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind.
    pub reason: Reason,
    /// Whether the Engine raises it in front of its store or inside it; the latter carry a prefix
    /// in the API's texts.
    pub layer: Layer,
    /// The text for the client, in the words of the Engine API where it has some.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The request is wrong in itself.
    Invalid,
    /// The request does not fit the state of things.
    Precondition,
    /// What it names does not exist.
    NotFound,
    /// The name is taken.
    Taken,
    /// The state of things conflicts with it.
    Conflict,
    /// The actor may not.
    Forbidden,
    /// Who asks has not shown who it is.
    Unauthenticated,
    /// Not built, or not possible.
    Unsupported,
    /// Not now.
    Unavailable,
    /// Larger than a stated limit, or nothing is left to give.
    Exhausted,
    /// Everything else, a stale version among it.
    Unknown,
}

/// Where the Engine raises a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// In front of the store: the text stands alone.
    Front,
    /// In the store: the text follows `rpc error: code = … desc = `.
    Store,
}

impl Refusal {
    /// A refusal in front of the store.
    pub fn front(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, layer: Layer::Front, message: message.into() }
    }

    /// A refusal of the store.
    pub fn store(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, layer: Layer::Store, message: message.into() }
    }

    /// The request is wrong in itself, by the rules of the store.
    pub fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::store(Reason::Invalid, message)
    }

    /// Nothing has this id, name or prefix.
    pub fn not_found(kind: &str, wanted: &str) -> Refusal {
        Refusal::front(Reason::NotFound, format!("{kind} {wanted} not found"))
    }

    /// The version given is not the stored one.
    pub fn out_of_sequence() -> Refusal {
        Refusal::store(Reason::Unknown, "update out of sequence")
    }

    /// The node is in a swarm already, and can be in one only.
    pub fn in_a_swarm() -> Refusal {
        Refusal::front(
            Reason::Unavailable,
            "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm \
             and join another one.",
        )
    }

    /// The swarm is locked: its store cannot be read before a user gives the key.
    pub fn locked() -> Refusal {
        Refusal::front(
            Reason::Unavailable,
            "Swarm is encrypted and needs to be unlocked before it can be used. Please use \
             \"docker swarm unlock\" to unlock it.",
        )
    }

    /// The node is in no swarm.
    pub fn no_swarm() -> Refusal {
        Refusal::front(
            Reason::Unavailable,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
             to connect this node to swarm and try again.",
        )
    }
}
