//! What is known about the link to the broker: whose silence a silence is.

use std::time::Instant;

/// The link, as the tunnel and the engine see it. Nobody is given up over a link that may itself be the silent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// When something last arrived from the broker on the present connection. None: there is no connection.
    pub proven: Option<Instant>,
    /// Most bases fell silent at once, so we suspect ourselves: nobody is given up, all are asked on.
    pub suspected: bool,
}
