//! What is known: of each base, of its Node, and of the Pods on it.

mod base;
mod failures;
mod index;
mod node;
mod pod;
mod registration;
mod template;

pub(super) use base::BaseState;
pub(super) use failures::{Failure, Failures, OUT_OF_PODS};
pub(super) use index::PodIndex;
pub(super) use node::NodeWrite;
pub(super) use pod::{PodState, Reported, Waits};
pub(super) use template::{Template, is_required};

#[cfg(test)]
mod tests {
    use super::*;

    /// There are thousands of both. An object of the API with all its fields is larger than the bound.
    #[test]
    fn a_base_and_a_pod_take_no_more_room_than_they_need() {
        let of = [size_of::<BaseState>(), size_of::<PodState>()];
        assert!(of[0] <= 1_900, "a base: {} bytes", of[0]);
        assert!(of[1] <= 780, "a Pod: {} bytes", of[1]);
        assert!(size_of::<k8s_openapi::api::core::v1::Pod>() > 750);
    }
}
