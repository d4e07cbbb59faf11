//! Topics: `koupleless_{env}/{identity}/…`, and which identities can become Nodes.

use crate::domain::{BaseId, Command};

/// Kind of a message from a base: the last level of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sign of life with metadata.
    Heart,
    /// Answer to `health`.
    Health,
    /// Answer to `queryAllBiz`.
    SimpleBiz,
    /// The same of bases up to 2.1.6.
    Biz,
    /// Answer to `installBiz` and `uninstallBiz`.
    BizOperation,
    /// Answer to a baseline.
    BatchInstallBizResponse,
    /// The question for the baseline.
    QueryBaseline,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Heart,
        Self::Health,
        Self::SimpleBiz,
        Self::Biz,
        Self::BizOperation,
        Self::BatchInstallBizResponse,
        Self::QueryBaseline,
    ];

    /// The level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heart => "heart",
            Self::Health => "health",
            Self::SimpleBiz => "simpleBiz",
            Self::Biz => "biz",
            Self::BizOperation => "bizOperation",
            Self::BatchInstallBizResponse => "batchInstallBizResponse",
            Self::QueryBaseline => "queryBaseline",
        }
    }
}

/// Why an identity can't become a Node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No identity at all.
    #[error("the identity is empty")]
    Empty,
    /// It has levels of its own, so its commands and answers can't be told from others'.
    #[error("the identity {0:?} has a slash in it")]
    Slash(String),
    /// Not a DNS-1123 subdomain as a part of the Node's name.
    #[error(
        "the identity {0:?} can't be part of a Node's name: use lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
    )]
    NotDns(String),
    /// The Node's name is also a label's value.
    #[error(
        "the identity {0:?} makes a Node name of more than 63 characters, too long for the label kubernetes.io/hostname"
    )]
    TooLong(String),
}

/// The topics of one environment.
#[derive(Clone, Debug)]
pub struct Topics {
    env: String,
    root: String,
}

impl Topics {
    /// Topics of an environment; its name is in lower case in them (protocol fact).
    pub fn new(env: &str) -> Self {
        let env = env.to_lowercase();
        let root = format!("koupleless_{env}");
        Self { env, root }
    }

    /// The filters to subscribe to. One for each kind, so that our own commands to
    /// `{identity}/base/baseline` are not echoed to us; and two that only serve to warn of
    /// identities with slashes.
    pub fn filters(&self) -> Vec<String> {
        let mut filters = self.needed();
        filters.push(format!("{}/+/+/base/heart", self.root));
        filters.push(format!("{}/+/+/+/base/heart", self.root));
        filters
    }

    /// Those without which bases are not heard.
    pub fn needed(&self) -> Vec<String> {
        Kind::ALL.iter().map(|k| format!("{}/+/base/{}", self.root, k.as_str())).collect()
    }

    /// The topics of all commands to a base, or to all bases with `+`.
    pub fn commands_to(&self, identity: &str) -> Vec<String> {
        let below = ["installBiz", "uninstallBiz", "queryAllBiz", "health", "base/baseline"];
        below.iter().map(|below| format!("{}/{identity}/{below}", self.root)).collect()
    }

    /// Splits a topic into identity and kind; none if it is no topic of a base.
    pub fn parse<'t>(&self, topic: &'t str) -> Option<(&'t str, Kind)> {
        let rest = topic.strip_prefix(&self.root)?.strip_prefix('/')?;
        let (rest, last) = rest.rsplit_once('/')?;
        let identity = rest.strip_suffix("/base")?;
        let kind = Kind::ALL.into_iter().find(|k| k.as_str() == last)?;
        Some((identity, kind))
    }

    /// The topic a command goes to.
    pub fn command(&self, base: &BaseId, command: &Command) -> String {
        let below = match command {
            Command::Baseline(_) => "base/baseline",
            other => other.name(),
        };
        format!("{}/{base}/{below}", self.root)
    }

    /// Name of the base's Node.
    pub fn node_name(&self, base: &BaseId) -> String {
        format!("vnode.{base}.{}", self.env)
    }

    /// The base of a Node name of this environment.
    pub fn base_of(&self, node: &str) -> Option<BaseId> {
        let id = node.strip_prefix("vnode.")?.strip_suffix(&self.env)?.strip_suffix('.')?;
        self.base(id).ok()
    }

    /// Checks that an identity can make a Node.
    pub fn base(&self, identity: &str) -> Result<BaseId, IdentityError> {
        if identity.is_empty() {
            return Err(IdentityError::Empty);
        }
        if identity.contains('/') {
            return Err(IdentityError::Slash(shorten(identity)));
        }
        let label_ok = |part: &str| {
            let bytes = part.as_bytes();
            let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            bytes.first().is_some_and(alnum)
                && bytes.last().is_some_and(alnum)
                && bytes.iter().all(|b| alnum(b) || *b == b'-')
        };
        if !identity.split('.').all(label_ok) {
            return Err(IdentityError::NotDns(shorten(identity)));
        }
        if "vnode..".len() + identity.len() + self.env.len() > 63 {
            return Err(IdentityError::TooLong(shorten(identity)));
        }
        Ok(BaseId::new(identity))
    }

    /// The environment, in lower case.
    pub fn env(&self) -> &str {
        &self.env
    }
}

fn shorten(identity: &str) -> String {
    identity.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_bases_are_told_from_everything_else() {
        let topics = Topics::new("DEV");
        let parsed = |t: &'static str| topics.parse(t);
        assert_eq!(parsed("koupleless_dev/base-1/base/heart"), Some(("base-1", Kind::Heart)));
        assert_eq!(parsed("koupleless_dev/base/base/health"), Some(("base", Kind::Health)));
        assert_eq!(parsed("koupleless_dev/group/base-1/base/heart"), Some(("group/base-1", Kind::Heart)));
        assert_eq!(parsed("koupleless_dev//base/heart"), Some(("", Kind::Heart)));
        for other in [
            "koupleless_dev/base-1/health",
            "koupleless_dev/base/health",
            "koupleless_dev/base-1/base/baseline",
            "koupleless_dev/base-1/base/heart/more",
            "koupleless_test/base-1/base/heart",
            "koupleless_dev",
            "",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn identities_that_make_no_node_name_are_refused() {
        let topics = Topics::new("dev");
        for good in ["base-1", "a", "10.0.0.1", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "base"] {
            let id = topics.base(good).unwrap();
            assert_eq!(topics.base_of(&topics.node_name(&id)), Some(id), "{good}");
        }
        assert_eq!(topics.base(""), Err(IdentityError::Empty));
        assert!(matches!(topics.base("group/base-1"), Err(IdentityError::Slash(_))));
        for bad in ["Base-1", "base_1", "a..b", ".a", "a.", "-a", "a-", "a b", "ä", "+", "#", "a:b", "a@b", "%"] {
            assert!(matches!(topics.base(bad), Err(IdentityError::NotDns(_))), "{bad}");
        }
        assert!(topics.base(&"a".repeat(53)).is_ok());
        assert!(matches!(topics.base(&"a".repeat(54)), Err(IdentityError::TooLong(_))));
    }
}
