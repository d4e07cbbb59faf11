//! Batches in the words of the generation before, as steps.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::spec::{Batches, ModuleRolloutSpec, Pause, Step};

impl ModuleRolloutSpec {
    /// The steps, however they were said. There is at least one, and the last one is for all bases.
    pub fn planned_steps(&self) -> Vec<Step> {
        let said = self.steps.clone().or_else(|| self.batches.map(Batches::steps));
        let said = said.filter(|steps| !steps.is_empty());
        said.unwrap_or_else(|| vec![Step { replicas: percent(100), selector: None, pause: None }])
    }
}

fn percent(of_hundred: u32) -> IntOrString {
    IntOrString::String(format!("{of_hundred}%"))
}

impl Batches {
    /// The steps that these batches are.
    ///
    /// Per cents are rounded down here, since the bases that they are of are rounded up: thirds of 30 are 10 each.
    pub fn steps(self) -> Vec<Step> {
        let count = self.count.clamp(1, 100);
        let beta = self.beta && count > 1;
        let even = if beta { count.saturating_sub(1) } else { count };
        let between = match (self.confirm, self.gray_seconds) {
            (true, _) => Some(Pause::default()),
            (false, 0) => None,
            (false, seconds) => Some(Pause { duration_seconds: Some(seconds) }),
        };
        let first = Step { replicas: IntOrString::Int(1), selector: None, pause: Some(Pause::default()) };
        let others = (1..=even).map(|number| Step {
            replicas: percent(number.saturating_mul(100).checked_div(even).unwrap_or(100)),
            selector: None,
            pause: between.filter(|_| number < even),
        });
        beta.then_some(first).into_iter().chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(count: u32) -> Batches {
        Batches { count, beta: false, confirm: false, gray_seconds: 0 }
    }

    /// As a person would write them: `1 (confirm), 50% (60 s), 100%`.
    fn written(batches: Batches) -> String {
        let one = |step: &Step| {
            let replicas = match &step.replicas {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(text) => text.clone(),
            };
            match step.pause.map(|pause| pause.duration_seconds) {
                None => replicas,
                Some(None) => format!("{replicas} (confirm)"),
                Some(Some(seconds)) => format!("{replicas} ({seconds} s)"),
            }
        };
        batches.steps().iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn batches_are_steps_of_about_the_same_size() {
        let with = batches;
        for (batches, steps) in [
            (with(1), "100%"),
            (with(3), "33%, 66%, 100%"),
            (Batches { gray_seconds: 60, ..with(4) }, "25% (60 s), 50% (60 s), 75% (60 s), 100%"),
            (Batches { confirm: true, ..with(2) }, "50% (confirm), 100%"),
            // A person is asked, or a time passes: not both.
            (Batches { confirm: true, gray_seconds: 60, ..with(2) }, "50% (confirm), 100%"),
            // After the beta somebody has to confirm, whatever comes between the others.
            (Batches { beta: true, gray_seconds: 60, ..with(3) }, "1 (confirm), 50% (60 s), 100%"),
            (Batches { beta: true, ..with(2) }, "1 (confirm), 100%"),
            // Refused by the CRD; a status from before the rule must not end a process.
            (Batches { beta: true, ..with(1) }, "100%"),
            (with(0), "100%"),
        ] {
            assert_eq!(written(batches), steps, "{batches:?}");
        }
    }

    #[test]
    fn each_of_a_hundred_batches_rises_and_the_last_one_is_for_all() {
        for count in 1..=100 {
            let per_cents: Vec<u32> = batches(count)
                .steps()
                .iter()
                .map(|step| match &step.replicas {
                    IntOrString::String(text) => text.trim_end_matches('%').parse().unwrap(),
                    IntOrString::Int(number) => panic!("{number}"),
                })
                .collect();
            assert_eq!(per_cents.len(), usize::try_from(count).unwrap());
            assert!(per_cents[0] > 0 && per_cents.is_sorted_by(|a, b| a < b), "{per_cents:?}");
            assert_eq!(per_cents.last(), Some(&100));
        }
    }
}
