//! Whose turn is next.

use std::collections::{BTreeMap, HashSet, VecDeque};

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};

use super::facts::{BaseFacts, RolloutFacts};
use crate::{domain::BaseId, k8s::selects};

/// How many of so many a number or a per cent is.
pub(super) fn size_of(replicas: &IntOrString, total: usize) -> usize {
    match replicas {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0).min(total),
        IntOrString::String(text) => {
            let per_cent: usize = text.trim_end_matches('%').parse().unwrap_or(100);
            total.saturating_mul(per_cent).div_ceil(100).min(total)
        }
    }
}

/// Bases in the order of their turns: those that joined, then in turn over clusters, then by name. The order is of all
/// of them, so that it is the same whichever have had their turn.
pub(super) fn in_order<'b>(bases: &[&'b BaseFacts<'b>], joined: &HashSet<&BaseId>) -> Vec<&'b BaseFacts<'b>> {
    let mut by_cluster = BTreeMap::<_, VecDeque<&BaseFacts<'_>>>::new();
    let mut sorted = bases.to_vec();
    sorted.sort_by_key(|base| base.base);
    let (mut order, others): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|base| joined.contains(base.base));
    for base in others {
        by_cluster.entry(base.cluster).or_default().push_back(base);
    }
    while !by_cluster.is_empty() {
        by_cluster.values_mut().for_each(|bases| order.extend(bases.pop_front()));
        by_cluster.retain(|_, bases| !bases.is_empty());
    }
    order
}

/// Whether a base's Node has the labels that a step asks for.
pub(super) fn is_selected(selector: Option<&LabelSelector>, base: &BaseId, facts: &RolloutFacts<'_>) -> bool {
    selector.is_none_or(|selector| selects(selector, &(facts.labels_of)(base)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_the_clusters_and_joined_bases_come_first() {
        let ids: Vec<_> = ["e", "d", "c", "b", "a"].iter().map(|id| BaseId::new(*id)).collect();
        let clusters = [None, Some("x"), Some("x"), Some("y"), Some("x")];
        let facts: Vec<_> = ids
            .iter()
            .zip(clusters)
            .map(|(base, cluster)| BaseFacts {
                base,
                node: base.as_str(),
                cluster,
                reachable: true,
                pods: Vec::new(),
                going: Vec::new(),
            })
            .collect();
        let all: Vec<_> = facts.iter().collect();
        let names = |joined: &HashSet<&BaseId>| -> String { in_order(&all, joined).iter().map(|b| b.node).collect() };
        assert_eq!(names(&HashSet::new()), "eabcd");
        assert_eq!(names(&HashSet::from([&ids[1]])), "deabc");
    }

    #[test]
    fn per_cents_are_rounded_up_and_nothing_is_more_than_all() {
        let per_cent = |text: &str| IntOrString::String(text.to_owned());
        for (said, of, size) in [
            (IntOrString::Int(1), 30, 1),
            (IntOrString::Int(40), 30, 30),
            (per_cent("20%"), 30, 6),
            (per_cent("20%"), 31, 7),
            (per_cent("1%"), 3, 1),
            (per_cent("100%"), 31, 31),
            (per_cent("50%"), 0, 0),
        ] {
            assert_eq!(size_of(&said, of), size, "{said:?} of {of}");
        }
    }
}
