//! Pictures of bases for people who look, see [`crate::picture`].

use std::time::Instant;

use super::state::State;
use crate::{
    domain::BaseId,
    picture::{BasePicture, Wait},
};

/// When somebody begins to look, so many are taken at each turn: that turn is not held up.
const AT_EACH_TURN: usize = 250;

impl State {
    /// Takes the pictures that are missing, or lets all go when nobody looks.
    pub(super) fn take_pictures(&mut self, now: Instant) {
        if !self.pictures.are_wanted(now) {
            if self.untaken_pictures.take().is_some() {
                self.pictures.drop_all();
            }
            return;
        }
        let bases = &self.bases;
        let untaken = self.untaken_pictures.get_or_insert_with(|| bases.keys().cloned().collect());
        let some = untaken.split_off(untaken.len().saturating_sub(AT_EACH_TURN));
        let all = untaken.is_empty();
        some.iter().for_each(|id| self.take_picture(id, now));
        self.pictures.taken(all);
    }

    /// Shows the base as it is now.
    pub(super) fn take_picture(&self, id: &BaseId, now: Instant) {
        let Some(state) = self.bases.get(id) else { return self.pictures.forget(id) };
        let mut waiting = Vec::new();
        for pod in self.pods_of(id) {
            // What is being written is newer than what the watch showed.
            let shown = || pod.shown()?.status.map(Box::new);
            let status = pod.object.writing().cloned().or_else(shown);
            for container in status.iter().flat_map(|status| status.container_statuses.iter().flatten()) {
                let Some(wait) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else { continue };
                waiting.push(Wait {
                    pod: pod.pod.name.clone(),
                    container: container.name.clone(),
                    reason: wait.reason.clone(),
                    message: wait.message.clone(),
                });
            }
        }
        let picture = BasePicture {
            node: state.node.name.clone(),
            info: state.base.info.clone(),
            reachability: state.base.reachability(now),
            reachability_since: state.reachability_since,
            view: state.base.view(),
            metaspace: state.metaspace(),
            recorded: state.is_recorded(),
            waiting,
        };
        self.pictures.show(id, picture);
    }
}
