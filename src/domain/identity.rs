//! Who a base is, and what it tells about itself.

use std::{fmt, sync::Arc};

/// A base's identity, as it stands in its topics. Made by the tunnel only from valid ones.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseId(Arc<str>);

impl BaseId {
    /// Wraps an identity that has been checked.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a base tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BaseInfo {
    /// Name of the application (master biz).
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its cluster, where it has one.
    pub cluster: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// Its host's name.
    pub host_name: Option<String>,
    /// The port to which its commands go, where that is over HTTP.
    pub tunnel_port: Option<u16>,
}
