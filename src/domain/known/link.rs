//! What is known about the link to a base: whose silence a silence is, and what it bears.

use std::time::Instant;

/// The link, as the tunnel and the engine see it. Nobody is given up over a link that may itself be the silent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// When something last arrived over it. None: there is no connection.
    pub proven: Option<Instant>,
    /// Most bases fell silent at once, so we suspect ourselves: nobody is given up, all are asked on.
    pub suspected: bool,
    /// So many commands a base can be at work on and still answer a question.
    pub commands_at_a_time: usize,
    /// A command that is lost is told of, so a question that stays open says nothing about it.
    pub loss_is_told: bool,
    /// A version that has started can be switched to; else it is installed anew in the place of the others.
    pub offers_switch: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            proven: None,
            suspected: false,
            commands_at_a_time: usize::MAX,
            loss_is_told: false,
            offers_switch: false,
        }
    }
}
