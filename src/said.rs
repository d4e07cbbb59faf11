//! What was said of an outage: each cause once, however often it comes, and in whatever order.

use std::collections::BTreeSet;

/// So many causes of one outage are told apart; after that only the metrics tell.
const MOST: usize = 16;
/// Characters by which causes are told apart.
const LENGTH: usize = 500;

/// Causes of the present outage.
#[derive(Debug, Default)]
pub struct Said(BTreeSet<String>);

impl Said {
    /// Whether this was not said yet; now it is.
    pub fn is_new(&mut self, cause: &str) -> bool {
        self.0.len() < MOST && self.0.insert(without_long_numbers(cause))
    }

    /// The outage is over. Returns whether there was one.
    pub fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

/// Times, ports and versions of objects change from try to try, and make no other cause.
fn without_long_numbers(cause: &str) -> String {
    let mut out = String::new();
    let mut number = String::new();
    for c in cause.chars().take(LENGTH).chain([' ']) {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        out.push_str(if number.len() > 3 { "#" } else { &number });
        number.clear();
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_new_once_in_whatever_order_they_come() {
        let mut said = Said::default();
        let causes = ["refused", "no such name", "refused", "expired", "no such name", "refused", "expired"];
        let told: Vec<_> = causes.into_iter().filter(|cause| said.is_new(cause)).collect();
        assert_eq!(told, ["refused", "no such name", "expired"]);
        assert!(said.clear() && !said.clear());
        assert!(said.is_new("refused"), "of the next outage");
    }

    #[test]
    fn numbers_that_change_from_try_to_try_make_no_other_cause() {
        let mut said = Said::default();
        assert!(said.is_new("127.0.0.1:41234: too old resource version: 1234567 (1234999)"));
        assert!(!said.is_new("127.0.0.1:51235: too old resource version: 2234567 (2234999)"));
        assert!(said.is_new("forbidden (403)") && said.is_new("not found (404)"));
    }

    #[test]
    fn causes_without_end_are_told_up_to_a_bound() {
        let mut said = Said::default();
        let told = (0..1000).filter(|n| said.is_new(&format!("cause {n} {}", "x".repeat(100_000)))).count();
        assert_eq!(told, MOST);
        assert!(said.0.iter().all(|cause| cause.chars().count() <= LENGTH + 1));
    }
}
