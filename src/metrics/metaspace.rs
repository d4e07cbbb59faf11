//! How much metaspace bases use.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::to_i64;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Base {
    base: String,
}

/// The metaspace of one base that has a limit for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BaseMetaspace {
    /// Bytes that are used.
    pub used: u64,
    /// The limit.
    pub max: u64,
    /// Classes that are loaded.
    pub classes: Option<u64>,
    /// Bytes that the last module left behind that went.
    pub left_behind: Option<u64>,
}

/// What there is to say of metaspace.
#[derive(Debug, Default)]
pub struct Metaspaces {
    low: Gauge,
    fullest: Gauge<f64, AtomicU64>,
    used: Family<Base, Gauge>,
    max: Family<Base, Gauge>,
    classes: Family<Base, Gauge>,
    left_behind: Family<Base, Gauge>,
}

impl Metaspaces {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("bases_metaspace_low", "Bases whose metaspace is nearly used up", all.low.clone());
        registry.register(
            "fullest_metaspace_ratio",
            "How much of its metaspace the base uses that has the least left",
            all.fullest.clone(),
        );
        for (name, help, family) in [
            ("base_metaspace_used", "Metaspace that a base uses", &all.used),
            ("base_metaspace_max", "The limit of a base's metaspace", &all.max),
            ("base_metaspace_left_behind", "Metaspace that the last module left behind that went", &all.left_behind),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, family.clone());
        }
        registry.register("base_loaded_classes", "Classes that a base has loaded", all.classes.clone());
        all
    }

    /// How many bases have little left, and how much of its metaspace the fullest one uses.
    pub fn set(&self, low: usize, fullest: f64) {
        self.low.set(to_i64(low));
        self.fullest.set(fullest);
    }

    /// What one base uses; none: it has no limit, or is not known any more.
    pub fn set_base(&self, base: &str, metaspace: Option<BaseMetaspace>) {
        let label = Base { base: base.to_owned() };
        let (used, max) = (metaspace.map(|m| m.used), metaspace.map(|m| m.max));
        let (classes, left_behind) = (metaspace.and_then(|m| m.classes), metaspace.and_then(|m| m.left_behind));
        for (family, value) in
            [(&self.used, used), (&self.max, max), (&self.classes, classes), (&self.left_behind, left_behind)]
        {
            match value {
                Some(value) => {
                    family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
                }
                None => {
                    family.remove(&label);
                }
            }
        }
    }
}
