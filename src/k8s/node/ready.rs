//! Whether a base's Node is Ready, and what Nodes say of it.

use k8s_openapi::api::core::v1::Node;

use crate::domain::Reachability;

/// Reason of the Ready condition where a base said that it goes away.
const STOPPED: &str = "BaseStopped";

/// The Ready condition of a Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// True, False or Unknown.
    pub status: &'static str,
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people.
    pub message: &'static str,
}

impl Ready {
    /// What reachability means for the Node; none while it is not known.
    pub fn from(reachability: Reachability) -> Option<Self> {
        Some(match reachability {
            Reachability::Unknown => return None,
            Reachability::Online => Self { status: "True", reason: "BaseReady", message: "the base answers" },
            Reachability::Stopped => {
                Self { status: "False", reason: STOPPED, message: "the base said that it goes away" }
            }
            Reachability::Unreachable | Reachability::Dead => {
                Self { status: "Unknown", reason: "BaseUnreachable", message: "the base does not answer" }
            }
        })
    }
}

/// Whether the Node says that its base went away by its own word.
pub fn node_says_stopped(node: &Node) -> bool {
    let conditions = node.status.iter().filter_map(|s| s.conditions.as_ref()).flatten();
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.reason.as_deref() == Some(STOPPED))
}

/// Whether the Node's Ready condition is True.
pub fn node_says_ready(node: &Node) -> bool {
    let conditions = node.status.iter().filter_map(|s| s.conditions.as_ref()).flatten();
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
